"""``POST /kiosk/wipe``: what the engine keeps of a visitor who has gone, and of one who has not."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest

from edge.server.config import Config, Kiosk
from tests.edge.server.running import CHAT, HELLO, Served, ask, error_of, events, joined, running, until
from tests.edge.server.saying import saying

WIPE = "/kiosk/wipe"
VISITOR = {"messages": [{"role": "user", "content": "a private matter " * 5}], "max_tokens": 3}


@pytest.fixture(scope="module")
def kiosk(gguf: dict[str, Path]) -> Iterator[Served]:
    with running(gguf["speaker"], Config(port=0, kiosk=Kiosk()), slots=2) as one:
        yield one


@pytest.fixture
def client(kiosk: Served) -> Iterator[httpx.Client]:
    with kiosk.client() as one:
        yield one


def kept(served: Served) -> list[tuple[int, int]]:
    """Of each slot: how many tokens it is said to hold, and the cache's last position."""
    context = served.engine.context
    return [(len(slot.tokens), context.memory_last(slot.index)) for slot in served.engine._core.slots]


def cached(answer: dict[str, Any]) -> int:
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


def test_nothing_of_a_visitor_stays(kiosk: Served, client: httpx.Client) -> None:
    ask(client, VISITOR)
    assert max(kept(kiosk))[0] > 50 and cached(ask(client, VISITOR)) > 50
    assert ask(client, {}, WIPE) == {"status": "ok"}
    assert kept(kiosk) == [(0, -1)] * 2
    cells = kiosk.engine.call(lambda: bytes(kiosk.engine.context.get_state(0))).result()
    assert len(cells) < 200, "no keys, no values"
    assert cached(ask(client, VISITOR)) == 0


@pytest.mark.parametrize("stays", [False, True])
def test_one_who_is_answered_is_not_disturbed(kiosk: Served, client: httpx.Client, stays: bool) -> None:
    """What they leave is forgotten when they end, though others come at once, and all at the next quiet moment."""
    ask(client, VISITOR)
    said = "slow " * 20
    with (
        saying(kiosk.engine, said, pause=0.05) as go,
        kiosk.client() as other,
        other.stream("POST", CHAT, json={"messages": HELLO, "stream": True}) as answer,
    ):
        found = events(answer.iter_lines())
        assert next(found) and next(found)
        ask(client, {}, WIPE)
        (at_work,) = [slot for slot in kiosk.engine._core.slots if slot.owner]
        assert at_work.tokens and sum(count > 0 for count, _ in kept(kiosk)) == 1
        if stays:
            go.set()
            rest = joined(found)
            assert rest and said.endswith(rest)
    until(lambda: kiosk.idle and kept(kiosk) == [(0, -1)] * 2)
    assert not any("failed" in line for line in kiosk.log)


def test_what_is_left_goes_though_it_is_never_quiet(kiosk: Served, client: httpx.Client) -> None:
    """A visitor's answer was at work when they left; their text stayed as long as there was always somebody else."""
    with saying(kiosk.engine, "slow " * 10, "slow " * 200, pause=0.02), ThreadPoolExecutor(2) as pool:
        first = pool.submit(ask, client, VISITOR | {"max_tokens": 20})
        until(lambda: any(slot.tokens for slot in kiosk.engine._core.slots))
        ask(client, {}, WIPE)
        pool.submit(ask, client, {"messages": HELLO, "max_tokens": 60})
        first.result()
        until(lambda: sum(count > 0 for count, _ in kept(kiosk)) == 1)
        assert [slot.tokens for slot in kiosk.engine._core.slots if not slot.owner] == [[]], "the other goes on"
    until(lambda: kiosk.idle)


def test_what_conversations_begin_with_stays(kiosk: Served, client: httpx.Client) -> None:
    talk = [{"role": "system", "content": "You are a guide. " * 10}, *HELLO]
    tokens = kiosk.engine.prepare_chat(talk).request.tokens[:150]
    kiosk.engine.compute_prefix(tokens).result()
    ask(client, VISITOR)
    ask(client, {}, WIPE)
    assert kept(kiosk) == [(150, 149), (0, -1)]
    assert cached(ask(client, {"messages": talk, "max_tokens": 2})) == 150


def test_a_body_of_json_and_nothing_in_it(kiosk: Served, client: httpx.Client) -> None:
    """A page from elsewhere cannot send that."""
    error_of(client.post(WIPE, content=b"{}", headers={"Content-Type": "text/plain"}), 415)
    error_of(client.post(WIPE, content=b"{}"), 415)
    assert error_of(client.post(WIPE, json={"slot": 1}), 400)["param"] == "slot"
    error_of(client.post(WIPE, json=[]), 400)
    error_of(client.get(WIPE), 405)


def test_only_who_may_ask_may_wipe(gguf: dict[str, Path]) -> None:
    with running(gguf["speaker"], Config(port=0, keys=("secret",), kiosk=Kiosk())) as served, served.client() as client:
        error_of(client.post(WIPE, json={}), 401)
        assert client.post(WIPE, json={}, headers={"Authorization": "Bearer secret"}).status_code == 200


def test_without_a_kiosk_there_is_no_such_thing(told: httpx.Client) -> None:
    error_of(told.post(WIPE, json={}), 404)
