"""The soft deadline of answers: when its time is over, an answer goes on to the end of its sentence."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from edge.stream import Answers

SHORTEST_GRACE = 2.0  # seconds


class Closing:
    """``seconds`` of each answer count from when it got a slot, a quarter of them more for the end of a sentence.

    One that still reads its prompt then goes on to its first sentence; one that thinks or writes a tool call has the
    quarter to get done with it. ``late``: the numbers of those that had no end in that time either, and were cut.
    """

    def __init__(self, answers: Answers, seconds: float) -> None:
        self.late: set[int] = set()
        self._answers, self._seconds = answers, seconds
        self._timers: dict[int, asyncio.TimerHandle] = {}

    def look(self) -> None:
        """To be called when tokens came: answers that have begun are timed from now on."""
        for index, reader in enumerate(self._answers.readers):
            if reader.tokens and index not in self._timers:
                passed = time.monotonic() - self._answers.admitted(index)
                self._after(self._seconds - passed, index, self._end_soon)

    def close(self) -> None:
        for timer in self._timers.values():
            timer.cancel()

    def _after(self, seconds: float, index: int, act: Callable[[int], None]) -> None:
        self._timers[index] = asyncio.get_running_loop().call_later(max(0.0, seconds), act, index)

    def _end_soon(self, index: int) -> None:
        self._answers.readers[index].end_soon()
        self._after(max(SHORTEST_GRACE, self._seconds / 4), index, self._end)

    def _end(self, index: int) -> None:
        if self._answers.readers[index].result is None:
            self.late.add(index)
            self._answers.readers[index].cancel()
