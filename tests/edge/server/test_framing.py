"""Lines 1-6 of what clients depend on: how a stream is framed, and when it is none."""

from __future__ import annotations

import itertools
import json
import re
from typing import Any

import httpx
import openai
import pytest

from edge.server.stream import QUIET
from tests.edge.server.running import (
    CHAT,
    HELLO,
    TEXT,
    Served,
    ask,
    choices_of,
    error_of,
    events,
    joined,
    stream,
    until,
)
from tests.edge.server.saying import FAULT, saying

BODY = {"model": "gpt-3.5-turbo", "messages": HELLO, "temperature": 0, "max_tokens": 12}
PROMPT = {"prompt": "Where is", "temperature": 0, "max_tokens": 6}


@pytest.mark.parametrize(("path", "body"), [(CHAT, BODY), (TEXT, PROMPT)])
def test_01_events_and_their_headers(client: httpx.Client, path: str, body: dict[str, Any]) -> None:
    """A length of 0 was promised, and the first event broke the connection."""
    with client.stream("POST", path, json={**body, "stream": True}) as answer:
        raw = b"".join(answer.iter_raw())
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == "text/event-stream"
    assert answer.headers["cache-control"] == "no-cache" and answer.headers["x-accel-buffering"] == "no"
    assert "content-length" not in answer.headers and "content-encoding" not in answer.headers
    *blocks, rest = raw.split(b"\n\n")
    data = [block for block in blocks if not block.startswith(b":")]
    assert rest == b"" and data.count(b"data: [DONE]") == 1 and data[-1] == b"data: [DONE]"
    for block in data[:-1]:
        assert block.startswith(b"data: ") and b"\n" not in block
        assert isinstance(json.loads(block.removeprefix(b"data: ")), dict)


def test_01_each_event_is_sent_at_once(served: Served, client: httpx.Client) -> None:
    with (
        saying(served.engine, "hello", pause=None) as go,
        client.stream("POST", CHAT, json={**BODY, "stream": True}) as answer,
    ):
        lines = answer.iter_lines()
        first = next(events(lines))
        assert first["choices"][0]["delta"]["role"] == "assistant" and not go.is_set()
        go.set()
        assert joined(events(lines)) == "hello"


def test_02_comments_while_nothing_comes(served: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    assert QUIET <= 15
    monkeypatch.setattr("edge.server.stream.QUIET", 0.02)
    with (
        saying(served.engine, "hello", pause=None) as go,
        client.stream("POST", CHAT, json={**BODY, "stream": True}) as answer,
    ):
        lines = answer.iter_lines()
        comments = list(itertools.islice((line for line in lines if line.startswith(":")), 3))
        go.set()
        rest = list(lines)
    assert all(re.fullmatch(r":( queue \d+| prefill \d+/\d+)?", comment) for comment in comments)
    assert joined(events(rest)) == "hello" and rest[-2] == "data: [DONE]"
    assert not any(line.startswith(("id:", "event:", "retry:")) for line in rest)


def test_02_comments_while_a_call_is_written(
    speaker: Served, told: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is told when it is whole; tokens came, but no words."""
    monkeypatch.setattr("edge.server.stream.QUIET", 0.05)
    tool = {"type": "function", "function": {"name": "f"}}
    call = '<tool_call>\n{"name": "f", "arguments": {}}\n</tool_call>'
    with (
        saying(speaker.engine, call, pause=0.01),
        told.stream("POST", CHAT, json={"messages": HELLO, "tools": [tool], "stream": True}) as answer,
    ):
        lines = list(answer.iter_lines())
    assert ":" in lines and choices_of(events(lines))[-1]["finish_reason"] == "tool_calls"


def test_02_a_client_reads_over_comments(told_sdk: openai.OpenAI, speaker: Served, monkeypatch: Any) -> None:
    monkeypatch.setattr("edge.server.stream.QUIET", 0.01)
    with saying(speaker.engine, "hello", pause=0.03):
        chunks = told_sdk.chat.completions.create(model="x", messages=HELLO, stream=True)
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == "hello"


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        {"messages": [{"role": "user", "content": "long " * 3000}]},
        {"messages": []},
        {"temperature": -1},
        {"stop": [5]},
        {"response_format": {"type": "json_schema", "json_schema": {"schema": {"type": "nothing"}}}},
        {"logit_bias": {"99999999": 1}},
        {"functions": []},
    ],
)
def test_03_what_is_wrong_is_told_before_the_stream(client: httpx.Client, change: Any, streams: bool) -> None:
    error = error_of(client.post(CHAT, json={**BODY, **change, "stream": streams}), 400)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("change", [{"prompt": "long " * 3000}, {"prompt": ""}, {"prompt": [99999999]}, {"top_p": 2}])
def test_03_so_for_texts(client: httpx.Client, change: Any) -> None:
    error_of(client.post(TEXT, json={**PROMPT, **change, "stream": True}), 400)


def test_04_a_fault_in_mid_stream(speaker: Served, told: httpx.Client, told_sdk: openai.OpenAI) -> None:
    with saying(speaker.engine, f"hello{FAULT}"):
        *chunks, last = stream(told, CHAT, {**BODY, "stream_options": {"include_usage": True}})
        assert last["error"].keys() >= {"message", "type", "param", "code"} and last["error"]["param"] is None
        assert "hello".startswith(joined(chunks))
        assert all(one["finish_reason"] is None for one in choices_of(chunks))
        assert not any("usage" in chunk for chunk in chunks)
        read = []
        with pytest.raises(openai.APIError, match="fault"):
            for chunk in told_sdk.chat.completions.create(model="x", messages=HELLO, stream=True):
                read.append(chunk.choices[0].delta.content or "")
        assert "hello".startswith("".join(read))
    until(lambda: speaker.idle)


def test_05_each_choice_ends_once(client: httpx.Client) -> None:
    for path, body in ((CHAT, BODY), (TEXT, PROMPT)):
        chunks = stream(client, path, {**body, "n": 3})
        for index in range(3):
            reasons = [one["finish_reason"] for one in choices_of(chunks, index)]
            assert reasons.pop() in ("stop", "length") and set(reasons) <= {None}


@pytest.mark.parametrize(("path", "body"), [(CHAT, BODY), (TEXT, PROMPT)])
def test_06_what_is_constant_over_a_stream(
    served: Served, client: httpx.Client, path: str, body: dict[str, Any]
) -> None:
    seen = []
    for _ in range(2):
        chunks = stream(client, path, body)[:-1]
        (head,) = {
            (one["id"], one["object"], one["created"], one["model"], one["system_fingerprint"]) for one in chunks
        }
        seen.append(head)
    assert seen[0][0] != seen[1][0], "ids are unique"
    kind = "chat.completion.chunk" if path == CHAT else "text_completion"
    assert seen[0][1] == kind and seen[0][3] == served.serving.name and isinstance(seen[0][2], int)
    whole = ask(client, body, path)
    assert whole["object"] == kind.removesuffix(".chunk") and whole["id"] not in {one[0] for one in seen}
