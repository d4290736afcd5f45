"""Clients that dawdle. The server's patience is shortened, so it runs in this process."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from convert.pipeline import convert
from edge.server import guard, protocol
from tests.clients.raw import HOST, check_refused, read_answer, request
from tests.edge.server.running import Served, running

SHORT = 0.4  # seconds
SLOWLY = 0.05  # between two bytes
HELLO = json.dumps({"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}).encode()


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("slow") / "tiny-qwen-Q8_0.gguf"
    convert(Path(str(files("edge.models") / "tiny-qwen")), {"Q8_0": path})
    return path


@pytest.fixture(scope="module")
def hasty(gguf: Path) -> Iterator[Served]:
    patch = pytest.MonkeyPatch()
    patch.setattr(guard, "BODY_SECONDS", SHORT)
    patch.setattr(protocol, "HEAD_SECONDS", SHORT)
    with running(gguf) as served:
        yield served
        with served.client() as client:
            assert client.get("/health").json()["busy"] == 0
        assert not [line for line in served.log if "failed" in line]
    patch.undo()


@contextlib.contextmanager
def connected(served: Served) -> Iterator[socket.socket]:
    host, port = served.url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        yield connection


def trickle(connection: socket.socket, data: bytes) -> bool:
    """Byte after byte, for much longer than the server waits. Whether it was cut short."""
    try:
        for byte in data:
            connection.sendall(bytes([byte]))
            time.sleep(SLOWLY)
    except ConnectionError:
        return True
    return False


def test_a_connection_that_says_nothing_is_closed(hasty: Served):
    with connected(hasty) as connection:
        assert connection.recv(1) == b""


@pytest.mark.parametrize("head", [b"G", b"GET /health HTTP/1.1\r\n", b"GET /health HTTP/1.1\r\n" + HOST])
def test_half_a_head_is_closed(hasty: Served, head: bytes):
    with connected(hasty) as connection:
        connection.sendall(head)
        assert connection.recv(1) == b""


def test_a_head_in_single_bytes_is_closed(hasty: Served):
    """Each byte set the clock back: the connection stayed for as long as the client liked."""
    with connected(hasty) as connection:
        assert trickle(connection, b"GET /health HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 100)


def test_half_a_head_behind_a_whole_request_is_closed(hasty: Served):
    with connected(hasty) as connection, connection.makefile("rb") as file:
        connection.sendall(request("GET", "/health") + b"GET /v1/mod")
        first = read_answer(file)
        assert first is not None and first.status == 200
        connection.sendall(b"els")
        assert read_answer(file) is None


def test_half_a_head_on_a_used_connection_is_closed(hasty: Served):
    with connected(hasty) as connection, connection.makefile("rb") as file:
        for _ in range(2):
            connection.sendall(request("GET", "/health"))
            assert read_answer(file) is not None
        connection.sendall(b"GET /v1/mod")
        assert read_answer(file) is None


@pytest.mark.parametrize("sent", [0, 1, 20])
def test_half_a_body_is_refused(hasty: Served, sent: int):
    data = request("POST", "/v1/chat/completions", HELLO)
    with connected(hasty) as connection, connection.makefile("rb") as file:
        connection.sendall(data[: len(data) - len(HELLO) + sent])
        answer = read_answer(file)
        assert answer is not None
        check_refused(answer, 408)
        assert answer.json()["error"]["code"] == "request_timeout"
        assert read_answer(file) is None


def test_a_body_in_single_bytes_is_refused(hasty: Served):
    """What counts is the whole body's time."""
    data = request("POST", "/v1/chat/completions", HELLO)
    with connected(hasty) as connection, connection.makefile("rb") as file:
        connection.sendall(data[: -len(HELLO)])
        trickle(connection, HELLO)
        check_refused(read_answer(file), 408)


def test_an_answer_may_take_longer_than_a_body(hasty: Served):
    body = {"prompt": "The ticket office is", "max_tokens": 1200, "ignore_eos": True}
    with hasty.client() as client:
        began = time.monotonic()
        answer = client.post("/v1/completions", json=body)
        assert answer.status_code == 200 and time.monotonic() - began > SHORT


def test_a_kept_connection_may_be_idle_between_requests(hasty: Served):
    with connected(hasty) as connection, connection.makefile("rb") as file:
        for _ in range(2):
            connection.sendall(request("GET", "/health"))
            answer = read_answer(file)
            assert answer is not None and answer.status == 200
            time.sleep(2 * SHORT)
