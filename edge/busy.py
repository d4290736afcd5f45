"""One process at a time on one model; the lock ends with the process, however it ends."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from edge.errors import StoreError


@contextmanager
def only_one(path: Path, what: str, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock file ``path`` while working on ``what``; wait, and say so, while another process holds it."""
    lock = FileLock(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            say(f"another process works on {what}; waiting for it to end")
            lock.acquire()
    except PermissionError:
        yield  # nobody can write here, so nobody does
        return
    except (OSError, NotImplementedError) as error:
        raise StoreError(
            f"cannot lock {path}: {error}", "choose another place with --models-dir or EDGE_HOME"
        ) from error
    try:
        yield
    finally:
        lock.release()
