"""Give a finished file its name so that a power cut leaves the old file or the new one."""

from __future__ import annotations

import os
from pathlib import Path

# Through a link that somebody put there, root would write into another file.
FLAGS = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


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
    """A small text file, whole or not at all; a partial one is removed. Raises OSError.

    What a killed process left of one is taken over, so that kills never leave more than that.
    """
    own = f".{os.getpid()}" if os.name == "nt" else ""  # nothing keeps others from a file of the same name there
    partial = target.with_name(f"{target.name}{own}.partial")
    handle = take(partial)
    try:
        os.truncate(handle, 0)
        with open(handle, "wb", closefd=False) as file:
            file.write(text.encode("utf-8"))
        os.fsync(handle)
        if os.name == "nt":  # which renames and removes no open file
            handle = close(handle)
        publish(partial, target)
    except BaseException:
        if os.name == "nt":
            handle = close(handle)
        partial.unlink(missing_ok=True)
        raise
    finally:
        close(handle)


def close(handle: int) -> int:
    if handle >= 0:
        os.close(handle)
    return -1


def take(partial: Path) -> int:
    """Open it while nobody else does: who writes it is waited for. Raises OSError."""
    while True:
        handle = os.open(partial, FLAGS, 0o666)
        if os.name == "nt":
            return handle
        import fcntl

        try:
            fcntl.flock(handle, fcntl.LOCK_EX)  # ends with the process, however it ends
            if os.path.samestat(os.fstat(handle), partial.stat()):
                return handle
        except FileNotFoundError:  # who was waited for gave it its name
            pass
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
