"""One process at a time on one model; the lock ends with the process, however it ends."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from edge.errors import StoreError

READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)


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
    except (OSError, NotImplementedError) as error:
        if isinstance(error, OSError) and error.errno in READ_ONLY:
            yield  # nobody can write here, so nobody does
            return
        raise StoreError(
            f"cannot lock {path}: {error}", "choose another place with --models-dir or EDGE_HOME"
        ) from error
    try:
        yield
    finally:
        lock.release()
