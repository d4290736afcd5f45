"""OpenAI's npm package, in node."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.clients import node
from tests.clients.command import Command, serving

FLOORS = ("ground", "first", "second")


@pytest.fixture(scope="module")
def plain(server: Command, npm: Path) -> dict[str, Any]:
    """Of everything but calls."""
    found = node.results(npm, "plain.mjs", server.url)
    print("openai for node", found["version"])
    return found


@pytest.fixture(scope="module")
def called(caller: Command, npm: Path) -> dict[str, Any]:
    return node.results(npm, "tools.mjs", caller.url)


@pytest.fixture(scope="module")
def keyed(home: Path, npm: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text("sk-right # mine\n")
    with serving("tiny-qwen", home, "--api-key-file", str(keys), "--slots", "1", "--queue", "0") as server:
        yield node.results(npm, "keyed.mjs", server.url, "sk-right")
        assert server.complaints() == []


def check_chunks(chunks: list[dict[str, Any]], choices: int = 1) -> None:
    """What accumulators depend on."""
    assert len({(chunk["id"], chunk["model"], chunk["created"]) for chunk in chunks}) == 1
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    for index in range(choices):
        mine = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
        assert mine[0]["delta"] == {"role": "assistant", "content": ""}
        assert all("role" not in choice["delta"] for choice in mine[1:])
        assert [choice["finish_reason"] for choice in mine[:-1]] == [None] * (len(mine) - 1)
        assert mine[-1]["finish_reason"] in ("stop", "length", "tool_calls") and mine[-1]["delta"] == {}


def text_of(chunks: list[dict[str, Any]], index: int = 0) -> str:
    choices = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def message_of(answer: dict[str, Any]) -> dict[str, Any]:
    assert "failed" not in answer, answer["failed"]
    return answer["choices"][0]["message"]


def test_chat(plain: dict[str, Any], server: Command):
    answer = plain["chat"]
    message = message_of(answer)
    assert message["role"] == "assistant" and message["content"].strip()
    assert message["refusal"] is None and "tool_calls" not in message
    assert answer["object"] == "chat.completion" and answer["model"] == server.name
    used = answer["usage"]
    assert 1 <= used["completion_tokens"] <= 24 and used["prompt_tokens"] > 5
    assert used["total_tokens"] == used["prompt_tokens"] + used["completion_tokens"]
    assert answer["choices"][0]["finish_reason"] in ("stop", "length")


def test_stream(plain: dict[str, Any]):
    chunks = plain["stream"]
    check_chunks(chunks)
    assert text_of(chunks) == message_of(plain["chat"])["content"]
    assert len(chunks) > 4 and not any("usage" in chunk for chunk in chunks)


def test_stream_with_usage(plain: dict[str, Any]):
    *chunks, last = plain["streamWithUsage"]
    check_chunks(chunks)
    assert last["choices"] == []
    assert last["usage"]["total_tokens"] == plain["chat"]["usage"]["total_tokens"]


def test_the_stream_helper_puts_it_together(plain: dict[str, Any]):
    helped = plain["streamHelper"]
    assert message_of(helped["final"])["content"] == helped["deltas"] == message_of(plain["chat"])["content"]
    assert helped["usage"]["completion_tokens"] == plain["chat"]["usage"]["completion_tokens"]


def test_roles_and_parts(plain: dict[str, Any]):
    assert message_of(plain["roles"])["content"]


def test_several_choices(plain: dict[str, Any]):
    choices = plain["several"]["choices"]
    assert [choice["index"] for choice in choices] == [0, 1, 2]
    texts = [choice["message"]["content"] for choice in choices]
    assert len(set(texts)) > 1, texts
    chunks = plain["severalStreamed"]
    check_chunks(chunks, choices=2)
    assert [text_of(chunks, index) for index in (0, 1)] == texts[:2]


def test_seed(plain: dict[str, Any]):
    first, again, *others = plain["seed"]
    assert first == again and any(one != first for one in others)


def test_stop(plain: dict[str, Any]):
    whole, stop, cut = plain["stop"]["whole"], plain["stop"]["stop"], plain["stop"]["cut"]
    assert message_of(cut)["content"] == whole[: whole.index(stop)] == plain["stop"]["streamed"]
    assert cut["choices"][0]["finish_reason"] == "stop"


def test_logprobs(plain: dict[str, Any]):
    choice = plain["logprobs"]["choices"][0]
    content = choice["logprobs"]["content"]
    data = b"".join(bytes(one["bytes"]) for one in content)
    assert data.decode() == choice["message"]["content"]
    for one in content:
        assert one["logprob"] <= 0 and len(one["top_logprobs"]) == 3
        assert math.isclose(one["logprob"], max(top["logprob"] for top in one["top_logprobs"]))  # greedy
    parts = [choice["logprobs"] for chunk in plain["logprobsStreamed"] for choice in chunk["choices"]]
    streamed = [one for part in parts if part for one in part["content"]]
    assert b"".join(bytes(one["bytes"]) for one in streamed) == data
    assert all(len(one["top_logprobs"]) == 2 for one in streamed)


def test_structured_output(plain: dict[str, Any]):
    for name in ("structured", "structuredStreamed"):
        answer = plain[name]
        assert "failed" not in answer, answer
        assert answer["parsed"]["floor"] in FLOORS and isinstance(answer["parsed"]["open"], bool)
        assert answer["reason"] == "stop"


def test_embeddings(plain: dict[str, Any]):
    usual, floats = plain["embeddings"]["usual"], plain["embeddings"]["floats"]
    assert [one["index"] for one in usual["data"]] == [0, 1] and usual["usage"]["prompt_tokens"] > 3
    for one, other in zip(usual["data"], floats["data"], strict=True):
        assert math.isclose(math.hypot(*one["embedding"]), 1, rel_tol=1e-5)
        assert one["embedding"] == pytest.approx(other["embedding"], abs=1e-6)
    assert usual["data"][0]["embedding"] != usual["data"][1]["embedding"]


def test_models(plain: dict[str, Any], server: Command):
    (listed,) = plain["models"]["listed"]
    assert listed == plain["models"]["one"]
    assert listed["id"] == server.name and listed["object"] == "model" and "/" not in listed["id"]


def test_completions(plain: dict[str, Any]):
    choice = plain["completion"]["choices"][0]
    assert choice["text"].startswith("The ticket office") and len(choice["text"]) > len("The ticket office")
    assert plain["completion"]["object"] == "text_completion"
    chunks = plain["completionStreamed"]
    for index in (0, 1):
        mine = [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]
        assert "".join(choice["text"] for choice in mine)
        assert [choice["finish_reason"] for choice in mine].count(None) == len(mine) - 1
        assert mine[-1]["finish_reason"] in ("stop", "length")


def test_an_aborted_stream_leaves_the_client_well(plain: dict[str, Any]):
    assert plain["abort"]["first"]["object"] == "chat.completion.chunk"
    assert message_of(plain["abort"]["after"])["content"] == message_of(plain["chat"])["content"]


# refusal -> OpenAI's class for it, the code, the field
REFUSALS = {
    "tooLong": ("BadRequestError", "context_length_exceeded", "messages"),
    "tooLongStreamed": ("BadRequestError", "context_length_exceeded", "messages"),
    "unknown": ("BadRequestError", "unknown_parameter", "no_such_thing"),
    "wrongType": ("BadRequestError", "invalid_value", "temperature"),
    "outOfRange": ("BadRequestError", "invalid_value", "top_p"),
    "topWithoutLogprobs": ("BadRequestError", None, "top_logprobs"),
    "audio": ("BadRequestError", "unsupported_parameter", "audio"),
    "image": ("BadRequestError", None, "messages.0.content"),
    "schema": ("BadRequestError", "invalid_schema", "response_format"),
    "noMessages": ("BadRequestError", "invalid_value", "messages"),
    "otherModel": ("NotFoundError", "model_not_found", None),
    "tokens": ("BadRequestError", None, "input"),
    "responses": ("NotFoundError", "not_found", None),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refusals(plain: dict[str, Any], name: str):
    kind, code, param = REFUSALS[name]
    got = plain["refusals"][name]
    assert (got["kind"], got.get("code"), got.get("param")) == (kind, code, param), got
    assert got["type"] and got["message"]


def test_a_refusal_of_length_has_the_words_that_agents_look_for(plain: dict[str, Any]):
    message = plain["refusals"]["tooLong"]["message"]
    assert "maximum context length is 2048 tokens" in message and "exceeds the available context size" in message


def test_tokens_of_another_tokenizer_are_refused_with_a_hint(plain: dict[str, Any]):
    assert "send texts" in plain["refusals"]["tokens"]["message"]


# --- function calls


def calls_of(chunks: list[dict[str, Any]]) -> list[dict[str, str]]:
    """Calls put together from deltas, as clients do it; what they would choke on is refused."""
    calls: list[dict[str, str]] = []
    for chunk in chunks:
        for delta in (one for choice in chunk["choices"] for one in choice["delta"].get("tool_calls", [])):
            if delta["index"] == len(calls):
                assert delta["type"] == "function" and delta["id"]
                calls.append({"id": delta["id"], "name": delta["function"]["name"], "arguments": ""})
            else:
                assert delta["index"] == len(calls) - 1
                assert "id" not in delta and "name" not in delta["function"]
            calls[-1]["arguments"] += delta["function"]["arguments"]
    return calls


def check_call(call: dict[str, Any]) -> None:
    """One that fits the schema of ``locate``."""
    given = json.loads(call["arguments"])
    assert call["name"] == "locate" and given.keys() == {"place", "loud"}
    assert given["place"] in ("office", "lift", "exit") and isinstance(given["loud"], bool)


def test_auto_and_none(called: dict[str, Any]):
    whole, chunks = called["auto"], called["autoStreamed"]
    check_chunks(chunks)
    assert text_of(chunks) == (message_of(whole)["content"] or "")
    assert len(calls_of(chunks)) == len(message_of(whole).get("tool_calls", []))
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["choices"][0]["finish_reason"]
    assert "tool_calls" not in message_of(called["none"]) and message_of(called["none"])["content"]


@pytest.mark.parametrize("name", ["required", "named"])
def test_forced_calls(called: dict[str, Any], name: str):
    message = message_of(called[name])
    (call,) = message["tool_calls"]
    assert message["content"] is None and call["type"] == "function" and call["id"] and "index" not in call
    if name == "named" or call["function"]["name"] == "locate":
        check_call(call["function"])
    assert called[name]["choices"][0]["finish_reason"] == "tool_calls"
    chunks = called[name + "Streamed"]
    check_chunks(chunks)
    (streamed,) = calls_of(chunks)
    assert streamed["name"] == call["function"]["name"] and text_of(chunks) == ""
    assert json.loads(streamed["arguments"]) == json.loads(call["function"]["arguments"])
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_a_call_without_arguments(called: dict[str, Any]):
    (call,) = message_of(called["noArguments"])["tool_calls"]
    assert (call["function"]["name"], json.loads(call["function"]["arguments"])) == ("now", {})
    (streamed,) = calls_of(called["noArgumentsStreamed"])
    assert (streamed["name"], json.loads(streamed["arguments"])) == ("now", {})


def test_a_cut_call_is_not_told_to_be_whole(called: dict[str, Any]):
    assert called["cut"]["choices"][0]["finish_reason"] == "length"
    check_chunks(called["cutStreamed"])
    assert called["cutStreamed"][-1]["choices"][0]["finish_reason"] == "length"


def test_helpers_of_the_package(called: dict[str, Any]):
    for given in called["parsed"]:
        check_call({"name": "locate", "arguments": json.dumps(given)})
    (call,) = message_of(called["helper"]["final"])["tool_calls"]
    check_call(call["function"])
    assert [done["arguments"] for done in called["helper"]["done"]] == [call["function"]["arguments"]]


def test_functions_run_and_their_results_go_back(called: dict[str, Any]):
    run = called["run"]
    assert "failed" not in run, run
    assert len(run["calls"]) == 2 and all(given["place"] in ("office", "lift", "exit") for given in run["calls"])
    roles = [message["role"] for message in run["messages"]]
    assert roles == ["user", "assistant", "tool", "assistant", "tool"]


def test_a_conversation_with_calls_goes_on(called: dict[str, Any]):
    assert message_of(called["history"])["content"] is not None


def test_wrong_tools_are_refused(called: dict[str, Any]):
    kinds = {name: got["kind"] for name, got in called["refusals"].items()}
    assert kinds == dict.fromkeys(kinds, "BadRequestError")
    assert called["refusals"]["unknownName"]["param"] == "tool_choice"


# --- keys, and a full house


def test_keys(keyed: dict[str, Any]):
    assert message_of(keyed["right"])["content"]
    for name in ("wrong", "none"):
        assert (keyed[name]["kind"], keyed[name]["code"]) == ("AuthenticationError", "invalid_api_key")


def test_a_full_house_tells_when_to_come_back(keyed: dict[str, Any]):
    assert (keyed["busy"]["kind"], keyed["busy"]["status"]) == ("RateLimitError", 429)
    assert int(keyed["busy"]["retryAfter"]) >= 1


def test_a_client_that_waits_gets_its_answer(keyed: dict[str, Any]):
    assert "failed" not in keyed["retried"], keyed["retried"]
    assert keyed["retried"]["chunks"] > 10 and message_of(keyed["retried"]["answer"])["content"]
