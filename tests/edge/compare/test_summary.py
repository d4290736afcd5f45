"""Figures that can be counted by hand in the sample, and that no winner is found where there is none."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.compare.summary import beyond_noise, bootstrap, chance, difference, summarize, wilson, winner
from tests.edge.compare.sample import CODE, sample, small


def test_the_sample_by_hand() -> None:
    high, low, server, failed = summarize(sample())
    assert [one.scores["code"].value for one in (high, low, server)] == pytest.approx([5.5 / 6, 1 / 6, 0.5 / 6])
    assert [one.scores["code"].n for one in (high, low, server)] == [6, 6, 6], "repeats of a question are no new ones"
    assert high.scores["json"].value == 0.5, "constrained answers have a score of their own"
    assert (high.scores["json"].low, high.scores["json"].high) == wilson([1, 1, 0, 0])
    assert high.overall is not None and high.overall.value == pytest.approx((5.5 / 6 + 0.5) / 2)
    assert [(one.rate, one.ttft, one.seconds) for one in (high, low)] == [(20.0, 0.25, 2.0), (40.0, 0.25, 2.0)]
    assert (high.size, high.memory, server.size, server.errors) == (600_000_000, 900_000_000, None, 2)
    assert (failed.scores, failed.rate, failed.failed) == ({}, None, "three cannot be served: <b>no</b>")


def test_what_is_told_beside_a_score() -> None:
    told = summarize(sample())[1].parts["json"]
    assert (told["valid, plain"], told["valid, constrained"], told["complete, constrained"]) == (0.5, 1.0, 0.75)
    assert told["score, constrained"] == 0.75


def test_precision_and_recall_are_of_sums() -> None:
    found = small([1] * 6)
    for one, detail in zip(found["answers"], [(3, 1, 0), (0, 0, 2), (1, 0, 0), *[(0, 0, 0)] * 3], strict=True):
        one["detail"] = dict(zip(("tp", "fp", "fn"), detail, strict=True))
    assert summarize(found)[0].parts["mine"] == {"precision": 4 / 5, "recall": 4 / 6}


def test_first_and_second_time() -> None:
    found = small([1] * 6)
    for one, variant, ttft in zip(found["answers"], ["first", "second"] * 3, [4, 1, 6, 2, 5, 3], strict=True):
        one |= {"variant": variant, "ttft": float(ttft)}
    told = summarize(found)[0].parts["mine"]
    assert (told["TTFT, first time (s)"], told["TTFT, second time (s)"]) == (5.0, 2.0)


def test_a_suite_with_documents_tells_its_first_token() -> None:
    found = small([1] * 6)
    assert not summarize(found)[0].parts
    found["suites"][0]["questions"][0]["document"] = "project@0.5"
    for number, one in enumerate(found["answers"]):
        one["ttft"] = 10.0 + number % 2
    assert summarize(found)[0].parts["mine"] == {"TTFT (s)": 10.5}


def test_how_often_signs_do_as_well() -> None:
    assert chance([1] * 5) == 2 / 32
    assert chance([1] * 6) == 2 / 64
    assert chance([1] * 6 + [-1]) == 16 / 128, "seven of a kind, or six: 2 * (1 + 7)"
    assert chance([0, 0.25, 0, 0.5]) == 2 / 4, "ties tell nothing"
    assert chance([]) == chance([0.0]) == 1
    assert chance([1.0] * 20) < 0.001 < 0.5 < chance([1.0, -1.0] * 10), "more than can be tried"


def test_the_sample_has_one_winner() -> None:
    assert winner(sample(), "code") == 0
    assert winner(sample(), "json") is None and winner(sample(), "chat") is None and winner(sample(), "none") is None


@settings(deadline=None, max_examples=25)
@given(st.lists(st.sampled_from([0.0, 0.25, 0.5, 1.0]), min_size=6, max_size=6), st.integers(2, 4))
def test_no_winner_among_equals(scores: list[float], models: int) -> None:
    assert winner(small(*[scores] * models), "mine") is None


@pytest.mark.parametrize("questions", [5, 6, 8])
def test_models_that_are_alike_are_seldom_told_apart(questions: int) -> None:
    """The bootstrap alone found a difference in 9 to 12 of a hundred."""
    rng, told_apart = random.Random(1), 0
    for _ in range(100):
        one, other = ({str(number): float(rng.random() < 0.5) for number in range(questions)} for _ in range(2))
        told_apart += beyond_noise(difference(one, other))
    assert told_apart <= 5


def test_no_difference_without_common_questions() -> None:
    assert difference({CODE[0]: 1.0}, {CODE[1]: 0.0}) is None
    assert not beyond_noise(None)


def test_intervals() -> None:
    low, high = wilson([1] * 9 + [0])  # 0.9 of 10, as tables have it
    assert (round(low, 3), round(high, 3)) == (0.596, 0.982)
    assert wilson([1.0] * 5)[1] == 1 and wilson([1.0] * 5)[0] < 0.6
    low, high = bootstrap((0.2, 0.4, 0.6))
    assert 0.2 <= low < 0.4 < high <= 0.6


def test_no_winner_within_the_noise() -> None:
    assert winner(small([1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0]), "mine") is None
    assert winner(small([1] * 6, [1] * 6), "mine") is None
    assert winner(small([1] * 6, [0] * 6), "mine") == 0
    assert winner(small([0] * 6, [1] * 6, [1] * 6), "mine") is None, "two are as good"
