"""The real service under a fake of systemd: what it tells, and that a hang inside C ends."""

from __future__ import annotations

import signal
import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.kiosk.fake_systemd import PATIENCE, FakeSystemd

SECRET = "my diary says zanzibar"
WATCHDOG = 3.0  # seconds


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as one:
        yield one


def command(gguf: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "edge", "serve", str(gguf), "--alias", "kiosk", "-v", *more]


def client(listening: socket.socket) -> httpx.Client:
    return httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", trust_env=False, timeout=PATIENCE)


def ask(listening: socket.socket, **more: object) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": SECRET}], "max_tokens": 4, **more}
    with client(listening) as one:
        return one.post("/v1/chat/completions", json=body)


def test_a_life(gguf: Path, listening: socket.socket) -> None:
    """Ready after a token, alive while idle and while at work, and an end in order. No line holds what was asked."""
    with FakeSystemd(command(gguf), listening, watchdog=WATCHDOG) as systemd:
        answer = ask(listening)  # before it is there: it waits in the socket
        assert answer.status_code in (200, 503)
        systemd.wait("ready")
        assert ask(listening).status_code == 200
        until = time.monotonic() + 2 * WATCHDOG
        while time.monotonic() < until:  # at work without a pause
            assert ask(listening, max_tokens=100).status_code == 200
        time.sleep(2 * WATCHDOG)  # and idle
        assert ask(listening, temperature="warm").status_code == 400, "also when something is refused"
        assert not systemd.of("starved")
        said = systemd.said()
    assert [event.what for event in systemd.events] == ["started", "ready", "stopping", "ended"]
    assert systemd.events[-1].detail in ("0", str(-signal.SIGTERM))
    assert systemd.messages[0] == "STATUS=loading kiosk" and "READY=1" in systemd.messages
    assert "POST /v1/chat/completions 200" in said and "zanzibar" not in said


def test_who_asks_while_it_restarts_waits(gguf: Path, listening: socket.socket) -> None:
    with FakeSystemd(command(gguf), listening, watchdog=WATCHDOG) as systemd:
        systemd.wait("ready")
        assert systemd.process is not None
        systemd.process.kill()
        systemd.wait("ended")
        began = time.monotonic()
        while ask(listening).status_code != 200:  # while it loads it says so
            time.sleep(0.05)
        assert len(systemd.of("started")) == 2
        print(f"\nSIGKILL to the next answer: {time.monotonic() - began:.1f} s")


def test_a_hang_in_native_code(gguf: Path, hanging: Path, listening: socket.socket, tmp_path: Path) -> None:
    """A timer in a thread would go on telling that all is well. Who asked the process that hung is not answered."""
    hang = tmp_path / "hang"
    environment = {"LD_PRELOAD": str(hanging), "HANG_FILE": str(hang)}
    with (
        FakeSystemd(command(gguf), listening, watchdog=WATCHDOG, environment=environment) as systemd,
        ThreadPoolExecutor() as pool,
    ):
        systemd.wait("ready")
        assert ask(listening).status_code == 200
        hang.touch()
        began = time.monotonic()
        lost = pool.submit(ask, listening)
        killed = systemd.wait("starved").at
        hang.unlink()
        assert isinstance(lost.exception(PATIENCE), httpx.RemoteProtocolError | httpx.ReadError)
        systemd.wait("ready", 2)
        assert ask(listening).status_code == 200
        answered = time.monotonic()
        said = systemd.said()
    assert systemd.of("ended")[0].detail == str(-signal.SIGABRT)
    assert WATCHDOG - 1 < killed - began < WATCHDOG * 4 / 3 + 1
    assert "in decode" in said and "zanzibar" not in said, "the log shows where it hung, and not what was asked"
    print(f"\nhang to kill: {killed - began:.1f} s of {WATCHDOG:.0f} s, to the next answer: {answered - began:.1f} s")


def test_a_hang_before_it_is_ready(gguf: Path, hanging: Path, listening: socket.socket, tmp_path: Path) -> None:
    """No token, not ready: it is started again when the time for a start is over."""
    (hang := tmp_path / "hang").touch()
    environment = {"LD_PRELOAD": str(hanging), "HANG_FILE": str(hang)}
    with FakeSystemd(command(gguf), listening, start=15, environment=environment) as systemd:
        systemd.wait("late")
        assert not systemd.of("ready")
        hang.unlink()
        systemd.wait("ready")
        assert ask(listening).status_code == 200
