"""Ask the service something, through the socket that was passed to it."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Any

from convert.errors import EdgeError

LARGEST = 1 << 20  # bytes
SECONDS = 600.0
TOKENS = 32
Address = tuple[str, int] | str  # host and port, or the path of a Unix socket


@dataclass(frozen=True)
class Answer:
    """``tokens`` of the answer; ``seconds`` from the question to its end."""

    question: str
    text: str
    tokens: int
    seconds: float


class Connection(HTTPConnection):
    """Over the network or a Unix socket; no proxy comes between."""

    def __init__(self, address: Address, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.address = address

    def connect(self) -> None:
        if isinstance(self.address, str):
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(self.address)
        else:
            self.sock = socket.create_connection(self.address, self.timeout)


def request(address: Address, method: str, path: str, body: Any, timeout: float, key: str = "") -> tuple[int, Any]:
    """Status and what the JSON of the answer says. Raises OSError, HTTPException, ValueError."""
    connection = Connection(address, timeout)
    try:
        data = None if body is None else json.dumps(body).encode()
        known = {"Authorization": f"Bearer {key}"} if key else {}
        connection.request(method, path, data, {"Content-Type": "application/json", **known})
        response = connection.getresponse()
        return response.status, json.loads(response.read(LARGEST))
    finally:
        connection.close()


def is_ready(address: Address) -> bool:
    try:
        return request(address, "GET", "/health", None, 5.0)[0] == 200
    except (OSError, HTTPException, ValueError, RecursionError):
        return False


def ask(address: Address, question: str, key: str = "") -> Answer:
    """``key``: of the service's clients, where it asks for one. Raises EdgeError when it does not answer."""
    body = {
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": TOKENS,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    began = time.monotonic()
    try:
        status, answer = request(address, "POST", "/v1/chat/completions", body, SECONDS, key)
        if status != 200:
            raise EdgeError(f"the service in the sandbox answered with status {status}")
        message = answer["choices"][0]["message"]
        text = str(message.get("reasoning_content") or message.get("content") or "").strip()
        tokens = int(answer["usage"]["completion_tokens"])
    except (OSError, HTTPException, ValueError, RecursionError, LookupError, TypeError, AttributeError) as error:
        raise EdgeError(f"the service in the sandbox gave no answer: {error}") from error
    return Answer(question, text, tokens, round(time.monotonic() - began, 2))
