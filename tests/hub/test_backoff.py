"""Waiting before the next attempt, and the bandwidth limit, by a clock that the test turns."""

from __future__ import annotations

import pytest

from edge.hub.backoff import MOST, PATIENCE, RateLimit, wait_before


@pytest.mark.parametrize(("attempt", "longest"), [(1, 0.5), (2, 1), (3, 2), (5, 8), (30, MOST)])
def test_doubling_half_of_it_by_chance(attempt: int, longest: float) -> None:
    assert wait_before(attempt, None, 0) == longest / 2
    assert wait_before(attempt, None, 0.5) == longest * 3 / 4
    assert wait_before(attempt, None, 0.999) < longest


def test_what_the_server_asked_for_is_kept_and_never_come_before() -> None:
    assert wait_before(1, 7, 0) == 7 and 7 < wait_before(1, 7, 0.5) <= 8
    assert wait_before(9, 0, 0) == 0
    assert wait_before(1, 1e9, 0) == PATIENCE


class Clock:
    """Sleeping turns it on."""

    def __init__(self) -> None:
        self.now, self.slept = 100.0, [0.0]

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_so_many_bytes_take_so_long() -> None:
    clock = Clock()
    limit = RateLimit(1_000, clock, clock.sleep)
    for _ in range(10):
        limit.take(500)
    assert clock.now == pytest.approx(105)


def test_time_spent_elsewhere_is_not_waited_for_again() -> None:
    clock = Clock()
    limit = RateLimit(1_000, clock, clock.sleep)
    limit.take(1_000)
    clock.now += 0.75
    limit.take(1_000)
    assert clock.slept[-1] == pytest.approx(1)


def test_an_idle_hour_saves_no_bytes_for_later() -> None:
    clock = Clock()
    limit = RateLimit(1_000, clock, clock.sleep)
    limit.take(1)
    clock.now += 3_600
    limit.take(5_000)
    assert clock.slept[-1] == pytest.approx(5)


def test_threads_share_the_rate() -> None:
    """The second asks while the first one sleeps: it waits behind it."""
    clock, waits = Clock(), []
    limit = RateLimit(1_000, clock, waits.append)
    limit.take(1_000)
    limit.take(1_000)
    assert waits == pytest.approx([1, 2])


def test_no_limit_never_sleeps() -> None:
    clock = Clock()
    RateLimit(None, clock, clock.sleep).take(1 << 40)
    assert clock.slept == [0.0]
