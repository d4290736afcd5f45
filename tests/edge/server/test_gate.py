"""Full houses, fair turns, deadlines, and those who go: lines 29 and 36 of what clients depend on."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.engine.scheduler import by_turns
from edge.engine.sequence import Sequence
from edge.engine.types import Request
from edge.server.config import Config
from edge.server.errors import Busy
from edge.server.gate import MOST_WAIT, Gate
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
    running,
    stream,
    until,
)
from tests.edge.server.saying import saying, watching

BODY = {"messages": HELLO}
PAUSE = 0.1
SLOW = "slow " * 250  # with this pause before each token, nobody waits for its end
SHORT = {"prompt": "The", "max_tokens": 3}


# --- the gate by itself


def test_29_who_comes_when_it_is_full() -> None:
    gate = Gate(slots=2, queue=1)
    with gate.enter(), gate.enter(2):
        assert gate.inside == 3 and gate.waiting == 1
        with pytest.raises(Busy) as caught, gate.enter():
            pass
        assert 1 <= caught.value.seconds <= MOST_WAIT and gate.inside == 3
    assert gate.inside == gate.waiting == 0


def test_more_answers_than_places() -> None:
    gate = Gate(slots=1, queue=0)
    with gate.enter(16):
        assert gate.inside == 16
        with pytest.raises(Busy), gate.enter():
            pass
    with gate.enter(), pytest.raises(Busy), gate.enter(2):
        pass


def test_a_failure_leaves_the_gate() -> None:
    gate = Gate(1, 0)
    with pytest.raises(ZeroDivisionError), gate.enter():
        raise ZeroDivisionError
    assert gate.inside == 0


# --- turns


def waiting(client: str, side: bool = False) -> Sequence:
    return Sequence(Request((1,), client=client, side=side), lambda event: None)


def test_clients_take_turns() -> None:
    many, one = [waiting("a") for _ in range(3)], waiting("b")
    assert by_turns([*many, one], [], {}) == [many[0], one, *many[1:]]
    assert by_turns([one, *many], [waiting("b"), waiting("b"), waiting("b")], {}) == [*many, one]


def test_whose_turn_was_longest_ago() -> None:
    """With one slot nobody else is ever at work, and who asked for much had all turns before who came later."""
    many, one = [waiting("a") for _ in range(3)], waiting("b")
    assert by_turns([*many, one], [], {"a": 7}) == [one, *many]
    assert by_turns([*many, one], [], {"a": 7, "b": 9}) == [many[0], one, *many[1:]]


def test_36_side_requests_wait_for_conversations() -> None:
    title, talk = waiting("a", side=True), waiting("b")
    assert by_turns([title, talk], [waiting("b")], {}) == [talk, title]


@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=12),
    st.lists(st.sampled_from("abc"), max_size=4),
)
def test_turns_are_fair(kinds: list[tuple[str, bool]], busy: list[str]) -> None:
    queue = [waiting(client, side) for client, side in kinds]
    order = by_turns(queue, [waiting(client) for client in busy], {"a": 3})
    assert sorted(map(id, order)) == sorted(map(id, queue)), "each once"
    for one, two in itertools.pairwise(order):
        assert one.request.side <= two.request.side
    for client in "abc":
        for side in (False, True):
            own = [one for one in order if (one.request.client, one.request.side) == (client, side)]
            assert own == [one for one in queue if one in own], "in the order of coming"


# --- a full house


@contextmanager
def opened(served: Served, body: dict[str, Any] | None = None) -> Iterator[Iterator[str]]:
    """A stream that was begun, behind its first event; leaving the block closes it."""
    with (
        served.client() as client,
        client.stream("POST", CHAT, json={**BODY, **(body or {}), "stream": True}) as answer,
    ):
        assert answer.status_code == 200
        lines = answer.iter_lines()
        next(events(lines))
        yield lines


@contextmanager
def asked(served: Served, body: dict[str, Any], path: str = CHAT) -> Iterator[None]:
    """A request whose answer is not awaited: its connection is closed behind the block."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {len(data)}"
    with served.connect() as raw:
        raw.sendall(head.encode() + b"\r\n\r\n" + data)
        yield


@contextmanager
def in_background(served: Served, body: dict[str, Any]) -> Iterator[Future[httpx.Response]]:
    with served.client() as client, ThreadPoolExecutor(1) as pool:
        yield pool.submit(client.post, CHAT, json=body)


@pytest.fixture(scope="module")
def narrow(gguf: dict[str, Path]) -> Iterator[Served]:
    """One slot, and one place to wait."""
    with running(gguf["speaker"], Config(port=0, queue=1), slots=1) as one:
        yield one


@pytest.fixture
def client(narrow: Served) -> Iterator[httpx.Client]:
    with narrow.client() as one:
        yield one


def test_29_a_full_house(narrow: Served, client: httpx.Client) -> None:
    with saying(narrow.engine, SLOW, pause=PAUSE), opened(narrow), opened(narrow):
        answer = client.post(CHAT, json=BODY)
        error = error_of(answer, 429)
        assert error["code"] == "queue_full" and error["type"] == "rate_limit_error"
        assert 1 <= int(answer.headers["retry-after"]) <= MOST_WAIT
        for path, body in ((TEXT, SHORT), ("/v1/embeddings", {"input": "x"})):
            error_of(client.post(path, json=body), 429)
        with narrow.sdk() as sdk, pytest.raises(openai.RateLimitError):
            sdk.chat.completions.create(model="x", messages=HELLO)
        assert client.get("/health").json()["busy"] == 2
        assert "edge_queue_length 1.0" in client.get("/metrics").text
    until(lambda: narrow.idle)
    assert ask(client, SHORT, TEXT)["choices"]


def test_who_waits_is_told_so_and_then_answered(
    narrow: Served, client: httpx.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.server.stream.QUIET", 0.02)
    said = "slow " * 50
    with saying(narrow.engine, said, "hello", pause=PAUSE) as go, opened(narrow) as first, opened(narrow) as second:
        assert next(line for line in second if line.startswith(":")) == ": queue 0"
        go.set()
        assert joined(events(first)) == said and joined(events(second)) == "hello"


@pytest.mark.parametrize("streams", [False, True])
def test_36_who_goes_frees_the_slot(narrow: Served, client: httpx.Client, streams: bool) -> None:
    with saying(narrow.engine, SLOW, pause=PAUSE):
        if streams:
            with opened(narrow):
                until(lambda: narrow.engine._core.slots[0].owner)
        else:
            with asked(narrow, BODY):
                until(lambda: narrow.engine._core.slots[0].owner)
        until(lambda: narrow.idle)
    assert not any("failed" in line for line in narrow.log)
    assert ask(client, SHORT, TEXT)["usage"]["completion_tokens"]


@pytest.mark.parametrize("streams", [False, True])
def test_36_who_goes_while_waiting(narrow: Served, client: httpx.Client, streams: bool) -> None:
    """The one at work goes on: one cancel does not end another's answer."""
    said = "slow " * 50
    with saying(narrow.engine, said, pause=PAUSE) as go, opened(narrow) as first:
        if streams:
            with opened(narrow):
                assert narrow.serving.gate.inside == 2
        else:
            with asked(narrow, BODY):
                until(lambda: narrow.serving.gate.inside == 2 and narrow.engine._core._waiting)
        until(lambda: narrow.serving.gate.inside == 1 and not narrow.engine._core._waiting)
        go.set()
        assert joined(events(first)) == said
    until(lambda: narrow.idle)


def test_36_who_goes_in_a_long_prompt(narrow: Served) -> None:
    with asked(narrow, {"prompt": "long " * 700, "max_tokens": 500, "ignore_eos": True}, TEXT):
        until(lambda: narrow.engine._core.slots[0].owner)
    until(lambda: narrow.idle)
    assert len(narrow.engine._core.slots[0].tokens) < 4000, "it was not computed to its end"


def test_several_answers_go_together(narrow: Served) -> None:
    with saying(narrow.engine, SLOW, pause=PAUSE):
        with opened(narrow, {"n": 5}):
            assert narrow.serving.gate.inside == 5
        until(lambda: narrow.idle)


def test_one_that_is_wrong_leaves_nothing(narrow: Served, client: httpx.Client) -> None:
    for _ in range(3):
        error_of(client.post(CHAT, json={**BODY, "logit_bias": {"999999": 1}}), 400)
    until(lambda: narrow.idle)


# --- deadlines


@pytest.fixture(scope="module")
def hurried(gguf: dict[str, Path]) -> Iterator[Served]:
    with running(gguf["speaker"], Config(port=0, timeout=1.0), slots=1) as one:
        yield one


@pytest.mark.parametrize("streams", [False, True])
def test_09_an_answer_that_the_deadline_cut(hurried: Served, streams: bool) -> None:
    with saying(hurried.engine, SLOW, pause=0.005), hurried.client() as client:
        if streams:
            *chunks, done = stream(client, CHAT, BODY)
            text, reason = joined(chunks), choices_of(chunks)[-1]["finish_reason"]
            assert done == "[DONE]"
        else:
            (choice,) = ask(client, BODY)["choices"]
            text, reason = choice["message"]["content"], choice["finish_reason"]
    assert reason == "length" and text and SLOW.startswith(text) and len(text) < len(SLOW)
    until(lambda: hurried.idle)


def test_29_a_deadline_before_the_first_token(hurried: Served) -> None:
    with saying(hurried.engine, "hello", pause=None), hurried.client() as client:
        answer = client.post(CHAT, json=BODY)
        error = error_of(answer, 503)
        assert error["code"] == "deadline_exceeded" and int(answer.headers["retry-after"]) >= 1
        *_, last = stream(client, CHAT, BODY)
        assert last["error"]["code"] == "deadline_exceeded", "04: what had begun does not look like success"
    until(lambda: hurried.idle)


def test_waiting_is_part_of_the_time(hurried: Served) -> None:
    with saying(hurried.engine, "hello", pause=None), in_background(hurried, BODY) as first, hurried.client() as client:
        until(lambda: hurried.engine._core.slots[0].owner)
        assert error_of(client.post(CHAT, json=BODY), 503)["code"] == "deadline_exceeded"
        error_of(first.result(), 503)
    until(lambda: hurried.idle)


# --- side requests


TITLE = "### Task:\nGenerate a title."


@pytest.mark.parametrize("side", [{"messages": [{"role": "user", "content": TITLE}]}, {"service_tier": "flex"}])
def test_36_a_title_does_not_evict_the_chat(gguf: dict[str, Path], side: dict[str, Any]) -> None:
    def cached(beside: dict[str, Any]) -> tuple[int, int]:
        """Of a conversation's second question, after other requests: tokens that were cached, and of the first one."""
        with running(gguf["speaker"], slots=2) as served, served.client() as client, saying(served.engine, "yes"):
            talk = [{"role": "user", "content": "a long question " * 10}]
            first = ask(client, {"messages": talk})["usage"]["prompt_tokens"]
            for subject in "xyz":
                others = [{"role": "user", "content": f"{subject} other " * 5}]
                ask(client, {"messages": others, **beside})
            talk += [{"role": "assistant", "content": "yes"}, {"role": "user", "content": "sure?"}]
            usage = ask(client, {"messages": talk})["usage"]
            return usage["prompt_tokens_details"]["cached_tokens"], first

    kept, first = cached(side)
    assert kept >= first - 1
    evicted, first = cached({})
    assert evicted < first // 2, "without being told so, other requests would"


def test_36_what_makes_a_side_request(narrow: Served, client: httpx.Client) -> None:
    with saying(narrow.engine, "x"), watching(narrow.engine) as seen:
        ask(client, {"messages": [{"role": "user", "content": TITLE}]})
        ask(client, {"messages": HELLO, "service_tier": "flex"})
        ask(client, {"messages": HELLO, "service_tier": "auto"})
        ask(client, {"messages": [*HELLO, {"role": "user", "content": TITLE}]})
    assert [one.request.side for one in seen] == [True, True, False, False]
