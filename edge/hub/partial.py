"""A file while it is fetched: its bytes so far, which of its chunks are whole, and the hash of what is whole.

Beside ``NAME.partial`` lies ``NAME.chunks``, a line for each chunk that is written. A killed process loses the chunks
in flight. What a power cut loses beyond that, the hash of the whole file shows.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from pathlib import Path

from convert.durable import publish

CHUNK = 1 << 20  # bytes; what a cut costs at most on each connection


def partial_path(target: Path) -> Path:
    """Where ``target``'s bytes lie before all of them are there."""
    return target.with_name(target.name + ".partial")


def list_path(target: Path) -> Path:
    """Where it is noted which of them are."""
    return target.with_name(target.name + ".chunks")


def tidy(target: Path) -> None:
    """Remove the list that a kill left beside a whole file: it goes after the file has its name, so that none costs the
    bytes."""
    with contextlib.suppress(OSError):
        list_path(target).unlink()


class Partial:
    """The chunks of ``target`` that are still to fetch. Any thread may call ``put``; one calls ``digest``."""

    def __init__(self, target: Path, size: int, identity: str | None) -> None:
        """What an earlier process left counts only where ``identity``, a hash of the whole, is known and the same.

        Only the hash can show what a power cut took from it.
        """
        self.target, self.size = target, size
        self._first_line = f"{identity} in chunks of {CHUNK}"
        self.path = partial_path(target)
        self.list = list_path(target)
        self._lock = threading.Condition()
        noted = self._read_list() if identity else None
        self._done = noted or set()
        self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o644)
        os.truncate(self._file, size)
        self._lines = self.list.open("w" if noted is None else "r+", encoding="ascii", newline="\n")
        self._write_list()

    def _write_list(self) -> None:
        """The list as it is known: nothing of a line that a kill cut short stays in it."""
        self._lines.seek(0)
        self._lines.write("".join(f"{line}\n" for line in (self._first_line, *sorted(self._done))))
        self._lines.truncate()
        self._lines.flush()

    def _read_list(self) -> set[int] | None:
        """Chunks noted before; a line cut short by a kill is none. None where nothing before counts."""
        if not self.list.is_file() or not self.path.is_file() or self.path.stat().st_size != self.size:
            return None
        first, *lines = self.list.read_text(encoding="ascii", errors="replace").split("\n")[:-1] or [""]
        if first != self._first_line:
            return None
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

    def gap(self, first: int, end: int) -> tuple[int, int] | None:
        """(first byte, end) of the first run of chunks to fetch among those from ``first`` on, before ``end``."""
        last = -(-end // CHUNK)
        with self._lock:
            start = next((chunk for chunk in range(first // CHUNK, last) if chunk not in self._done), None)
            if start is None:
                return None
            stop = next((chunk for chunk in range(start, last) if chunk in self._done), last)
        return start * CHUNK, min(self.size, stop * CHUNK)

    def spans(self, most: int) -> list[tuple[int, int]]:
        """What is to fetch as (first byte, end) of about ``most`` parts, each beginning at a chunk."""
        with self._lock:
            todo = [chunk for chunk in range(self.chunks) if chunk not in self._done]
        step = max(1, -(-len(todo) // most))
        parts = [todo[i : i + step] for i in range(0, len(todo), step)]
        return [(part[0] * CHUNK, min(self.size, (part[-1] + 1) * CHUNK)) for part in parts]

    def put(self, chunk: int, data: bytes) -> int:
        """Write a whole chunk, then note it; returns the bytes that are new: none if it was there, or all is over."""
        if len(data) != self._length(chunk):
            raise ValueError(f"chunk {chunk} has {len(data)} bytes")
        position, view = chunk * CHUNK, memoryview(data)
        with self._lock:
            if chunk in self._done or self._file < 0:
                return 0
            while view.nbytes:
                os.lseek(self._file, position, os.SEEK_SET)
                written = os.write(self._file, view)
                position, view = position + written, view[written:]
            self._lines.write(f"{chunk}\n")
            self._lines.flush()
            self._done.add(chunk)
            self._lock.notify_all()
            return len(data)

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
                    while chunk not in self._done and not stopped.is_set():
                        self._lock.wait(timeout=1)
                if stopped.is_set():
                    return ""
                hasher.update(file.read(self._length(chunk)))
        return hasher.hexdigest()

    def publish(self) -> None:
        """Give the file its name, in one step that survives a power cut."""
        os.fsync(self._file)
        self.close()
        publish(self.path, self.target)
        self.list.unlink(missing_ok=True)

    def forget(self) -> None:
        """Begin again: nothing that was fetched counts."""
        with self._lock:
            self._done.clear()
            self._write_list()

    def discard(self) -> None:
        """Remove what was fetched."""
        self.close()
        self.path.unlink(missing_ok=True)
        self.list.unlink(missing_ok=True)

    def close(self) -> None:
        with self._lock:
            self._lines.close()
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def __enter__(self) -> Partial:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
