"""HTTP by hand: what no client library would send."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import Message
from typing import Any, BinaryIO

from tests.clients.command import Command

PATIENCE = 30  # seconds; a server that says nothing and keeps the connection open is hanging
HOST = b"Host: 127.0.0.1\r\n"


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@contextmanager
def connected(server: Command) -> Iterator[socket.socket]:
    with socket.create_connection(server.address, timeout=PATIENCE) as connection:
        yield connection


def request(method: str, path: str, body: bytes | None = None, headers: bytes = b"") -> bytes:
    """Well-formed, but for what is in its parts."""
    head = f"{method} {path} HTTP/1.1\r\n".encode() + HOST + headers
    if body is None:
        return head + b"\r\n"
    return head + b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def post(path: str, body: Any) -> bytes:
    return request("POST", path, json.dumps(body).encode())


def ask(server: Command, data: bytes, *, end: bool = False) -> Answer | None:
    """The answer to these bytes, None where the connection was closed instead. ``end``: nothing more will be sent."""
    with connected(server) as connection:
        send(connection, data)
        if end:
            end_sending(connection)
        with connection.makefile("rb") as file:
            return read_answer(file, without_body=data.startswith(b"HEAD"))


def send(connection: socket.socket, data: bytes) -> None:
    """A server need not read all of what it refuses."""
    with suppress(ConnectionError):
        connection.sendall(data)


def end_sending(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)


def read_answer(file: BinaryIO, *, without_body: bool = False) -> Answer | None:
    """The next answer of a connection, None at its end."""
    try:
        line = file.readline()
        if not line:
            return None
        assert line.startswith(b"HTTP/1.1 "), line
        status = int(line.split()[1])
        headers = http.client.parse_headers(file)
        if status < 200:
            return read_answer(file, without_body=without_body)
        return Answer(status, headers, b"" if without_body else read_body(file, status, headers))
    except ConnectionError:
        return None


def read_body(file: BinaryIO, status: int, headers: Message) -> bytes:
    if status in (204, 304):
        return b""
    if headers.get("transfer-encoding") == "chunked":
        data = b""
        while size := int(file.readline(), 16):
            data += file.read(size)
            file.readline()
        file.readline()
        return data
    length = headers.get("content-length")
    return file.read() if length is None else file.read(int(length))


def check_refused(answer: Answer | None, *statuses: int) -> None:
    """Closed without a word, or a 4xx in OpenAI's shape."""
    if answer is None:
        return
    assert 400 <= answer.status < 500 and (not statuses or answer.status in statuses), answer
    assert answer.headers["content-type"] == "application/json"
    error = answer.json()["error"]
    assert error.keys() >= {"message", "type", "param", "code"} and error["message"] and error["type"]
