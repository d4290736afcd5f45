"""Fetch one file: several connections, resumed after any cut, its SHA-256 checked, from the first source that can.

Each connection has a span of the file and asks for the rest of it from where it stopped. Nothing that was written
counts until it is a whole chunk; nothing gets the file's name until its hash is right.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from pathlib import Path

import requests

from edge.errors import HubError
from edge.hub.backoff import RateLimit, wait_before
from edge.hub.partial import CHUNK, Partial
from edge.hub.source import RemoteFile, Source, SourceFailed

CONNECT, STALL = 10.0, 30.0  # seconds without a connection, without a byte
ATTEMPTS = 6  # failures in a row, without a chunk between them, before another source is tried
BLOCK = 1 << 16
TRANSIENT = {408, 409, 416, 425, 429, 500, 502, 503, 504}


class Cut(Exception):
    """The transfer broke; it can be taken up again after ``wait`` seconds, where the server said so."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


@dataclass
class Fetch:
    """One file on its way from one source. ``sleep`` and ``jitter`` are there for tests."""

    source: Source
    file: RemoteFile
    partial: Partial
    limit: RateLimit
    progress: Callable[[int], None]
    sleep: Callable[[float], object] = time.sleep
    jitter: Callable[[], float] = random.random
    stopped: threading.Event = field(default_factory=threading.Event)
    whole_body: threading.Lock = field(default_factory=threading.Lock)

    def span(self, first: int, end: int) -> None:
        """Fetch what is missing between two bytes. Raises SourceFailed when the source cannot serve it."""
        failures = 0
        while not self.stopped.is_set():
            start = self.partial.missing(first, end)
            if start is None:
                return
            try:
                self.receive(start, end)
                failures = 0
            except Cut as cut:
                failures = failures + 1 if self.partial.missing(first, end) == start else 1
                if failures >= ATTEMPTS:
                    raise SourceFailed(f"{self.source.where}: {self.file.name}: {cut}", "try again later") from None
                self.sleep(wait_before(failures, cut.wait, self.jitter()))

    def receive(self, start: int, end: int) -> None:
        """One request for the bytes from ``start`` on. Raises Cut, or SourceFailed for a refusal."""
        request = self.source.request(self.file.name)
        headers = {**request.headers, "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
        try:
            with requests.get(request.url, headers=headers, stream=True, timeout=(CONNECT, STALL)) as answer:
                self.refuse(answer)
                position = first_byte(answer, start, self.file.size)
                if position == start:
                    self.store(answer, start, end)
                else:  # the server ignores ranges: one connection takes the whole body for all
                    with self.whole_body:
                        if self.partial.missing(start, end) is not None:
                            self.store(answer, 0, self.file.size)
        except requests.RequestException as error:
            raise Cut(f"the connection broke: {type(error).__name__}") from error

    def refuse(self, answer: requests.Response) -> None:
        if answer.status_code in (200, 206):
            return
        redirected = bool(answer.history)  # a link of the storage behind the hub, which expires
        if answer.status_code in TRANSIENT or (redirected and answer.status_code in (401, 403, 404, 410)):
            raise Cut(f"the server answered {answer.status_code}", retry_after(answer))
        why = {401: "it needs a token", 403: "access is not granted", 404: "it is not there"}
        reason = why.get(answer.status_code, f"the server answered {answer.status_code}")
        raise SourceFailed(f"{self.source.where}: {self.file.name}: {reason}", "check the name and your access")

    def store(self, answer: requests.Response, start: int, end: int) -> None:
        """Cut the body into chunks and keep each that is whole. Raises Cut when the body ends early."""
        chunk, buffer = start // CHUNK, bytearray()
        for data in answer.iter_content(BLOCK):
            if self.stopped.is_set():
                return
            self.limit.take(len(data))
            buffer += data
            while buffer and chunk * CHUNK < end:
                length = min(CHUNK, self.file.size - chunk * CHUNK)
                if len(buffer) < length:
                    break
                self.partial.put(chunk, bytes(buffer[:length]))
                del buffer[:length]
                chunk += 1
                self.progress(length)
        if chunk * CHUNK < end:
            raise Cut("the body ended early")


def first_byte(answer: requests.Response, start: int, size: int) -> int:
    """Where the body begins. Raises Cut when the server speaks of another file, or of other bytes."""
    given = answer.headers.get("Content-Range", "")
    if not given:
        length = answer.headers.get("Content-Length")
        if answer.status_code == 206 or (length is not None and length != str(size)):
            raise Cut("the server sends another length than it listed")
        return 0
    unit, _, rest = given.partition(" ")
    bounds, _, total = rest.partition("/")
    first = bounds.partition("-")[0]
    if unit != "bytes" or not first.isdecimal() or total not in ("*", str(size)) or int(first) != start:
        raise Cut(f"the server answered with {given[:60]!r}")
    return start


def retry_after(answer: requests.Response) -> float | None:
    """Seconds of a ``Retry-After``, whether it is a number or a date."""
    value = answer.headers.get("Retry-After", "")
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def fetch_file(
    sources: Sequence[Source],
    file: RemoteFile,
    target: Path,
    *,
    connections: int = 4,
    limit: RateLimit | None = None,
    progress: Callable[[int], None] = lambda nbytes: None,
    sleep: Callable[[float], object] = time.sleep,
) -> str:
    """Fetch ``file`` to ``target`` from the first of ``sources`` that serves it; returns its SHA-256.

    What an earlier attempt left is taken up. A wrong hash fetches the file once more, then raises HubError with
    both values; so does the failure of every source, naming each.
    """
    with Partial(target, file.size) as partial:
        for again in (False, True):
            found = from_any(sources, file, partial, connections, limit or RateLimit(None), progress, sleep)
            if file.sha256 in (None, found):
                partial.publish()
                return found
            partial.forget()
            if again:
                break
    raise HubError(
        f"{file.name} has SHA-256 {found}, not {file.sha256}", "the source serves another file: do not use it"
    )


def from_any(
    sources: Sequence[Source],
    file: RemoteFile,
    partial: Partial,
    connections: int,
    limit: RateLimit,
    progress: Callable[[int], None],
    sleep: Callable[[float], object],
) -> str:
    failed: list[HubError] = []
    for source in sources:
        fetch = Fetch(source, file, partial, limit, progress, sleep)
        try:
            return run(fetch, connections)
        except SourceFailed as error:
            failed.append(error)
    raise failed[0] if len(failed) == 1 else HubError("; ".join(error.message for error in failed), "try again later")


def run(fetch: Fetch, connections: int) -> str:
    """All spans at once, the hash beside them. The first failure stops the others and is raised."""
    with ThreadPoolExecutor(connections + 1) as pool:
        digest = pool.submit(fetch.partial.digest, fetch.stopped)
        jobs = [pool.submit(fetch.span, first, end) for first, end in fetch.partial.spans(connections)]
        try:
            for job in jobs:
                job.result()
        except BaseException:
            fetch.stopped.set()
            fetch.partial.wake()
            raise
        return digest.result()
