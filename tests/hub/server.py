"""One HTTP/1.1 server on loopback: it records each request, and sends answers with their faults."""

from __future__ import annotations

import os
import re
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qs, unquote, urlsplit

from tests.hub.content import StoredFile
from tests.hub.faults import (
    ErrorPage,
    Fault,
    IgnoreRange,
    RangeAs200,
    Redirect,
    Reset,
    RetryLater,
    ShortBody,
    Slow,
    Stall,
    Status,
    WrongBytes,
)

SLOW_STEP = 0.02  # seconds between two writes of a slow body


@dataclass
class Request:
    """A request as it came. `path` has the query; `sent` counts the body's bytes handed to the socket so far."""

    server: str
    method: str
    path: str
    headers: Message
    status: int = 0
    sent: int = 0

    @property
    def url_path(self) -> str:
        return unquote(urlsplit(self.path).path)

    @property
    def segments(self) -> list[str]:
        """The path's parts. Split before decoding: a slash inside a revision or a folder comes as %2F."""
        return [unquote(segment) for segment in urlsplit(self.path).path.strip("/").split("/")]

    @property
    def query(self) -> dict[str, str]:
        return {name: values[-1] for name, values in parse_qs(urlsplit(self.path).query).items()}

    @property
    def range(self) -> str | None:
        return self.headers["Range"]

    @property
    def authorization(self) -> str | None:
        return self.headers["Authorization"]


@dataclass
class Answer:
    """What to send. A range is honoured only where the body is a StoredFile."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: StoredFile | bytes = b""
    fault: Fault | None = None


def span(header: str | None, size: int) -> tuple[int, int] | None:
    """(start, stop) that a Range header asks of `size` bytes (RFC 9110, 14.2); start >= stop: it cannot be satisfied.

    None: it asks for no range, or in a way that a server may ignore, as it does several ranges at once.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if not match or not any(match.groups()):
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


def part(size: int, header: str | None, fault: Fault | None) -> tuple[int, dict[str, str], int, int]:
    """(status, headers, start, stop) of the answer with a file's bytes."""
    asked = None if isinstance(fault, IgnoreRange) else span(header, size)
    if asked is None:
        return 200, {}, 0, size
    start, stop = asked
    if start >= stop:
        return 416, {"Content-Range": f"bytes */{size}"}, 0, 0
    status = 200 if isinstance(fault, RangeAs200) else 206
    return status, {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}, start, stop


class Server(ThreadingHTTPServer):
    """`route` makes the answers. Nothing listens before `start`: the port is held, and connections are refused."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, name: str, route: Callable[[Request], Answer], requests: list[Request], port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler, bind_and_activate=False)
        self.name, self.route, self.requests = name, route, requests
        self.errors: list[BaseException] = []
        self.connections: set[socket.socket] = set()
        self.closing = threading.Event()
        self.server_bind()

    def server_bind(self) -> None:
        # HTTPServer's own asks the name service for the host's full name.
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", self.socket.getsockname()[1]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def start(self) -> None:
        self.server_activate()
        threading.Thread(target=self.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self) -> None:
        """Refuse new connections and cut those that are open."""
        self.closing.set()
        self.shutdown()
        self.server_close()
        for connection in list(self.connections):
            with suppress(OSError):  # the client, or a scripted reset, was faster
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exception()
        if error is not None and not isinstance(error, ConnectionError):
            self.errors.append(error)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self) -> None:
        super().setup()
        self.owner = cast(Server, self.server)
        self.owner.connections.add(self.connection)

    def finish(self) -> None:
        self.owner.connections.discard(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        request = Request(self.owner.name, self.command, self.path, self.headers)
        self.owner.requests.append(request)
        answer = self.owner.route(request)
        fault = answer.fault
        match fault:
            case Status(code, headers, body):
                answer = Answer(code, dict(headers), body)
            case RetryLater(seconds, as_date, code):
                when = formatdate(time.time() + seconds, usegmt=True) if as_date else str(seconds)
                answer = Answer(code, {"Retry-After": when}, b"scripted: too many requests")
            case Redirect(location):
                answer = Answer(302, {"Location": location.format(path=request.path)}, b"scripted: moved")
            case Reset(None):
                self.reset()
                return
        self.send(request, answer, fault)

    do_HEAD = do_GET

    def send(self, request: Request, answer: Answer, fault: Fault | None) -> None:
        status, headers, start = answer.status, answer.headers, 0
        if isinstance(answer.body, StoredFile):
            status, ranged, start, stop = part(answer.body.size, request.range, fault)
            headers = {"Accept-Ranges": "bytes"} | headers | ranged
            length, chunks = stop - start, answer.body.read(start, stop)
        else:
            length, chunks = len(answer.body), iter((answer.body,))
        request.status = status
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Transfer-Encoding" not in headers:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        if request.method != "HEAD":
            self.transfer(request, chunks, start, fault)

    def transfer(self, request: Request, chunks: Iterable[bytes], start: int, fault: Fault | None) -> None:
        match fault:
            case ShortBody(after) | ErrorPage(after) | Stall(after) | Reset(int(after)):
                chunks = first_bytes(chunks, after)
            case WrongBytes(at):
                chunks = flipped(chunks, at - start)
            case Slow(rate):
                chunks = self.paced(chunks, rate)
        for chunk in chunks:
            request.sent += len(chunk)
            self.wfile.write(chunk)
        match fault:
            case ShortBody():
                self.close_connection = True
            case ErrorPage():
                self.wfile.write(fault.text)
                self.close_connection = True
            case Reset():
                self.reset()
            case Stall():
                self.connection.recv(1)  # returns when the client leaves or the server stops
                self.close_connection = True

    def paced(self, chunks: Iterable[bytes], rate: int) -> Iterator[bytes]:
        step = max(1, int(rate * SLOW_STEP))
        for chunk in chunks:
            for i in range(0, len(chunk), step):
                yield chunk[i : i + step]
                if self.owner.closing.wait(step / rate):
                    return

    def reset(self) -> None:
        """Close so that the client gets a reset (RST), not an end."""
        self.close_connection = True
        linger = struct.pack("hh" if os.name == "nt" else "ii", 1, 0)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.owner.connections.discard(self.connection)
        socket.close(self.connection.detach())


def first_bytes(chunks: Iterable[bytes], count: int) -> Iterator[bytes]:
    for chunk in chunks:
        if count <= 0:
            return
        yield chunk[:count]
        count -= len(chunk)


def flipped(chunks: Iterable[bytes], at: int) -> Iterator[bytes]:
    """The same bytes, but that at offset `at` of this stream (if it is in there) with every bit turned."""
    for chunk in chunks:
        if 0 <= at < len(chunk):
            chunk = chunk[:at] + bytes([chunk[at] ^ 0xFF]) + chunk[at + 1 :]
        at -= len(chunk)
        yield chunk
