"""The recommendation, and the sentences around it in both languages."""

from __future__ import annotations

import itertools
import string

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.levels import LEVELS
from edge.plan.levels import LevelPlan, Verdict
from edge.plan.words import (
    ABOUT_AS_QUICK,
    READING,
    TEXTS,
    advice,
    fineness,
    locale_language,
    rate_text,
    recommended,
    seconds_text,
)
from tests.edge.plan.sample import GB, level_plan


def plans(*levels: tuple[str, Verdict, float]) -> list[LevelPlan]:
    return [level_plan(level, verdict=verdict, decode=decode) for level, verdict, decode in levels]


def chosen(*levels: tuple[str, Verdict, float]) -> str | None:
    found = recommended(plans(*levels))
    return found and found.level


# --- which level


def test_the_finest_that_is_as_fast_as_people_read() -> None:
    assert chosen(("Q8_0", "fits", 7.9), ("Q6_K", "fits", 8.0), ("Q4_K_M", "fits", 12.0)) == "Q6_K"
    assert chosen(("Q8_0", "fits", 9.0), ("Q4_0", "fits", 30.0)) == "Q8_0"


def test_else_the_finest_of_those_that_are_about_as_quick_as_the_quickest() -> None:
    assert chosen(("Q8_0", "fits", 2.0), ("Q6_K", "fits", 2.6), ("Q5_0", "fits", 3.0), ("Q4_0", "fits", 3.2)) == "Q6_K"
    assert chosen(("Q8_0", "fits", 2.0), ("Q6_K", "fits", 2.5), ("Q4_0", "fits", 3.2)) == "Q4_0"


def test_what_fits_comes_before_what_is_tight() -> None:
    assert chosen(("Q8_0", "tight", 20.0), ("Q4_0", "fits", 1.0)) == "Q4_0"
    assert chosen(("Q8_0", "does not fit", 20.0), ("Q4_0", "tight", 1.0)) == "Q4_0"
    assert chosen(("Q8_0", "does not fit", 20.0), ("Q4_0", "does not fit", 30.0)) is None
    assert chosen() is None


def test_floats_give_way() -> None:
    """They answer as Q8_0 does, at half the speed."""
    assert chosen(("F16", "fits", 20.0), ("BF16", "fits", 20.0), ("Q4_0", "fits", 40.0)) == "Q4_0"
    assert chosen(("F32", "fits", 9.0), ("F16", "fits", 20.0)) == "F32"
    assert chosen(("F16", "fits", 20.0), ("Q8_0", "tight", 40.0)) == "F16"


def test_a_level_without_a_known_name_is_the_coarsest() -> None:
    assert chosen(("my-model", "fits", 20.0), ("Q2_K", "fits", 20.0)) == "Q2_K"
    assert chosen(("my-model", "fits", 20.0)) == "my-model"
    assert fineness(level_plan("F32")) == 0 < fineness(level_plan("Q2_K")) < fineness(level_plan("my-model"))


LEVEL_PLANS = st.lists(
    st.builds(
        lambda level, verdict, decode: level_plan(level, verdict=verdict, decode=decode),
        st.sampled_from([*LEVELS, "odd"]),
        st.sampled_from(["fits", "tight", "does not fit"]),
        st.floats(0.01, 1000),
    ),
    unique_by=lambda plan: plan.level,
)


@settings(deadline=None)
@given(LEVEL_PLANS)
def test_no_other_level_would_be_better(given_plans: list[LevelPlan]) -> None:
    found = recommended(given_plans)
    fitting = [plan for plan in given_plans if plan.verdict == "fits"]
    if found is None:
        assert all(plan.verdict == "does not fit" for plan in given_plans)
        return
    assert found.verdict == ("fits" if fitting else "tight")
    alike = [plan for plan in given_plans if plan.verdict == found.verdict]
    quickest = max(plan.decode for plan in alike if plan.level not in ("F32", "F16", "BF16") or plan is found)
    assert found.decode >= min(READING, ABOUT_AS_QUICK * quickest)
    for plan in alike:
        if plan.level not in ("F32", "F16", "BF16") and fineness(plan) < fineness(found):
            assert plan.decode < min(READING, ABOUT_AS_QUICK * quickest)


@settings(deadline=None)
@given(LEVEL_PLANS.filter(bool))
def test_the_order_of_levels_does_not_matter(given_plans: list[LevelPlan]) -> None:
    assert recommended(given_plans) == recommended(given_plans[::-1])


# --- what is said


def said(given_plans: list[LevelPlan], language: str = "en", disk: int | None = 100 * GB) -> list[str]:
    return advice(given_plans, 12 * GB, disk, "edge convert m --level {level}", language, 512)


EASY = plans(("Q8_0", "fits", 7.0), ("Q4_K_M", "fits", 10.0))


def test_english() -> None:
    assert said(EASY) == [
        "Take Q4_K_M: it needs 5.00 GB of memory, writes about 10 tokens/s (as fast as one reads, or faster) and begins"
        " to answer a question of 512 tokens after about 5.2 s.",
        "Q8_0 is finer, but writes only 7.0 tokens/s.",
        "Next: edge convert m --level Q4_K_M",
    ]


def test_chinese() -> None:
    assert said(EASY, "zh") == [
        "建议选择 Q4_K_M：需要 5.00 GB 内存，每秒约生成 10 个 token（不慢于阅读速度），"
        "512 个 token 的问题约 5.2 s 后开始回答。",
        "Q8_0 精度更高，但每秒只能生成 7.0 个 token。",
        "下一步：edge convert m --level Q4_K_M",
    ]


def test_slow_and_tight() -> None:
    tight = plans(("Q8_0", "does not fit", 7.0), ("Q4_K_M", "tight", 4.0))
    first, closing, finer, following = said(tight)
    assert "4.0 tokens/s (slower than one reads)" in first
    assert closing == "Memory is tight: close other programs before."
    assert finer == "Q8_0 is finer, but does not fit into memory."
    assert following == "Next: edge convert m --level Q4_K_M"
    assert said(tight, "zh")[1:3] == ["内存比较紧张：请先关闭其他程序。", "Q8_0 精度更高，但内存放不下。"]
    assert "（慢于阅读速度）" in said(tight, "zh")[0]


def test_why_not_the_next_finer_level() -> None:
    """Where the recommended level was tight itself, a finer one was refused for being tight, though it was slow."""
    assert said(plans(("Q6_K", "tight", 9.0), ("Q4_0", "fits", 9.0)))[1] == "Q6_K is finer, but memory would be tight."
    both = said(plans(("Q6_K", "tight", 1.0), ("Q4_0", "tight", 9.0)))
    assert both[2] == "Q6_K is finer, but writes only 1.0 tokens/s."
    three = said(plans(("Q8_0", "does not fit", 9.0), ("Q6_K", "tight", 9.0), ("Q4_0", "fits", 9.0)))
    assert [line for line in three if "finer" in line] == ["Q6_K is finer, but memory would be tight."]
    assert not any("finer" in line for line in said(plans(("F16", "tight", 9.0), ("Q4_0", "fits", 9.0))))


def test_nothing_fits() -> None:
    none = [level_plan("Q8_0", verdict="does not fit", memory=40 * GB)]
    none += [level_plan("Q4_0", verdict="does not fit", memory=20 * GB)]
    assert said(none) == [
        "None of these fits into the memory of this machine: 12.00 GB are free, the smallest needs 20.00 GB. "
        "Take a smaller model."
    ]
    assert said(none, "zh") == [
        "这台机器的内存放不下以上任何一个量化级别：空闲 12.00 GB，最小的也需要 20.00 GB。请换一个更小的模型。"
    ]


def test_a_full_disk_leaves_nothing_to_do_next() -> None:
    full = [level_plan("Q4_0", disk=19 * GB, disk_is_short=True)]
    assert said(full, disk=3 * GB)[1:] == ["The disk is too full: 19.00 GB are needed, 3.00 GB are free."]
    assert said(full, "zh", 3 * GB)[1:] == ["磁盘空间不足：需要 19.00 GB，只剩 3.00 GB。"]


def test_what_is_here_needs_no_command() -> None:
    assert len(said([level_plan("Q4_0", here=True)])) == 1
    assert len(advice([level_plan("Q4_0")], GB, None, "", "en", 512)) == 1


def test_braces_in_the_name_of_a_folder() -> None:
    """They were taken for a place to fill in: KeyError."""
    command = "edge convert ./{x} --level {level}"
    assert advice([level_plan("Q4_0")], GB, None, command, "en", 512)[-1] == "Next: edge convert ./{x} --level Q4_0"


def test_both_languages_say_the_same() -> None:
    def places(text: str) -> set[str]:
        return {name for _, name, _, _ in string.Formatter().parse(text) if name}

    assert TEXTS["en"].keys() == TEXTS["zh"].keys()
    for key, text in TEXTS["en"].items():
        assert places(text) == places(TEXTS["zh"][key]), key


# --- which language


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_TW"}, "zh"),
        ({"LANG": "ZH"}, "zh"),
        ({"LANG": "en_US.UTF-8"}, "en"),
        ({"LANG": "de_DE.UTF-8"}, "en"),
        ({"LANG": "C.UTF-8", "LC_MESSAGES": "zh_CN"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C"}, "en"),
        ({"LANG": "en_US", "LC_MESSAGES": "en_US", "LC_ALL": "zh_CN.UTF-8"}, "zh"),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": ""}, "zh"),
    ],
)
def test_the_language_is_that_of_messages(environment: dict[str, str], language: str) -> None:
    assert locale_language(environment) == language


@pytest.mark.parametrize(
    ("system", "language"),
    [("Chinese (Simplified)_China", "zh"), ("zh_CN", "zh"), ("English_United States", "en"), (None, "en")],
)
def test_without_variables_the_system_is_asked(
    monkeypatch: pytest.MonkeyPatch, system: str | None, language: str
) -> None:
    """Windows has none of them: it was always English there."""
    monkeypatch.setattr("locale.getlocale", lambda: (system, None))
    assert locale_language({}) == locale_language({"LANG": "", "LC_ALL": ""}) == language


# --- numbers


def test_rates_have_two_digits_or_all() -> None:
    texts = {0.04: "0.0", 0.96: "1.0", 9.94: "9.9", 10.0: "10", 10.4: "10", 2496.4: "2496"}
    assert {rate: rate_text(rate) for rate in texts} == texts


def test_times_are_seconds_or_minutes() -> None:
    times = {0.0: "0.0 s", 0.06: "0.1 s", 9.94: "9.9 s", 10.0: "10 s", 119.4: "119 s", 120.0: "2 min", 3600.0: "60 min"}
    assert {seconds: seconds_text(seconds) for seconds in times} == times
    texts = [seconds_text(seconds) for seconds in (1.0, 60.0, 600.0, 6000.0)]
    assert all(one != other for one, other in itertools.pairwise(texts))
