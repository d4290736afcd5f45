"""A Python program that is stopped at an exact moment: before the Nth change that it makes to files.

    python -m tests.survive.moments count FILE | kill N | fill N FILE  --  (-m MODULE | SCRIPT) [ARGUMENT...]

A moment is a file opened for writing, cut, renamed, linked, removed or synced, or a folder made, removed or synced.
``count`` writes how many there were into FILE; ``kill`` kills the program's process group before the Nth; ``fill``
fills the disk that FILE is on with FILE before the Nth. Needs the standard library alone.
"""

from __future__ import annotations

import atexit
import os
import runpy
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

CHANGES = {
    "os.rename",
    "os.link",
    "os.symlink",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.truncate",
    "os.chmod",
    "os.utime",
}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
LARGEST, SMALLEST = 1 << 20, 1  # bytes that a write tries to fill the disk with


class Moments:
    """Counts changes, and does ``act`` before the ``nth``, once."""

    def __init__(self, nth: int, act: Callable[[], None]) -> None:
        self.count = 0
        self._nth, self._act, self._lock = nth, act, threading.RLock()
        self._acting = False

    def change(self) -> None:
        with self._lock:
            if self._acting:
                return
            self.count += 1
            if self.count == self._nth:
                self._acting = True
                self._act()
                self._acting = False

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            to_write = isinstance(flags, int) and flags & WRITING and not isinstance(path, int)
            if to_write and not str(path).startswith("/dev/"):
                self.change()
        elif event in CHANGES:
            self.change()


def fill(path: Path) -> None:
    """Take all room that is left on the disk."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    size = LARGEST
    while size >= SMALLEST:
        try:
            os.write(file, bytes(size))
        except OSError:
            size //= 2
    os.close(file)


def kill() -> None:
    os.killpg(0, signal.SIGKILL)


def watch(moments: Moments) -> None:
    real = os.fsync

    def fsync(descriptor: Any) -> None:
        moments.change()
        real(descriptor)

    os.fsync = fsync
    sys.addaudithook(moments.hook)


def main() -> None:
    at = sys.argv.index("--")
    words, program = sys.argv[1:at], sys.argv[at + 1 :]
    if words[0] == "count":
        moments = Moments(0, lambda: None)
        atexit.register(lambda: Path(words[1]).write_text(str(moments.count)))
    elif words[0] == "kill":
        moments = Moments(int(words[1]), kill)
    else:
        moments = Moments(int(words[1]), lambda: fill(Path(words[2])))
    watch(moments)
    if program[0] == "-m":
        sys.argv = program[1:]
        runpy.run_module(program[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = program
        sys.path[0] = str(Path(program[0]).parent)
        runpy.run_path(program[0], run_name="__main__")


if __name__ == "__main__":
    main()
