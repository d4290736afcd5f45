"""Names, knees and settings of a measurement."""

from __future__ import annotations

import json

import pytest

from edge.bench.speed import (
    ANSWER,
    CLOCKS,
    PROMPT,
    STEP_WORK,
    WIDE_ANSWER,
    Options,
    from_json,
    key,
    knee,
    longest,
    widest,
    work,
)
from edge.report.metrics import METRICS, parse_name


@pytest.mark.parametrize(
    ("rates", "narrow", "wide"),
    [
        ({1: 10.0}, 1, 1),
        ({1: 10.0, 2: 20.0, 4: 30.0, 8: 40.0}, 8, 8),
        ({1: 10.0, 2: 20.0, 4: 39.0, 8: 40.0}, 4, 8),
        ({1: 10.0, 2: 20.0, 4: 40.0, 8: 39.0}, 4, 8),
        ({1: 10.0, 2: 20.0, 4: 40.0, 8: 30.0}, 4, 4),
        ({1: 10.0, 2: 9.9, 4: 9.8, 8: 9.6}, 1, 8),
        ({1: 10.0, 2: 9.0, 4: 8.0, 8: 7.0}, 1, 1),
        ({1: 19.0, 2: 18.9, 4: 20.0}, 1, 4),  # 95 % is enough, and less is not
        ({8: 39.0, 4: 40.0, 1: 5.0}, 4, 8),
    ],
)
def test_the_narrowest_and_the_widest_with_nearly_the_most(rates: dict[int, float], narrow: int, wide: int) -> None:
    assert (knee(rates), widest(rates)) == (narrow, wide)


def test_what_a_measurement_is_called() -> None:
    assert [key("pp512", 0), key("pp512", 64), key("knee", 4096)] == ["pp512", "pp512@64", "knee@4096"]
    assert all(parse_name(key(name, depth)) for name in ("pp512", "tg128", "decode", "ttft") for depth in (0, 4096))


def test_prompt_and_answer_are_those_of_their_names() -> None:
    assert (f"pp{PROMPT}", f"tg{ANSWER}") == ("pp512", "tg128")
    assert {"pp512", "tg128"} <= METRICS.keys()


def test_every_clock_is_a_sentence_about_something_that_is_measured() -> None:
    assert set(CLOCKS) - {"widths", "@", "sustained", "perplexity"} <= METRICS.keys()
    assert {"load", "pp512", "tg128", "decode", "ttft", "widths", "peak_memory", "@", "sustained"} <= CLOCKS.keys()
    assert all(text and not text.endswith(".") for text in CLOCKS.values())


def test_work_grows_with_the_width() -> None:
    assert work(2) == (STEP_WORK + 2) * WIDE_ANSWER
    assert work(1) == (STEP_WORK + 1) * WIDE_ANSWER + PROMPT + STEP_WORK * ANSWER
    assert work(2) < work(4) < work(8)


def test_room_for_a_prompt_and_an_answer() -> None:
    for depth in (0, 64, 4096):
        assert longest(depth) - depth > PROMPT + 4 and longest(depth) - depth > ANSWER + 1


def test_options_as_json_and_back() -> None:
    for options in (
        Options(2, 3, None),
        Options(1, 1, True, 64, "q8_0", -1, (0, 7), (1, 3), 5, 0.5, True),
    ):
        back = from_json(json.loads(json.dumps(options.to_json())))
        assert back == options and hash(back) == hash(options)
