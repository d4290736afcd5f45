"""Line 35 of what clients depend on: ``/v1/embeddings``."""

from __future__ import annotations

import base64
from typing import Any

import httpx
import numpy as np
import openai
import pytest

from tests.edge.server.running import CHAT, HELLO, Served, ask, error_of, events, joined, until
from tests.edge.server.saying import saying

PATH = "/v1/embeddings"


def test_35_numbers_and_base64(client: httpx.Client) -> None:
    plain = ask(client, {"input": "hello"}, PATH)
    packed = ask(client, {"input": "hello", "encoding_format": "base64"}, PATH)
    vector = np.array(plain["data"][0]["embedding"])
    assert np.frombuffer(base64.b64decode(packed["data"][0]["embedding"]), "<f4") == pytest.approx(vector, abs=1e-6)
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert plain["object"] == "list" and plain["data"][0]["object"] == "embedding"


def test_35_openais_client(served: Served, sdk: openai.OpenAI) -> None:
    """It asks for base64 when nobody says how, and unpacks it."""
    unsaid = sdk.embeddings.create(model="x", input=["hello", "你好"])
    said = sdk.embeddings.create(model="x", input=["hello", "你好"], encoding_format="float")
    assert [one.index for one in unsaid.data] == [0, 1] and unsaid.model == served.serving.name
    assert len(unsaid.data[0].embedding) == served.engine.model.n_embd
    for left, right in zip(unsaid.data, said.data, strict=True):
        assert left.embedding == pytest.approx(right.embedding, abs=1e-5)
    assert unsaid.data[0].embedding != pytest.approx(unsaid.data[1].embedding, abs=1e-3)
    assert unsaid.usage.prompt_tokens == unsaid.usage.total_tokens > 1


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input"),
        ({"input": [[]]}, "input"),
        ({"input": None}, "input"),
        ({"input": {"text": "x"}}, "input"),
        ({"dimensions": 5}, "dimensions"),
        ({"encoding_format": "hex"}, "encoding_format"),
        ({"input": ["a"] * 2049}, "input"),
    ],
)
def test_what_cannot_be_is_named(client: httpx.Client, change: dict[str, Any], param: str) -> None:
    assert error_of(client.post(PATH, json={"input": "x", **change}), 400)["param"] == param


@pytest.mark.parametrize("given", [[9906], [[9906, 5], [7]]])
def test_35_tokens_of_another_tokenizer(sdk: openai.OpenAI, given: Any) -> None:
    with pytest.raises(openai.BadRequestError, match=r"another tokenizer .*: send texts") as caught:
        sdk.embeddings.create(model="x", input=given)
    assert caught.value.param == "input"


def test_30_a_text_that_is_too_long(client: httpx.Client, served: Served) -> None:
    error = error_of(client.post(PATH, json={"input": "long " * 9000}), 400)
    assert error["code"] == "context_length_exceeded" and error["n_ctx"] == served.engine.ctx


def test_embeddings_between_the_steps_of_an_answer(served: Served, client: httpx.Client) -> None:
    with (
        saying(served.engine, "hello " * 20, pause=0.005),
        client.stream("POST", CHAT, json={"messages": HELLO, "stream": True}) as answer,
    ):
        lines = answer.iter_lines()
        next(events(lines))
        with served.client() as other:
            during = ask(other, {"input": "hello"}, PATH)["data"][0]["embedding"]
        assert joined(events(lines)) == "hello " * 20, "neither disturbs the other"
    after = ask(client, {"input": "hello"}, PATH)["data"][0]["embedding"]
    assert during == pytest.approx(after, abs=1e-5)
    until(lambda: served.idle)
