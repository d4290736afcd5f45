"""Clients of a server that stream answers at the same time, and what they see. As little work as possible, because it
is done on the cores that compute."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

WORDS = ("river", "stone", "lantern", "garden", "winter", "copper", "silent", "morning", "harbour", "thunder", "velvet")
WHOLE_ANSWER = 1 << 20  # bytes, more than any answer here has


@dataclass(frozen=True)
class Seen:
    """One answer: the status, seconds to its first token and to its end, and its tokens."""

    status: int
    ttft: float
    seconds: float
    tokens: int


async def ask(port: int, path: str, body: dict[str, Any]) -> Seen:
    """Send one request that streams, and count its events that hold text."""
    data = json.dumps(body).encode()
    began = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
    try:
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        writer.write(f"{head}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
        status = int((await reader.readline()).split()[1])
        first, tokens = 0.0, 0
        while line := await reader.readline():
            if line.startswith(b"data: {") and b'"text":""' not in line and b'"text": ""' not in line:
                if b'"choices":[]' in line or b'"choices": []' in line:
                    continue
                first = first or time.monotonic() - began
                tokens += 1
        return Seen(status, first, time.monotonic() - began, tokens)
    finally:
        writer.close()


def ask_asleep(port: int, path: str, body: dict[str, Any]) -> Seen:
    """``ask`` by a client that sleeps from its first token until the answer has ended: what reading costs a client is
    not counted to the server. Where the system cannot let it sleep (Windows) it reads on."""
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    began, seen, first = time.monotonic(), bytearray(), 0.0
    with socket.create_connection(("127.0.0.1", port)) as server:
        server.sendall(f"{head}Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode() + data)
        while some := server.recv(WHOLE_ANSWER):
            seen += some
            if not first and b"data: {" in seen:
                first = time.monotonic() - began
                if hasattr(socket, "SO_RCVLOWAT"):
                    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, WHOLE_ANSWER)
        seconds = time.monotonic() - began
    tokens = sum(line.startswith(b"data: {") and b'"text":""' not in line for line in seen.split(b"\n"))
    return Seen(int(seen.split(b" ", 2)[1]), first, seconds, tokens)


def together(port: int, path: str, bodies: Sequence[dict[str, Any]]) -> tuple[list[Seen], float]:
    """All at once; and the seconds until the last is done."""

    async def all_of_them() -> list[Seen]:
        return list(await asyncio.gather(*(ask(port, path, body) for body in bodies)))

    began = time.monotonic()
    seen = asyncio.run(all_of_them())
    return seen, time.monotonic() - began


def completion(prompt: str, tokens: int) -> dict[str, Any]:
    """An answer of exactly so many tokens, the same from every server."""
    return {"prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": True, "stream": True}


def text(words: int, seed: int) -> str:
    """English words in an order of its own from the first on: no cache knows it. About a token a word."""
    state, chosen = seed * 2654435761 % 2**32 or 1, []
    for _ in range(words):
        state = (1103515245 * state + 12345) % 2**31
        chosen.append(WORDS[(state >> 8) % len(WORDS)])
    return " ".join(chosen)


def percentile(values: Sequence[float], share: float) -> float:
    """By the nearest rank."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, round(share * len(ordered) + 0.5) - 1))]
