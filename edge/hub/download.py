"""Fetch one file: several connections, resumed after any cut, its SHA-256 checked, from the first source that can.

Each connection has a span of the file and asks for the rest of it from where it stopped. Nothing that was written
counts until it is a whole chunk; nothing gets the file's name until its hash is right.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edge.errors import HubError
from edge.hashing import git_blob_of
from edge.hub.backoff import RateLimit, wait_before
from edge.hub.partial import CHUNK, Partial
from edge.hub.source import Body, Cut, RemoteFile, Source, SourceFailed

ATTEMPTS = 6  # failures in a row, without a chunk between them, before another source is tried

OnProgress = Callable[[int], None]  # so many bytes more; fewer, when a cut loses what was no whole chunk


@dataclass
class Fetch:
    """One file on its way from one source. ``sleep`` and ``jitter`` are there for tests."""

    source: Source
    file: RemoteFile
    partial: Partial
    limit: RateLimit
    progress: OnProgress
    sleep: Callable[[float], object] = time.sleep
    jitter: Callable[[], float] = random.random
    stopped: threading.Event = field(default_factory=threading.Event)
    whole_body: threading.Lock = field(default_factory=threading.Lock)

    def span(self, first: int, end: int) -> None:
        """Fetch what is missing between two bytes. Raises SourceFailed when the source cannot serve it."""
        failures = 0
        while not self.stopped.is_set():
            gap = self.partial.gap(first, end)
            if gap is None:
                return
            try:
                self.receive(*gap)
                failures = 0
            except Cut as cut:
                failures = failures + 1 if self.partial.gap(first, end) == gap else 1
                if failures >= ATTEMPTS:
                    raise SourceFailed(f"{self.source.where}: {self.file.name}: {cut}", "try again later") from None
                self.sleep(wait_before(failures, cut.wait, self.jitter()))

    def receive(self, start: int, end: int) -> None:
        """One request for the bytes from ``start`` on. Raises Cut, or SourceFailed for a refusal."""
        with self.source.open(self.file, start, end) as body:
            if body.first == start:
                self.store(body, start, end)
            else:  # the server ignores ranges: one connection takes the whole body for all
                with self.whole_body:
                    if self.partial.gap(start, end) is not None:
                        self.store(body, 0, self.file.size)

    def store(self, body: Body, start: int, end: int) -> None:
        """Cut the body into chunks and keep each that is whole. Raises Cut when the body ends early."""
        chunk, buffer = start // CHUNK, bytearray()
        try:
            for data in body.blocks:
                if self.stopped.is_set():
                    return
                self.limit.take(len(data))
                buffer += data
                self.progress(len(data))
                while buffer and chunk * CHUNK < end:
                    length = min(CHUNK, self.file.size - chunk * CHUNK)
                    if len(buffer) < length:
                        break
                    self.progress(self.partial.put(chunk, bytes(buffer[:length])) - length)
                    del buffer[:length]
                    chunk += 1
        finally:
            self.progress(-len(buffer))
        if chunk * CHUNK < end:
            raise Cut("the body ended early")


def fetch_file(
    sources: Sequence[Source],
    file: RemoteFile,
    target: Path,
    *,
    connections: int = 4,
    limit: RateLimit | None = None,
    progress: OnProgress = lambda nbytes: None,
    sleep: Callable[[float], object] = time.sleep,
) -> str:
    """Fetch ``file`` to ``target`` from the first of ``sources`` that serves it; returns its SHA-256.

    What an earlier attempt left is taken up. A wrong hash fetches the file once more, from the next source if there
    is one, then raises HubError with both values; so does the failure of every source, naming each.
    """
    try:
        # What a power cut took from an earlier attempt only the hash can show.
        with Partial(target, file.size, resume=(file.sha256 or file.blob) is not None) as partial:
            for order in (sources, [*sources[1:], *sources[:1]]):
                progress(partial.fetched)
                found = from_any(order, file, partial, connections, limit or RateLimit(None), progress, sleep)
                if (wrong := mismatch(file, partial, found)) is None:
                    partial.publish()
                    return found
                partial.forget()
                progress(-file.size)
    except OSError as error:
        raise HubError(f"cannot write {target}: {error.strerror}", "free some space, or mend the rights") from error
    raise HubError(wrong, "this is another file than the one that is locked, or a damaged one: do not use it")


def mismatch(file: RemoteFile, partial: Partial, found: str) -> str | None:
    """What is wrong with the fetched bytes, with both values."""
    if file.sha256 is not None:
        return None if found == file.sha256 else f"{file.name} has SHA-256 {found}, not {file.sha256}"
    if file.blob is not None and (blob := git_blob_of(partial.path)) != file.blob:
        return f"{file.name} has git's SHA-1 {blob}, not {file.blob}"
    return None


def from_any(
    sources: Sequence[Source],
    file: RemoteFile,
    partial: Partial,
    connections: int,
    limit: RateLimit,
    progress: OnProgress,
    sleep: Callable[[float], object],
) -> str:
    failed: list[HubError] = []
    for source in sources:
        fetch = Fetch(source, file, partial, limit, progress, sleep)
        try:
            return run(fetch, connections)
        except SourceFailed as error:
            failed.append(error)
    if len(failed) == 1:
        raise failed[0]
    raise HubError("; ".join(error.message for error in failed) or f"{file.name} has no source", "try again later")


def run(fetch: Fetch, connections: int) -> str:
    """All spans at once, the hash beside them; the first failure stops the others and is raised.

    The threads are daemons: Ctrl-C need not wait for a connection that is stuck.
    """
    ended: queue.SimpleQueue[BaseException | str | None] = queue.SimpleQueue()

    def start(work: Callable[..., str | None], *arguments: object) -> None:
        def call() -> None:
            try:
                ended.put(work(*arguments))
            except BaseException as error:
                ended.put(error)

        threading.Thread(target=call, daemon=True).start()

    spans = fetch.partial.spans(connections)
    start(fetch.partial.digest, fetch.stopped)
    for span in spans:
        start(fetch.span, *span)
    digest = ""
    try:
        for _ in range(len(spans) + 1):
            result = wait_for(ended)
            if isinstance(result, BaseException):
                raise result
            digest = result or digest
    except BaseException:
        fetch.stopped.set()
        fetch.partial.wake()
        raise
    return digest


def wait_for(ended: queue.SimpleQueue[BaseException | str | None]) -> BaseException | str | None:
    """The next result. In short waits: on Windows, Ctrl-C is not seen during a long one."""
    while True:
        try:
            return ended.get(timeout=0.5)
        except queue.Empty:
            continue
