"""Asks one OpenAI-compatible server, ours or anybody's, and takes the time.

The clock starts when the request is sent. The first token is the first piece of text that comes, of thoughts too;
decode tokens/s are of what comes behind it.
"""

from __future__ import annotations

import ipaddress
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from convert.errors import EdgeError, one_line

CONNECT, SILENCE = 10.0, 900.0  # seconds to connect, and between two pieces: a long prompt on a small machine
MOST_TEXT = 1 << 20  # characters of an answer, of whatever max_tokens the server makes
MOST_LINE = 1 << 20  # bytes of an event


class NoAnswer(EdgeError):
    """The server refused, failed, or said what is no answer."""


@dataclass(frozen=True)
class Server:
    """``base`` ends in ``/v1`` or what stands for it; ``model`` is how the server calls it."""

    base: str
    model: str
    key: str = ""


@dataclass(frozen=True)
class Answer:
    """``ttft`` and ``seconds`` from the request's start; ``rate`` tokens/s behind the first token, None of too few.
    ``tokens`` as the server counts them, else None."""

    text: str
    ttft: float | None
    seconds: float
    tokens: int | None
    prompt_tokens: int | None
    rate: float | None
    finish: str | None


def parse_address(text: str) -> tuple[str, str]:
    """``http://host:port/v1#model`` -> the address without what follows ``#``, and that. Raises EdgeError."""
    try:
        parts = urlsplit(text)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        parts, right = urlsplit(""), False
    if not right:
        raise EdgeError(f"{text} is no address of a server", "write it as http://127.0.0.1:11434/v1#model")
    return text.partition("#")[0].rstrip("/"), parts.fragment


def ask(server: Server, messages: Sequence[Mapping[str, str]], **options: Any) -> Answer:
    """One answer, streamed. ``options`` go into the body: ``max_tokens``, ``temperature``, ``seed``, ...

    Raises NoAnswer.
    """
    body = {"model": server.model, "messages": list(messages), "stream": True, **options}
    body["stream_options"] = {"include_usage": True}
    started = time.perf_counter()
    pieces: list[str] = []
    first = last = None
    usage: Mapping[str, Any] = {}
    finish, count, length = None, 0, 0
    with session(server) as client, connected(client, server, "POST", "/chat/completions", body) as response:
        for event in events(response, server):
            if isinstance(found := event.get("usage"), Mapping):
                usage = found
            choice = first_of(event.get("choices"))
            finish = choice.get("finish_reason") or finish
            delta = choice.get("delta")
            delta = delta if isinstance(delta, Mapping) else {}
            if any(isinstance(delta.get(key), str) and delta[key] for key in ("content", "reasoning_content")):
                last = time.perf_counter()
                first = first or last
                count += 1
            if isinstance(text := delta.get("content"), str):
                pieces.append(text)
                length += len(text)
            if length > MOST_TEXT:
                raise NoAnswer(f"{server.base} does not stop answering", "is max_tokens too large?")
    ended = time.perf_counter()
    tokens = whole(usage.get("completion_tokens"))
    behind = (tokens if tokens is not None else count) - 1
    spent = last - first if first is not None and last is not None else 0.0
    return Answer(
        text="".join(pieces),
        ttft=None if first is None else first - started,
        seconds=ended - started,
        tokens=tokens,
        prompt_tokens=whole(usage.get("prompt_tokens")),
        rate=behind / spent if behind > 0 and spent > 0 else None,
        finish=finish if isinstance(finish, str) else None,
    )


def models(server: Server) -> list[Mapping[str, Any]]:
    """What the server says it has. Raises NoAnswer."""
    with session(server) as client, connected(client, server, "GET", "/models") as response:
        try:
            data = response.json()
        except ValueError as error:
            raise NoAnswer(f"{server.base}/models is no JSON", "is it an OpenAI-compatible server?") from error
    found = data.get("data") if isinstance(data, Mapping) else None
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def session(server: Server) -> requests.Session:
    """A proxy that the environment names is not asked for a server on this machine."""
    made = requests.Session()
    made.trust_env = not is_loopback(server.base)
    if server.key:
        made.headers["Authorization"] = f"Bearer {server.key}"
    return made


def is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def connected(
    client: requests.Session, server: Server, method: str, path: str, body: Mapping[str, Any] | None = None
) -> requests.Response:
    """Raises NoAnswer for everything but a 200."""
    url = server.base + path
    try:
        response = client.request(
            method, url, json=body, stream=True, timeout=(CONNECT, SILENCE), allow_redirects=False
        )
        if response.status_code == 200:
            return response
        with response:
            said = response.raw.read(4096, decode_content=True).decode("utf-8", "replace")
    except requests.RequestException as error:
        raise NoAnswer(f"{server.base} does not answer", "is the server running there?") from error
    raise NoAnswer(f"{server.base} refused ({response.status_code}): {reason(said)}", "look at the server's log")


def reason(said: str) -> str:
    """The message in an error of OpenAI's shape, else the beginning of what was said."""
    try:
        found = json.loads(said)["error"]
        said = found["message"] if isinstance(found, Mapping) else str(found)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return one_line(str(said))[:300]


def events(response: requests.Response, server: Server) -> Iterator[Mapping[str, Any]]:
    """Those of a stream, until ``[DONE]`` or its end. Raises NoAnswer for an error in the midst of it."""
    try:
        for line in response.iter_lines(chunk_size=1):
            if len(line) > MOST_LINE:
                raise NoAnswer(f"{server.base} sends events that are too long", "is it an OpenAI-compatible server?")
            if not line.startswith(b"data:"):
                continue
            data = line.removeprefix(b"data:").strip()
            if data == b"[DONE]":
                return
            event = json.loads(data)
            if not isinstance(event, Mapping):
                raise ValueError
            if event.get("error"):
                raise NoAnswer(f"{server.base} broke off: {reason(json.dumps(event))}", "look at the server's log")
            yield event
    except requests.RequestException as error:
        raise NoAnswer(f"{server.base} ended in the midst of an answer", "look at the server's log") from error
    except (ValueError, RecursionError) as error:
        raise NoAnswer(f"{server.base} sends no events", "is it an OpenAI-compatible server?") from error


def first_of(choices: Any) -> Mapping[str, Any]:
    return choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], Mapping) else {}


def whole(value: Any) -> int | None:
    return value if type(value) is int and value >= 0 else None
