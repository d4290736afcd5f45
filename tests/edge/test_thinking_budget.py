"""The limit on thoughts, with a vocabulary of whole words."""

from __future__ import annotations

import numpy as np
import pytest

from edge.thinking_budget import ThinkingBudget

WORDS = [b"<think>", b"</think>", b"\n", b"so ", b"yes", b"<thi", b"nk>", b"</th", b"ink>"]
OPEN, CLOSE, NEWLINE, SO, YES, OPEN_1, OPEN_2, CLOSE_1, CLOSE_2 = range(len(WORDS))
CLOSING = [NEWLINE, CLOSE]


class Inner:
    def __init__(self) -> None:
        self.accepted: list[int] = []
        self.masked = 0

    def mask(self, logits: np.ndarray) -> None:
        self.masked += 1

    def accept(self, token: int) -> None:
        self.accepted.append(token)

    def forced(self) -> list[int]:
        return [YES]


def forced_after(*tokens: int, budget: int = 3, inside: bool = False) -> list[int]:
    limit = ThinkingBudget(budget, CLOSING, WORDS.__getitem__, inside=inside)
    for token in tokens:
        limit.accept(token)
    return limit.forced()


@pytest.mark.parametrize("begin", [[OPEN], [OPEN_1, OPEN_2], [NEWLINE, OPEN]])
def test_thoughts_end_at_the_budget(begin: list[int]) -> None:
    assert forced_after(*begin, SO, budget=len(begin) + 2) == []
    assert forced_after(*begin, SO, SO, budget=len(begin) + 2) == CLOSING


def test_thoughts_that_the_prompt_began() -> None:
    assert forced_after(SO, SO, inside=True) == []
    assert forced_after(SO, SO, SO, inside=True) == CLOSING


@pytest.mark.parametrize("closing", [CLOSING, [CLOSE]])
def test_a_budget_of_nothing(closing: list[int]) -> None:
    """One token was thought all the same: the end was forced only behind one."""
    limit = ThinkingBudget(0, closing, WORDS.__getitem__, inside=True)
    logits = np.zeros(len(WORDS), np.float32)
    limit.mask(logits)
    assert np.flatnonzero(np.isfinite(logits)).tolist() == closing[:1]
    limit.accept(closing[0])
    assert limit.forced() == closing[1:]
    for token in closing[1:]:
        limit.accept(token)
    limit.mask(logits := np.zeros(len(WORDS), np.float32))
    assert not logits.any() and limit.forced() == []


@pytest.mark.parametrize("close", [[CLOSE], [CLOSE_1, CLOSE_2]])
def test_who_stops_by_himself_is_left_alone(close: list[int]) -> None:
    assert forced_after(SO, *close, *[YES] * 9, inside=True) == []


def test_an_answer_without_thoughts_has_no_limit() -> None:
    assert forced_after(*[YES] * 9) == []
    assert forced_after(YES, OPEN, *[YES] * 9) == [], "a tag further on is content"


def test_the_constraint_within_sees_everything() -> None:
    inner = Inner()
    limit = ThinkingBudget(2, CLOSING, WORDS.__getitem__, inside=True, inner=inner)
    limit.mask(np.zeros(3, np.float32))
    for token in (SO, SO):
        limit.accept(token)
    assert limit.forced() == CLOSING, "not what the constraint forces: it has not begun"
    for token in CLOSING:
        limit.accept(token)
    assert limit.forced() == [YES]
    assert inner.accepted == [SO, SO, *CLOSING] and inner.masked == 1
