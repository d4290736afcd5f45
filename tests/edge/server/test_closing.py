"""The soft deadline: an answer ends with its sentence."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge.server.config import Config, Kiosk
from tests.edge.server.running import CHAT, HELLO, Served, ask, choices_of, joined, running, stream, until
from tests.edge.server.saying import saying

BODY = {"messages": HELLO}
SECONDS, PAUSE = 0.15, 0.003  # 50 tokens, which are bytes


@pytest.fixture(scope="module")
def brief(gguf: dict[str, Path]) -> Iterator[Served]:
    with running(gguf["speaker"], Config(port=0, answer_seconds=SECONDS), slots=2) as one:
        yield one


@pytest.fixture
def client(brief: Served) -> Iterator[httpx.Client]:
    with brief.client() as one:
        yield one


def answer(client: httpx.Client, streams: bool, body: dict[str, Any] = BODY) -> tuple[str, str]:
    """Its text, and how it ended."""
    if streams:
        *chunks, done = stream(client, CHAT, body)
        assert done == "[DONE]"
        return joined(chunks), choices_of(chunks)[-1]["finish_reason"]
    (choice,) = ask(client, body)["choices"]
    return choice["message"]["content"], choice["finish_reason"]


ENDS = [
    ("Short. " + "one two " * 20 + "three. ", "And so on " * 100),
    ("很短。" + "一二三四" * 10 + "五！”", "然后" * 200),
    ("- one\n- " + "two " * 30 + "\n", "- more" * 100),
]


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize(("first", "then"), ENDS, ids=["English", "Chinese", "a list"])
def test_an_answer_ends_with_its_sentence(
    brief: Served, client: httpx.Client, streams: bool, first: str, then: str
) -> None:
    with saying(brief.engine, first + then, pause=PAUSE):
        text, reason = answer(client, streams)
    assert text.rstrip() == first.rstrip() and reason == "length"
    until(lambda: brief.idle)


@pytest.mark.parametrize("streams", [False, True])
def test_without_an_end_in_time(
    brief: Served, client: httpx.Client, streams: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was streamed is not taken back; who has read nothing yet gets whole sentences."""
    monkeypatch.setattr("edge.server.closing.SHORTEST_GRACE", 0.1)
    with saying(brief.engine, "One. " + "x" * 4000, pause=PAUSE):
        text, reason = answer(client, streams)
    assert reason == "length"
    assert text.startswith("One. xxx") if streams else text == "One."
    until(lambda: brief.idle)


def test_log_probabilities_are_of_what_is_told(
    brief: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.server.closing.SHORTEST_GRACE", 0.1)
    with saying(brief.engine, "One. " + "x" * 4000, pause=PAUSE):
        (choice,) = ask(client, {**BODY, "logprobs": True})["choices"]
        *chunks, _ = stream(client, CHAT, {**BODY, "logprobs": True})
    assert "".join(one["token"] for one in choice["logprobs"]["content"]) == choice["message"]["content"] == "One."
    told = [one["token"] for part in choices_of(chunks) if part["logprobs"] for one in part["logprobs"]["content"]]
    assert "".join(told) == joined(chunks)


@pytest.mark.parametrize("streams", [False, True])
def test_one_that_is_done_in_time(brief: Served, client: httpx.Client, streams: bool) -> None:
    with saying(brief.engine, "One. Two"):
        assert answer(client, streams) == ("One. Two", "stop")


def test_the_sentence_may_be_the_last_one(brief: Served, client: httpx.Client) -> None:
    """The model ends by itself behind it: nothing was cut."""
    said = "one two " * 10 + "three."
    with saying(brief.engine, said, pause=PAUSE):
        assert answer(client, True) == (said, "stop")


def test_thoughts_get_time_to_end(brief: Served, client: httpx.Client) -> None:
    """Ended in its thoughts, it would say nothing."""
    thoughts = "hm. " * 30
    with saying(brief.engine, f"<think>\n{thoughts}\n</think>\n\nYes. No. " + "x" * 400, pause=PAUSE):
        *chunks, _ = stream(client, CHAT, BODY)
    assert joined(chunks, "reasoning_content").strip() == thoughts.strip()
    assert joined(chunks) == "Yes."


def test_a_call_gets_time_to_end(brief: Served, client: httpx.Client) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    call = '<tool_call>\n{"name": "f", "arguments": {"text": "' + "One. Two. " * 10 + '"}}\n</tool_call>'
    with saying(brief.engine, call, pause=PAUSE):
        (choice,) = ask(client, {**BODY, "tools": [tool]})["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert "One. Two." in choice["message"]["tool_calls"][0]["function"]["arguments"]


def test_waiting_is_no_part_of_it(gguf: dict[str, Path]) -> None:
    """Who waited long in the queue is answered like anybody else."""
    config = Config(port=0, kiosk=Kiosk(answer_seconds=1), answer_seconds=0.5)
    with (
        running(gguf["speaker"], config, slots=1) as served,
        served.client() as client,
        ThreadPoolExecutor(1) as pool,
        saying(served.engine, "x" * 20, "One. Two. " * 3, pause=0.03),
    ):
        first = pool.submit(answer, client, False)
        until(lambda: served.engine._core.slots[0].owner)
        began = time.monotonic()
        text, reason = answer(client, True)
        assert reason == "length" and text.rstrip() in ("One. Two. One.", "One. Two. One. Two.")
        assert time.monotonic() - began > 0.75 and first.result() == ("x" * 20, "stop")
