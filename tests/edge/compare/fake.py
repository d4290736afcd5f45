"""A server that answers what a test tells it, as OpenAI's do."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Reply = list[Mapping[str, Any] | bytes] | tuple[int, bytes]  # events, raw lines among them; or a status and a body


@dataclass
class Fake:
    base: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)


def piece(text: str, **more: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": {"content": text, **more}, "finish_reason": None}]}


def end(prompt: int = 5, tokens: int = 2) -> list[Mapping[str, Any] | bytes]:
    return [
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
        {"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": tokens}},
        b"[DONE]",
    ]


def says(text: str) -> Reply:
    return [*(piece(part) for part in (text[:3], text[3:])), *end()]


@contextmanager
def fake(reply: Callable[[dict[str, Any]], Reply], models: tuple[str, ...] = ("one",)) -> Iterator[Fake]:
    """Serves on loopback until the block ends; ``reply`` gets each body that is posted."""
    state = Fake("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.respond(200, json.dumps({"data": [{"id": one} for one in models]}).encode())

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            state.asked.append(body)
            state.keys.append(self.headers["Authorization"])
            answer = reply(body)
            if isinstance(answer, tuple):
                self.respond(*answer)
                return
            lines = [one if isinstance(one, bytes) else json.dumps(one).encode() for one in answer]
            self.respond(200, b"".join(b"data: " + line + b"\n\n" for line in lines))

        def respond(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.base = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
