"""Give a finished file its name so that a power cut leaves the old file or the new one."""

from __future__ import annotations

import os
from pathlib import Path


def publish(partial: Path, target: Path) -> None:
    """Rename; ``partial``'s bytes must be on disk already. Raises OSError."""
    partial.replace(target)
    if os.name != "nt":  # Windows cannot open a folder, and keeps its own journal
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def write_text(target: Path, text: str) -> None:
    """A small text file, whole or not at all; a partial one is removed. Raises OSError."""
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        with partial.open("w", encoding="utf-8", newline="\n") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        publish(partial, target)
    finally:
        partial.unlink(missing_ok=True)
