from __future__ import annotations

import json
from typing import Any

import pytest

from edge.answer import Delta, Result
from edge.chat.output import Call, CallArguments, CallBegin, CallEnd, Unfinished
from edge.engine.types import Timings
from edge.wire.answers import (
    ChatChunks,
    chat_choice,
    event,
    finish_reason,
    head,
    new_id,
    text_choice,
    timings_json,
    usage,
)

TIMINGS = Timings(prompt_tokens=10, cached_tokens=4, generated_tokens=5, queue=0.5, prefill=0.25, decode=0.5)


def result(text: str = "", reason: str = "stop", **more: Any) -> Result:
    return Result(text, reason, TIMINGS, **more)


def test_events() -> None:
    assert event({"a": "你\n"}) == 'data: {"a":"你\\n"}\n\n'.encode()
    assert event("[DONE]") == b"data: [DONE]\n\n"


def test_heads_are_unique() -> None:
    heads = [head("chat.completion", "m", "f") for _ in range(100)]
    assert len({one.id for one in heads}) == 100 and all(one.id.startswith("chatcmpl-") for one in heads)
    assert head("text_completion", "m", "f").id.startswith("cmpl-")
    chunk = heads[0].chunk([], usage={})
    assert list(chunk) == ["id", "object", "created", "model", "system_fingerprint", "choices", "usage"]
    assert new_id("call_") != new_id("call_")


@pytest.mark.parametrize(
    ("reason", "unfinished", "told"),
    [
        ("stop", "", "stop"),
        ("length", "", "length"),
        ("tool_calls", "", "tool_calls"),
        ("cancelled", "", "length"),
        ("tool_calls", "<tool_call>{", "length"),
        ("stop", "<tool_call>{", "length"),
    ],
)
def test_finish_reasons(reason: str, unfinished: str, told: str) -> None:
    assert finish_reason(result(reason=reason, unfinished=unfinished)) == told


def test_usage_counts_a_prompt_once() -> None:
    long = Timings(prompt_tokens=100, cached_tokens=0, generated_tokens=1)
    assert usage([TIMINGS] * 3) == {
        "prompt_tokens": 10,
        "completion_tokens": 15,
        "total_tokens": 25,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    assert usage([TIMINGS, TIMINGS, long, long], 2)["prompt_tokens"] == 110
    assert usage([TIMINGS, long], 2)["total_tokens"] == 116


def test_timings() -> None:
    assert timings_json(TIMINGS) == {
        "queue_ms": 500.0,
        "cache_n": 4,
        "prompt_n": 6,
        "prompt_ms": 250.0,
        "prompt_per_second": 24.0,
        "predicted_n": 5,
        "predicted_ms": 500.0,
        "predicted_per_second": 8.0,
    }
    assert set(timings_json(Timings()).values()) == {0}


CALLS = (Call("f", '{"a": 1}'), Call("g", ""))


def message_of(one: Result) -> Any:
    return chat_choice(0, one, None)["message"]


@pytest.mark.parametrize(
    ("given", "content"),
    [
        (result("yes"), "yes"),
        (result(""), ""),
        (result("", calls=CALLS), None),
        (result("so", calls=CALLS), "so"),
        (result("so ", unfinished="<tool_call>{"), "so <tool_call>{"),
        (result("", unfinished="<tool_call>{", calls=CALLS), "<tool_call>{"),
    ],
)
def test_content(given: Result, content: str | None) -> None:
    assert message_of(given)["content"] == content


def test_whole_messages() -> None:
    assert message_of(result("yes")) == {"role": "assistant", "content": "yes", "refusal": None}
    assert message_of(result("yes", reasoning="hm"))["reasoning_content"] == "hm"
    calls = message_of(result(calls=CALLS))["tool_calls"]
    assert [call["function"] for call in calls] == [
        {"name": "f", "arguments": '{"a": 1}'},
        {"name": "g", "arguments": "{}"},
    ]
    assert all(call.keys() == {"id", "type", "function"} for call in calls) and calls[0]["id"] != calls[1]["id"]
    assert chat_choice(2, result("x", "length"), {"content": []}) == {
        "index": 2,
        "message": {"role": "assistant", "content": "x", "refusal": None},
        "logprobs": {"content": []},
        "finish_reason": "length",
    }


def test_chunks() -> None:
    writer = ChatChunks(1)

    def delta(given: Delta) -> Any:
        choice = writer.next(given)
        assert choice is None or (choice["index"], choice["finish_reason"], choice["logprobs"]) == (1, None, None)
        return choice and choice["delta"]

    assert writer.first()["delta"] == {"role": "assistant", "content": ""}
    assert delta(Delta(text="a")) == {"content": "a"}
    assert delta(Delta(reasoning="a")) == {"reasoning_content": "a"}
    assert delta(Delta(call=Unfinished("<t"))) == {"content": "<t"}
    begin = delta(Delta(call=CallBegin(0, "f")))["tool_calls"][0]
    assert begin.pop("id").startswith("call_")
    assert begin == {"index": 0, "type": "function", "function": {"name": "f", "arguments": ""}}
    part = delta(Delta(call=CallArguments(0, "{}")))
    assert part == {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}
    assert delta(Delta()) is delta(Delta(call=CallEnd(0))) is delta(Delta(call=CallArguments(0, ""))) is None
    last = writer.last(result(reason="tool_calls"))
    assert last == {"index": 1, "delta": {}, "logprobs": None, "finish_reason": "tool_calls"}


def test_logprobs_go_with_text() -> None:
    told = {"content": [], "refusal": None}
    for given in (Delta(text="a"), Delta(call=Unfinished("a"))):
        assert (ChatChunks(0).next(given, told) or {})["logprobs"] == told


def test_texts() -> None:
    assert text_choice(3, "x", None, "stop") == {"index": 3, "text": "x", "logprobs": None, "finish_reason": "stop"}
    assert json.loads(json.dumps(text_choice(0, "")))["finish_reason"] is None
