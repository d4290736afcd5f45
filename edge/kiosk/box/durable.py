"""Writes that a power cut leaves undone or whole."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def sync_folder(folder: Path) -> None:
    """The names in it are on disk. Raises OSError."""
    opened = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def publish(partial: Path, target: Path) -> None:
    """Rename; ``partial``'s bytes must be on disk already. Raises OSError."""
    os.replace(partial, target)  # noqa: PTH105 - one spelling for files, folders and links
    sync_folder(target.parent)


def write(target: Path, data: bytes, mode: int = 0o644) -> None:
    """A small file, whole or not at all, with exactly this mode whatever the umask is. Raises OSError."""
    partial = target.with_name(f".{target.name}.partial")
    with contextlib.suppress(FileNotFoundError):
        partial.unlink()
    opened = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(opened, "wb") as file:  # noqa: PTH123 - a descriptor
        file.write(data)
        file.flush()
        os.fchmod(opened, mode)
        os.fsync(opened)
    publish(partial, target)
