"""A server that says what the test wrote down: the page's own files, its settings, and answers step by step."""

from __future__ import annotations

import json
import select
import socket
import threading
from collections import deque
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from edge.server.page_route import HEADERS, PAGE, TYPES

LONGEST = 30.0  # seconds that an answer waits for a test that has forgotten it

CUT = object()  # a step: the connection breaks
DONE = b"data: [DONE]\n\n"


def event(body: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"


def delta(finish: str | None = None, **fields: Any) -> bytes:
    return event({"choices": [{"index": 0, "delta": fields, "finish_reason": finish}]})


def comment(text: str) -> bytes:
    return f": {text}\n\n".encode()


def usage(rate: float = 12.5) -> bytes:
    timings = {"prompt_n": 100, "cache_n": 40, "predicted_n": 7, "predicted_per_second": rate}
    return event({"choices": [], "usage": {"prompt_tokens": 140, "completion_tokens": 7}, "timings": timings})


END = (delta("stop"), usage(), DONE)


@dataclass
class Answer:
    """steps: bytes to send, an Event to wait for, or CUT."""

    steps: list[Any] = field(default_factory=list)
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    gone: threading.Event = field(default_factory=threading.Event)  # the page closed the connection


def says(*texts: str) -> Answer:
    return Answer([*(delta(content=text) for text in texts), *END])


def fails(status: int, message: str = "no", code: str | None = None, **headers: str) -> Answer:
    body = {"error": {"message": message, "type": "error", "param": None, "code": code}}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer([json.dumps(body).encode()], status, named)


class Scripted:
    """``answers`` are given in turn, then "Hello." for ever; ``asked`` and ``keys`` are what came.

    ``wipes``: how many questions had come each time when the page had the server forget; ``wipe_status`` is its answer.
    """

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {
            "model": "qwen2.5-7b",
            "quant": "Q4_K_M",
            "n_ctx": 4096,
            "key_needed": False,
            "thinks": True,
            "ready": True,
            "kiosk": None,
        }
        self.answers: deque[Answer] = deque()
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.wipes: list[int] = []
        self.wipe_status = 200
        self.closing = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def will(self, *answers: Answer) -> Answer:
        """Gives the last of them back, whose steps and ``gone`` the test may hold on to."""
        self.answers.extend(answers)
        return answers[-1]

    def close(self) -> None:
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def handler_of(script: Scripted) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            if self.path == "/page/settings.json":
                self.reply(200, "application/json", json.dumps(script.settings).encode())
                return
            path = PAGE / ("index.html" if self.path == "/" else self.path.removeprefix("/page/"))
            if path.parent == PAGE and path.is_file():
                self.reply(200, TYPES[path.suffix], path.read_bytes())
            else:
                self.reply(404, "text/plain", b"")

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path == "/kiosk/wipe":
                script.wipes.append(len(script.asked))
                self.reply(script.wipe_status, "application/json", b"{}")
                return
            script.asked.append(body)
            script.keys.append(self.headers.get("Authorization"))
            answer = script.answers.popleft() if script.answers else says("Hello.")
            if answer.status != 200:
                self.reply(answer.status, "application/json", answer.steps[0], answer.headers)
                return
            self.close_connection = True
            try:
                self.play(answer)
            except OSError:
                answer.gone.set()

        def play(self, answer: Answer) -> None:
            self.start(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
            for step in answer.steps:
                if step is CUT:
                    return
                if isinstance(step, threading.Event):
                    self.wait_for(step)
                else:
                    self.chunk(step)
            self.chunk(b"")

        def wait_for(self, step: threading.Event) -> None:
            for _ in range(int(LONGEST / 0.02)):
                if step.wait(0.02) or script.closing.is_set():
                    return
                readable, _, _ = select.select([self.connection], [], [], 0)
                if readable and self.connection.recv(1, socket.MSG_PEEK) == b"":
                    raise ConnectionResetError

        def chunk(self, data: bytes) -> None:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))
            self.wfile.flush()

        def reply(self, status: int, kind: str, body: bytes, more: dict[str, str] | None = None) -> None:
            self.start(status, {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})})
            self.wfile.write(body)

        def start(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in (HEADERS | headers).items():
                self.send_header(name, value)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler
