"""How long to wait before asking again, and how fast to read."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from edge.hub.source import Cut

Result = TypeVar("Result")

FIRST, MOST = 0.5, 60.0  # seconds
TRIES = 4  # of a listing
PATIENCE = 600.0  # seconds that a server may ask for
SHORT_PATIENCE = 30.0  # the same, while another source is left


def wait_before(attempt: int, asked: float | None, jitter: float) -> float:
    """Seconds before ``attempt``, which counts from 1: what the server asked for, else doubling, half of it by chance.

    ``jitter`` in [0, 1) keeps many clients from coming back together.
    """
    if asked is not None:
        return min(asked, PATIENCE) + jitter
    longest = min(MOST, FIRST * 2 ** (attempt - 1))
    return longest / 2 + longest / 2 * jitter


def patiently(
    work: Callable[[], Result],
    patience: float,
    sleep: Callable[[float], object] = time.sleep,
    jitter: Callable[[], float] = random.random,
) -> Result:
    """What ``work`` gives, asked again after a Cut; raises the last one after ``TRIES``, or a wait beyond patience."""
    attempt = 1
    while True:
        try:
            return work()
        except Cut as cut:
            if attempt == TRIES or (cut.wait or 0) > patience:
                raise
            sleep(wait_before(attempt, cut.wait, jitter()))
        attempt += 1


class RateLimit:
    """At most ``rate`` bytes a second over all threads; None for no limit."""

    def __init__(
        self,
        rate: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._rate, self._clock, self._sleep = rate, clock, sleep
        self._lock, self._free = threading.Lock(), 0.0

    def take(self, nbytes: int) -> None:
        """Wait until ``nbytes`` more may be read."""
        if self._rate is None:
            return
        with self._lock:
            now = self._clock()
            self._free = max(self._free, now) + nbytes / self._rate
            wait = self._free - now
        if wait > 0:
            self._sleep(wait)
