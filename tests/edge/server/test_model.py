"""Lines 32 and 33 of what clients depend on, and the other endpoints that tell of the model and the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.edge.server.running import CHAT, HELLO, TEXT, Served, ask, error_of, samples, stream
from tests.edge.server.saying import saying


def test_32_the_list_of_models(served: Served, client: httpx.Client, sdk: openai.OpenAI) -> None:
    answer = client.get("/v1/models").json()
    assert answer["object"] == "list"
    (model,) = answer["data"]
    assert model["object"] == "model" and model["id"] == served.serving.name
    assert isinstance(model["created"], int) and model["owned_by"]
    assert model["n_ctx"] == served.engine.ctx and model["quant"] == "Q8_0"
    assert str(served.engine.model.path.parent) not in json.dumps(answer), "no path"
    assert client.get("/v1/models").json() == answer, "stable"
    assert [one.id for one in sdk.models.list()] == [served.serving.name]
    assert sdk.models.retrieve(served.serving.name).id == served.serving.name
    assert client.get(f"/v1/models/{served.serving.name}").json() == model


def test_32_a_model_that_is_not_served(client: httpx.Client, sdk: openai.OpenAI) -> None:
    error = error_of(client.get("/v1/models/org/other"), 404)
    assert error["code"] == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        sdk.models.retrieve("gpt-3.5-turbo")


def test_32_models_are_listed_while_one_answers(served: Served, client: httpx.Client) -> None:
    with (
        saying(served.engine, "hello", pause=None),
        client.stream("POST", CHAT, json={"messages": HELLO, "stream": True}),
        served.client() as other,
    ):
        assert other.get("/v1/models").json()["data"] and other.get("/health").json()["busy"] == 1


def test_33_the_real_name_is_told(served: Served, client: httpx.Client) -> None:
    for path, body in ((CHAT, {"messages": HELLO}), (TEXT, {"prompt": "The"}), ("/v1/embeddings", {"input": "x"})):
        for name in ({"model": "gpt-3.5-turbo"}, {"model": ""}, {}):
            assert ask(client, body | name, path)["model"] == served.serving.name


def test_health(client: httpx.Client) -> None:
    for path in ("/health", "/v1/health"):
        assert client.get(path).json() == {"status": "ok", "slots": 4, "busy": 0}


# --- the tokenizer


@pytest.mark.parametrize("text", ["Where is the lift?", "你好，世界 😀", "", "a\n b"])
def test_tokens_and_back(served: Served, client: httpx.Client, text: str) -> None:
    tokens = ask(client, {"content": text}, "/tokenize")["tokens"]
    assert tokens == served.engine.model.tokenize(text)
    assert ask(client, {"tokens": tokens}, "/detokenize")["content"] == text
    pieces = ask(client, {"content": text, "with_pieces": True}, "/tokenize")["tokens"]
    assert [one["id"] for one in pieces] == tokens


def test_control_texts_are_tokens_where_wanted(served: Served, client: httpx.Client) -> None:
    for text in served.engine.model.control_texts:
        (token,) = ask(client, {"content": text}, "/tokenize")["tokens"]
        assert ask(client, {"tokens": [token]}, "/detokenize")["content"] == text
        plain = ask(client, {"content": text, "parse_special": False}, "/tokenize")["tokens"]
        assert token not in plain


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "content"),
        ("/tokenize", {"content": 5}, "content"),
        ("/tokenize", {"content": "x", "more": 1}, "more"),
        ("/detokenize", {"tokens": [99999999]}, "tokens"),
        ("/detokenize", {"tokens": [2**70]}, "tokens"),
        ("/detokenize", {"tokens": ["x"]}, "tokens.0"),
        ("/apply-template", {"messages": []}, "messages"),
        ("/apply-template", {"messages": HELLO, "chat_template_kwargs": {"tools": []}}, "chat_template_kwargs"),
        (
            "/apply-template",
            {"messages": HELLO, "chat_template_kwargs": {"add_generation_prompt": False}},
            "chat_template_kwargs",
        ),
    ],
)
def test_what_cannot_be_is_named(client: httpx.Client, path: str, body: Any, param: str) -> None:
    assert error_of(client.post(path, json=body), 400)["param"] == param


def test_the_prompt_of_a_conversation(served: Served, client: httpx.Client) -> None:
    prompt = ask(client, {"messages": HELLO}, "/apply-template")["prompt"]
    assert "你好" in prompt
    without = ask(client, {"messages": HELLO, "add_generation_prompt": False}, "/apply-template")["prompt"]
    assert prompt.startswith(without) and "assistant" in prompt.removeprefix(without)


@pytest.mark.parametrize("name", ["self", "model", "messages_", "control_texts", "mark", "variables"])
def test_any_other_name_is_the_templates(client: httpx.Client, name: str) -> None:
    ask(client, {"messages": HELLO, "chat_template_kwargs": {name: 1}}, "/apply-template")
    ask(client, {"messages": HELLO, "chat_template_kwargs": {name: 1}, "max_tokens": 2})


# --- for monitors and tools


def test_metrics(client: httpx.Client) -> None:
    def read() -> dict[str, float]:
        answer = client.get("/metrics")
        assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
        return samples(answer.text)

    before = read()
    body = {"messages": HELLO, "temperature": 0, "max_tokens": 5, "n": 2}
    used = ask(client, body)["usage"]
    used_again = stream(client, CHAT, {**body, "n": 1, "stream_options": {"include_usage": True}})[-2]["usage"]
    ask(client, {"prompt": "The", "max_tokens": 3, "ignore_eos": True}, TEXT)
    error_of(client.post(CHAT, json={}), 400)
    client.get("/secret/path")
    after = read()

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown('edge_requests_total{endpoint="/v1/chat/completions",status="200"}') == 2
    assert grown('edge_requests_total{endpoint="/v1/chat/completions",status="400"}') == 1
    assert grown('edge_requests_total{endpoint="other",status="404"}') == 1
    written = used["completion_tokens"] + used_again["completion_tokens"] + 3
    assert grown("edge_generated_tokens_total") == written
    for name in ("queue", "ttft"):
        assert grown(f"edge_{name}_seconds_count") == 4
    assert grown("edge_itl_seconds_count") >= 3 and grown("edge_decode_tokens_per_second_count") >= 3
    assert grown("edge_cached_tokens_total") <= grown("edge_prompt_tokens_total")
    assert after["edge_slots"] == 4 and after["edge_slots_busy"] == after["edge_queue_length"] == 0
    assert after["edge_ready"] == 1 and after["edge_memory_bytes"] > 1e6
    assert not any("secret" in name for name in after)


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(found := value.get("$ref"), str):
            yield found
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from references(one)


def test_the_description(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    posts = {path for path, methods in document["paths"].items() if "post" in methods}
    assert posts == {CHAT, TEXT, "/v1/embeddings", "/tokenize", "/detokenize", "/apply-template"}
    assert {"/health", "/metrics", "/v1/models"} <= document["paths"].keys()
    for path in posts:
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert body["$ref"].startswith("#/components/schemas/")
    for reference in set(references(document)):
        found = document
        for name in reference.removeprefix("#/").split("/"):
            found = found[name]
    assert "temperature" in document["components"]["schemas"]["ChatRequest"]["properties"]


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_no_page_that_loads_scripts_from_elsewhere(client: httpx.Client, path: str) -> None:
    error_of(client.get(path), 404)
