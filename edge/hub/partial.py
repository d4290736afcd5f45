"""A file while it is fetched: its bytes so far, which of its chunks are whole, and the hash of what is whole.

Beside ``NAME.partial`` lies ``NAME.chunks``, a line for each chunk that is written. A killed process loses the chunks
in flight. What a power cut loses beyond that, the hash of the whole file shows.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

CHUNK = 4 << 20  # bytes
READ = 1 << 20


class Partial:
    """The chunks of ``target`` that are still to fetch. Any thread may call ``write``; one calls ``digest``."""

    def __init__(self, target: Path, size: int) -> None:
        self.target, self.size = target, size
        self.path = target.with_name(target.name + ".partial")
        self.list = target.with_name(target.name + ".chunks")
        self._lock = threading.Condition()
        self._done = self._read_list()
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        os.truncate(self._file, size)
        self._lines = self.list.open("a", encoding="ascii")

    def _read_list(self) -> set[int]:
        """Chunks noted before; a line cut short by a kill is none, nor is any where the bytes are gone."""
        if not self.list.is_file() or not self.path.is_file() or self.path.stat().st_size != self.size:
            self.list.unlink(missing_ok=True)
            return set()
        lines = self.list.read_text(encoding="ascii", errors="replace").split("\n")[:-1]
        return {int(line) for line in lines if line.isdecimal() and int(line) < self.chunks}

    @property
    def chunks(self) -> int:
        return -(-self.size // CHUNK)

    @property
    def complete(self) -> bool:
        return len(self._done) == self.chunks

    @property
    def fetched(self) -> int:
        """Bytes in whole chunks."""
        with self._lock:
            return sum(self._length(chunk) for chunk in self._done)

    def _length(self, chunk: int) -> int:
        return min(CHUNK, self.size - chunk * CHUNK)

    def missing(self, first: int, end: int) -> int | None:
        """The first byte of the first chunk to fetch among those that begin at ``first`` or later, before ``end``."""
        with self._lock:
            for chunk in range(first // CHUNK, -(-end // CHUNK)):
                if chunk not in self._done:
                    return chunk * CHUNK
        return None

    def spans(self, most: int) -> list[tuple[int, int]]:
        """What is to fetch as (first byte, end) of about ``most`` parts, each beginning at a chunk."""
        with self._lock:
            todo = [chunk for chunk in range(self.chunks) if chunk not in self._done]
        step = max(1, -(-len(todo) // most))
        parts = [todo[i : i + step] for i in range(0, len(todo), step)]
        return [(part[0] * CHUNK, min(self.size, (part[-1] + 1) * CHUNK)) for part in parts]

    def put(self, chunk: int, data: bytes) -> None:
        """Write a whole chunk, then note it."""
        if len(data) != self._length(chunk):
            raise ValueError(f"chunk {chunk} has {len(data)} bytes")
        position, view = chunk * CHUNK, memoryview(data)
        with self._lock:
            if chunk in self._done:
                return
            while view.nbytes:
                os.lseek(self._file, position, os.SEEK_SET)
                written = os.write(self._file, view)
                position, view = position + written, view[written:]
            self._lines.write(f"{chunk}\n")
            self._lines.flush()
            self._done.add(chunk)
            self._lock.notify_all()

    def wake(self) -> None:
        """Let ``digest`` look whether it should give up."""
        with self._lock:
            self._lock.notify_all()

    def digest(self, stopped: threading.Event) -> str:
        """SHA-256 of the whole file, computed while chunks come in; empty when ``stopped`` before they all did."""
        hasher = hashlib.sha256()
        with self.path.open("rb") as file:
            for chunk in range(self.chunks):
                with self._lock:
                    while chunk not in self._done:
                        if stopped.is_set():
                            return ""
                        self._lock.wait(timeout=1)
                for data in pieces(file.read(self._length(chunk))):
                    hasher.update(data)
        return hasher.hexdigest()

    def publish(self) -> None:
        """Give the file its name, in one step that survives a power cut."""
        os.fsync(self._file)
        self.close()
        self.path.replace(self.target)
        self.list.unlink(missing_ok=True)

    def forget(self) -> None:
        """Begin again: nothing that was fetched counts."""
        with self._lock:
            self._done.clear()
            self._lines.truncate(0)

    def close(self) -> None:
        self._lines.close()
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def pieces(data: bytes) -> Iterator[memoryview]:
    view = memoryview(data)
    for first in range(0, len(view), READ):
        yield view[first : first + READ]
