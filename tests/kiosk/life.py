"""A kiosk's whole life where there is no network: a program of its own, on the standard library and two boxes.

``life.py JSON``: ``box``, ``update``, ``fingerprint``, ``titles`` of their pages, and ``folder``, where it lives.
``fake_systemd.py`` lies beside it. Its last line is JSON with what was measured.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from fake_systemd import PATIENCE, FakeSystemd  # pyright: ignore[reportMissingImports]

TOLD = json.loads(sys.argv[1])
ROOT = Path(TOLD["folder"]) / "root"
NO_SERVICE = ("--root", str(ROOT), "--no-service")
LEAST_SPEED = "0.01"  # a plan knows nothing of what a step costs beside its arithmetic, which is most of a tiny model


def run(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


def edge(*arguments: str) -> str:
    return run(str(ROOT / "edge"), *arguments)


def install(box: str, *more: str) -> str:
    return run(sys.executable, box, "install", *NO_SERVICE, "--min-speed", LEAST_SPEED, *more)


def status() -> dict[str, Any]:
    return json.loads(edge("kiosk", "status", "--root", str(ROOT), "--json"))


def no_network() -> None:
    """Else the test tests something else."""
    assert [line.split(":")[0].strip() for line in Path("/proc/net/dev").read_text().splitlines()[2:]] == ["lo"]
    assert Path("/proc/net/route").read_text().count("\n") <= 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))
        except OSError as error:
            assert error.strerror == "Network is unreachable"
        else:
            raise AssertionError("there is a network")


# --- the service


@contextmanager
def served(listening: socket.socket) -> Iterator[FakeSystemd]:
    command = [sys.executable, str(ROOT / "current" / "box" / "launch.py"), "serve", "-v"]
    with FakeSystemd(command, listening, watchdog=30, start=PATIENCE) as systemd:
        systemd.wait("ready")
        yield systemd


def request(listening: socket.socket, method: str, path: str, body: object = None) -> str:
    connection = HTTPConnection("127.0.0.1", listening.getsockname()[1], timeout=PATIENCE)
    try:
        connection.request(method, path, body and json.dumps(body), {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read().decode()
        assert response.status == 200, f"{path}: {response.status} {text}"
        return text
    finally:
        connection.close()


def answer(listening: socket.socket) -> str:
    """The same question each time, drawn without chance."""
    messages = [{"role": "user", "content": "When do you open?"}]
    body = {"messages": messages, "temperature": 0, "max_tokens": 16}
    said = json.loads(request(listening, "POST", "/v1/chat/completions", body))
    assert said["usage"]["completion_tokens"] > 0
    return said["choices"][0]["message"]["content"]


def answer_again(listening: socket.socket) -> str:
    """While it loads it says so."""
    until = time.monotonic() + PATIENCE
    while True:
        try:
            return answer(listening)
        except (AssertionError, OSError, HTTPException):
            if time.monotonic() > until:
                raise
            time.sleep(0.05)


def live(listening: socket.socket, title: str) -> str:
    """One version: its page, an answer, a death, and the same answer, warm."""
    with served(listening) as systemd:
        assert json.loads(request(listening, "GET", "/page/settings.json"))["kiosk"]["title"] == title
        first, before = answer(listening), systemd.said()
        systemd.process.kill()
        systemd.wait("ended")
        assert answer_again(listening) == first
        systemd.wait("ready", 2)
        assert "warm start" in systemd.said()[len(before) :], systemd.said()
    return first


def main() -> None:
    no_network()
    began = time.monotonic()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as listening:
        install(TOLD["box"], "--key", TOLD["fingerprint"])
        old = status()["current"]
        first = live(listening, TOLD["titles"][0])

        with served(listening):  # it serves while the next one is installed beside it
            install(TOLD["update"])
            assert answer(listening) == first
        new = status()
        assert new["current"]["slot"] != old["slot"] and new["previous"] == old
        live(listening, TOLD["titles"][1])

        edge("rollback", *NO_SERVICE)
        back = status()
        assert back["current"] == old and back["previous"] == new["current"]
        assert live(listening, TOLD["titles"][0]) == first
        assert "every file is as it was signed" in edge("kiosk", "verify", "--root", str(ROOT))
    lived = time.monotonic() - began
    report = Path(TOLD["folder"]) / "report.md"
    proof = json.loads(edge("prove-offline", "--root", str(ROOT), "-o", str(report), "--json"))
    assert proof["proven"] and proof["way"] == "namespaces"
    no_network()
    print(json.dumps({"seconds": lived, "attempts": len(proof["rows"]), "log": back["log"]}))


if __name__ == "__main__":
    main()
