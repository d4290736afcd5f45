"""The kiosk's log: what was installed, switched, refused, rolled back, and why. No prompt ever comes here."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from .errors import BoxError, one_line
from .layout import read_small

LARGEST = 60_000  # bytes of a file, below what is read as a small one
KEPT = 3  # older files


def write(path: Path, text: str) -> None:
    """Append a line with its time; a full file becomes ``kiosk.log.1``. A failure is passed over: a full disk must not
    stop what would be told of, and a box that is refused makes no folder."""
    with contextlib.suppress(OSError):
        append(path, text)


def append(path: Path, text: str) -> None:
    """Raises OSError."""
    line = f"{time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())} {one_line(text)}\n".encode()
    if path.exists() and path.stat().st_size + len(line) > LARGEST:
        rotate(path)
    opened = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, 0o644)
    with open(opened, "ab") as file:  # noqa: PTH123 - a descriptor
        os.fchmod(opened, 0o644)
        file.write(line)
        file.flush()
        os.fsync(opened)


def rotate(path: Path) -> None:
    for number in range(KEPT, 0, -1):
        older = path if number == 1 else path.with_name(f"{path.name}.{number - 1}")
        if older.exists():
            older.replace(path.with_name(f"{path.name}.{number}"))


def last_lines(path: Path, count: int) -> list[str]:
    """Of the newest file; none where it cannot be read."""
    try:
        return read_small(path).splitlines()[-count:]
    except BoxError:
        return []
