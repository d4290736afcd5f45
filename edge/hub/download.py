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

from convert.errors import EdgeError
from edge.errors import HubError
from edge.hashing import git_blob_of
from edge.hub.backoff import PATIENCE, SHORT_PATIENCE, RateLimit, wait_before
from edge.hub.partial import CHUNK, Partial
from edge.hub.source import Body, Cut, RemoteFile, Source, SourceFailed
from edge.lock import LockError

ATTEMPTS = 6  # failures in a row, without a chunk between them, before another source is tried

OnProgress = Callable[[int], None]  # so many bytes more; fewer, when a cut loses what was no whole chunk


@dataclass
class Fetch:
    """One file on its way from one source. ``patience`` in seconds; ``sleep`` and ``jitter`` are there for tests."""

    source: Source
    file: RemoteFile
    partial: Partial
    limit: RateLimit
    progress: OnProgress
    patience: float = PATIENCE
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
                if failures >= ATTEMPTS or (cut.wait or 0) > self.patience:
                    raise self.failed(cut) from None
                self.sleep(wait_before(failures, cut.wait, self.jitter()))

    def failed(self, cut: Cut) -> SourceFailed:
        later = f"in {cut.wait:.0f} s" if cut.wait else "later"
        return SourceFailed(f"{self.source.where}: {self.file.name}: {cut}", f"try again {later}")

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
                self.limit.take(len(data))
                if self.stopped.is_set():  # another source may have begun by now
                    return
                buffer += data
                self.progress(len(data))
                while len(buffer) >= (length := min(CHUNK, self.file.size - chunk * CHUNK)):
                    self.progress(self.partial.put(chunk, bytes(buffer[:length])) - length)
                    del buffer[:length]
                    chunk += 1
                    if chunk * CHUNK >= end:  # whatever else the server has to say
                        return
        finally:
            self.progress(-len(buffer))
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

    What an earlier attempt left is taken up. A wrong hash fetches the file once more, the source that served its end
    last and the bytes of one source only, then raises HubError with both values; so does the failure of every
    source, naming each.
    """
    wrong = ""
    with Partial(target, file.size, file.identity) as partial:
        for mixing in (file.identity is not None, False):  # where a mixture was wrong, nobody knows by whose fault
            progress(partial.fetched)
            found, source = from_any(
                sources, file, partial, connections, limit or RateLimit(None), progress, sleep, mixing=mixing
            )
            if not (wrong := mismatch(file, partial, found)):
                partial.publish()
                return found
            sources = [*(other for other in sources if other is not source), source]
            partial.forget()
            progress(-file.size)
        partial.discard()
    raise HubError(wrong, "this is another file than the one that is locked, or a damaged one: do not use it")


def mismatch(file: RemoteFile, partial: Partial, found: str) -> str:
    """What is wrong with the fetched bytes, with both values; empty when nothing is."""
    if file.sha256 is not None:
        return "" if found == file.sha256 else f"{file.name} has SHA-256 {found}, not {file.sha256}"
    if file.blob is not None and (blob := git_blob_of(partial.path)) != file.blob:
        return f"{file.name} has git's SHA-1 {blob}, not {file.blob}"
    return ""


def from_any(
    sources: Sequence[Source],
    file: RemoteFile,
    partial: Partial,
    connections: int,
    limit: RateLimit,
    progress: OnProgress,
    sleep: Callable[[float], object],
    *,
    mixing: bool,
) -> tuple[str, Source]:
    """The SHA-256 of what was fetched, and which source served the end of it. Raises HubError.

    ``mixing``: a source may go on where another one stopped; only a hash shows whether both have the same file.
    """
    failed: list[HubError] = []
    for place, source in enumerate(sources):
        patience = PATIENCE if place == len(sources) - 1 else SHORT_PATIENCE
        try:
            return run(Fetch(source, file, partial, limit, progress, patience, sleep), connections), source
        except SourceFailed as error:
            failed.append(error)
        if not mixing:
            progress(-partial.fetched)
            partial.forget()
    raise all_failed(failed)


def all_failed(failed: Sequence[EdgeError]) -> EdgeError:
    """Several failures as one that names each, with the hint of the gravest: other bytes than the locked ones."""
    failed = sorted(failed, key=lambda error: isinstance(error, LockError), reverse=True)
    messages = list(dict.fromkeys(error.message for error in failed))
    return failed[0] if len(messages) == 1 else HubError("; ".join(messages), failed[0].hint)


def run(fetch: Fetch, connections: int) -> str:
    """All spans at once, the hash beside them; the first failure stops the others and is raised.

    The threads are daemons: Ctrl-C need not wait for a connection that is stuck.
    """
    ended: queue.SimpleQueue[BaseException | str | None] = queue.SimpleQueue()
    threads: list[threading.Thread] = []

    def start(work: Callable[..., str | None], *arguments: object) -> None:
        def call() -> None:
            try:
                ended.put(work(*arguments))
            except BaseException as error:
                ended.put(error)

        threads.append(threading.Thread(target=call, daemon=True))
        threads[-1].start()

    spans = fetch.partial.spans(connections)
    start(fetch.partial.digest, fetch.stopped)
    for span in spans:
        start(fetch.span, *span)
    digest = ""
    try:
        for _ in threads:
            result = wait_for(ended)
            if isinstance(result, BaseException):
                raise result
            digest = result or digest
    except BaseException as error:
        fetch.stopped.set()
        fetch.partial.wake()
        if isinstance(error, Exception):  # the next source should find the file at rest
            for thread in threads:
                thread.join(timeout=2)
        raise
    return digest


def wait_for(ended: queue.SimpleQueue[BaseException | str | None]) -> BaseException | str | None:
    """The next result. In short waits: on Windows, Ctrl-C is not seen during a long one."""
    while True:
        try:
            return ended.get(timeout=0.5)
        except queue.Empty:
            continue
