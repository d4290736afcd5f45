"""How many requests are in the house, and how long they stay: who comes when it is full is told when to ask again."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from edge.server.errors import Busy

MOST_WAIT = 60.0  # seconds that anybody is told to wait
USUAL = 5.0  # seconds of an answer, until some were seen


class Gate:
    """``slots`` answers are at work at once, ``queue`` may wait."""

    def __init__(self, slots: int, queue: int) -> None:
        self.slots, self.places = slots, slots + queue
        self.inside = 0
        self._seconds = USUAL  # of an answer, a moving average

    @contextmanager
    def enter(self, answers: int = 1) -> Iterator[None]:
        """Take places for a request's answers. Raises Busy; a request of more answers than there are places may come
        when nobody else is here."""
        if self.inside and self.inside + answers > self.places:
            raise Busy(self.wait())
        self.inside += answers
        began = time.monotonic()
        try:
            yield
        finally:
            self.inside -= answers
            self._seconds = 0.8 * self._seconds + 0.2 * (time.monotonic() - began)

    @property
    def waiting(self) -> int:
        return max(0, self.inside - self.slots)

    def wait(self) -> float:
        """Seconds until a place is likely to be free."""
        return min(MOST_WAIT, max(1.0, self._seconds * (self.waiting + 1) / self.slots))
