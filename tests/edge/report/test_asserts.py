"""``--assert``: what can be written, and what is said of a level that breaks it."""

from __future__ import annotations

import pytest

from edge.report.asserts import AssertionUnclear, failures, parse_assertions
from edge.report.metrics import METRICS, name_forms, parse_name
from tests.edge.report.sample import HOSTILE, just_begun, one_level, sample


def broken(text: str, result: dict | None = None) -> list[str]:
    return failures(parse_assertions(text), sample() if result is None else result)


def test_assertions_are_read_with_spaces_and_all_operators():
    found = parse_assertions(" tg128>=8, ttft < 3 ,pp512@4096>50,kl<=.1,knee==8,tg128x4@4096>1e1 ")
    assert [(str(one.name), one.operator, one.value) for one in found] == [
        ("tg128", ">=", 8.0),
        ("ttft", "<", 3.0),
        ("pp512@4096", ">", 50.0),
        ("kl", "<=", 0.1),
        ("knee", "==", 8.0),
        ("tg128x4@4096", ">", 10.0),
    ]


@pytest.mark.parametrize(
    "text", ["", "tg128", "tg128>", ">8", "tg128>8,", "tg128=8", "tg128>8 t", "tg128>nan", "a b>1"]
)
def test_what_is_no_assertion_is_named(text: str):
    with pytest.raises(AssertionUnclear, match="is no assertion") as error:
        parse_assertions(text)
    assert error.value.exit_code == 2


@pytest.mark.parametrize(
    "name", ["pp99", "PP512", "kl@4096", "pp512x4", "tg128x0", "tg128@-1", "tg128@04", "tg128x4x4", "level", "²"]
)
def test_an_unknown_name_is_named_with_those_there_are(name: str):
    with pytest.raises(AssertionUnclear) as error:
        parse_assertions(f"tg128>=8,{name}<3")
    assert repr(name) in error.value.message
    assert "perplexity_en" in error.value.hint
    assert "tg128xSEQUENCES" in error.value.hint


def test_every_metric_can_be_asserted():
    for base, metric in METRICS.items():
        assert parse_name(base) is not None
        assert (parse_name(f"{base}@4096") is not None) == metric.deep
        assert base in name_forms()


def test_what_holds_says_nothing():
    assert broken("tg128>=19,ttft<7,pp512@4096>50,kl<0.1,tg128x4@4096>19,bytes<=600000000,tg128@0>19") == []


def test_each_level_that_breaks_one_has_a_line():
    assert broken("tg128 >= 22, top1 > 0.9") == [
        "Q8_0: tg128 is 19.7, not >= 22",
        "Q5_K_M: tg128 is 21.4, not >= 22",
        "Q4_0: top1 is 0.883, not > 0.9",
    ]


def test_widths_are_looked_up_by_depth():
    assert broken("tg128x4<1", one_level()) == ["Q4_0: tg128x4 is 52.37, not < 1"]
    assert broken("tg128x4@4096<1", one_level()) == ["Q4_0: tg128x4@4096 is 29.69, not < 1"]


def test_what_was_not_measured_is_a_failure():
    """An assertion on a figure that ``--no-quality`` leaves out must not pass in silence."""
    assert broken("kl<0.1", one_level()) == ["Q4_0: kl was not measured; it should be < 0.1"]
    assert len(broken("tg128>0", just_begun())) == 4
    assert "not measured" in broken("tg128x3>0", one_level())[0]
    assert broken("tg128>8", {"levels": []}) == ["no level was measured"]


@pytest.mark.parametrize("measured", [float("nan"), "fast", None, True, [1]])
def test_what_is_no_number_was_not_measured(measured: object):
    result = one_level()
    result["levels"][0]["tg128"] = measured
    assert "not measured" in broken("tg128>0", result)[0]


def test_a_near_miss_shows_that_it_is_one():
    result = one_level()
    result["levels"][0] |= {"tg128": 7.99996, "kl": 0.1 + 1e-17, "ttft": 3.0}
    assert broken("tg128>=8", result) == ["Q4_0: tg128 is 7.99996, not >= 8"]
    assert broken("ttft<3", result) == ["Q4_0: ttft is 3, not < 3"]


def test_zero_is_a_figure():
    result = one_level()
    result["levels"][0]["tg128"] = 0
    assert broken("tg128>0", result) == ["Q4_0: tg128 is 0, not > 0"]
    assert broken("tg128==0", result) == []


def test_a_level_cannot_write_to_the_terminal():
    result = one_level()
    result["levels"][0]["level"] = HOSTILE + "\n"
    assert broken("tg128>99", result)[0].isprintable()
