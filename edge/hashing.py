"""Hash a file in pieces, so that progress can be shown."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

PIECE = 1 << 22  # bytes


def sha256_of(path: Path, on_bytes: Callable[[int], None] = lambda nbytes: None) -> str:
    """SHA-256 in hex digits; ``on_bytes`` hears of each piece. Raises OSError."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while data := file.read(PIECE):
            hasher.update(data)
            on_bytes(len(data))
    return hasher.hexdigest()


def git_blob_of(path: Path) -> str:
    """The SHA-1 by which git knows this content; for small files. Raises OSError."""
    data = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()
