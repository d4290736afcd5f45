"""What a service manager hears of a server, from loading to the end."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from edge.api import Engine
from edge.llama.model import ModelError
from edge.server import watchdog
from edge.server.notify import Manager
from tests.edge.server.running import HELLO, PATIENCE, Served, ask, running, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names of sockets outside the file system")

WATCHDOG = 0.3  # seconds
SIGN = "WATCHDOG=1"


@dataclass
class Heard:
    """The lines that came, and the manager that sends them here."""

    manager: Manager
    lines: list[str] = field(default_factory=list)

    def signs(self) -> int:
        return self.lines.count(SIGN)

    def gives_signs(self) -> None:
        """Wait for what comes thrice in the time of the watchdog."""
        before = self.signs()
        until(lambda: self.signs() >= before + 3)

    def is_silent(self) -> bool:
        """From now on, for longer than the watchdog waits."""
        before = self.signs()
        time.sleep(WATCHDOG * 1.5)
        return self.signs() <= before + 1  # one may be on its way


@pytest.fixture
def heard() -> Iterator[Heard]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind("")  # a name that is free
        address = "\0" + listening.getsockname()[1:].decode()
        heard = Heard(Manager(address, WATCHDOG))

        def listen() -> None:
            while (message := listening.recv(4096).decode()) != "end":
                heard.lines.extend(message.splitlines())

        thread = threading.Thread(target=listen)
        thread.start()
        yield heard
        heard.manager.tell("end")
        thread.join(PATIENCE)
        assert not thread.is_alive()


@pytest.fixture
def served(heard: Heard, gguf: dict[str, Path]) -> Iterator[Served]:
    with running(gguf["tiny-qwen"], manager=heard.manager) as one:
        until(lambda: "READY=1" in heard.lines)
        yield one


def slowly(path: Path, monkeypatch: pytest.MonkeyPatch, first: Callable[[], object]) -> Callable[[], Engine]:
    """Loads, and does something before the first token."""
    generate = Engine.generate

    def wait(engine: Engine, *args: Any, **options: Any) -> Any:
        first()
        return generate(engine, *args, **options)

    monkeypatch.setattr(Engine, "generate", wait)
    return lambda: Engine(path)


def test_ready_is_told_after_a_token(heard: Heard, gguf: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    go = threading.Event()
    load = slowly(gguf["tiny-qwen"], monkeypatch, lambda: go.wait(PATIENCE))
    with running(gguf["tiny-qwen"], load=load, manager=heard.manager) as served, served.client() as client:
        until(lambda: served.serving.begun is not None)
        time.sleep(0.1)
        assert heard.lines == ["STATUS=loading tiny-qwen-Q8_0"] and client.get("/health").status_code == 503
        go.set()
        until(lambda: "READY=1" in heard.lines)
        assert served.engine.steps > 0 and client.get("/health").status_code == 200
    assert heard.lines.index("READY=1") < heard.lines.index("STOPPING=1")


def test_a_model_without_a_token_is_never_ready(
    heard: Heard, gguf: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise ModelError("it computes values that are not numbers")

    load = slowly(gguf["tiny-qwen"], monkeypatch, fail)
    with pytest.raises(ModelError), running(gguf["tiny-qwen"], load=load, manager=heard.manager) as served:
        until(lambda: served.serving.failure)
    served.serving.close()
    assert "READY=1" not in heard.lines and SIGN not in heard.lines


def test_loading_that_gets_on_is_given_time(
    heard: Heard, gguf: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what hangs is not."""
    work = 0
    go = threading.Event()
    monkeypatch.setattr(watchdog, "LOADING_SECONDS", 0.02)
    monkeypatch.setattr(watchdog, "work_done", lambda serving: work)
    load = slowly(gguf["tiny-qwen"], monkeypatch, lambda: go.wait(PATIENCE))
    more = f"EXTEND_TIMEOUT_USEC={watchdog.MORE_SECONDS * 1_000_000}"
    with running(gguf["tiny-qwen"], load=load, manager=heard.manager):
        time.sleep(0.2)
        assert more not in heard.lines
        for count in (1, 2):
            work += 1
            until(lambda count=count: heard.lines.count(more) == count)
        time.sleep(0.2)
        assert heard.lines.count(more) == 2
        go.set()


def test_work_is_seen(heard: Heard, served: Served) -> None:
    before = watchdog.work_done(served.serving)
    with served.client() as client:
        ask(client, {"messages": HELLO, "max_tokens": 4})
    assert watchdog.work_done(served.serving) >= before + 4


def test_signs_while_nobody_asks(heard: Heard, served: Served) -> None:
    heard.gives_signs()
    assert served.engine.idle


def test_signs_while_it_gets_on(heard: Heard, served: Served) -> None:
    """However long it goes on without a pause."""
    ends = [served.engine.call(lambda: time.sleep(0.05)) for _ in range(20)]
    heard.gives_signs()
    assert not ends[-1].done()
    ends[-1].result(PATIENCE)


def test_a_slow_step_is_no_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug: with three looks a watchdog, steps of just over two thirds of its seconds were told too late: a prompt
    that a slow machine reads in steps of 21 s was taken for a hang, for ever."""
    now, step, told = 0.0, 25.0, [0.0]

    async def pass_by(seconds: float) -> None:
        nonlocal now
        now += seconds
        if now > 1000:
            raise asyncio.CancelledError

    def tell(*lines: str) -> None:
        told.append(now)

    monkeypatch.setattr(asyncio, "sleep", pass_by)
    serving: Any = SimpleNamespace(engine=Steps(lambda: int(now / step)))
    manager: Any = SimpleNamespace(tell=tell)
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(watchdog.give_signs(manager, serving, 30.0 / watchdog.LOOKS))
    assert len(told) > 30 and max(later - one for one, later in pairwise(told)) < 30.0


class Steps:
    """An engine that is always at work."""

    idle = False

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    @property
    def steps(self) -> int:
        return self._count()


def test_no_sign_where_it_hangs(heard: Heard, served: Served) -> None:
    """The loop of the server runs on meanwhile."""
    go = threading.Event()
    end = served.engine.call(lambda: go.wait(PATIENCE))
    until(lambda: not served.engine.idle)
    with served.client() as client:
        assert heard.is_silent() and client.get("/v1/models").status_code == 200
    go.set()
    end.result(PATIENCE)
    heard.gives_signs()


def test_no_sign_of_an_engine_that_failed(heard: Heard, served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would answer every request with an error until somebody came."""

    def fail(*args: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(served.engine._core._runner, "run", fail)
    with served.client() as client:
        assert client.post("/v1/chat/completions", json={"messages": HELLO}).status_code == 500
    assert heard.is_silent()


def test_nothing_without_a_watchdog(heard: Heard, gguf: dict[str, Path]) -> None:
    with running(gguf["tiny-qwen"], manager=Manager(heard.manager.address)):
        until(lambda: "READY=1" in heard.lines)
        time.sleep(0.1)
    assert SIGN not in heard.lines
