"""What one thread closes while others use it."""

from __future__ import annotations

import threading

from edge.engine.types import EngineError


class InUse:
    """``with`` it: what it stands for stays open until the end of the block. Raises EngineError if it is closed.

    ``close`` waits for every block to end, and lets nobody begin another.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._users = 0
        self._closed = False

    def __enter__(self) -> None:
        with self._changed:
            if self._closed:
                raise EngineError("the engine is closed")
            self._users += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._users -= 1
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: not self._users)
