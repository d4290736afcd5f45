"""Reading an old result that may hold anything, and what became better or worse since."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from edge.report.against import (
    MAX_BYTES,
    Difference,
    ResultUnreadable,
    difference_table,
    differences,
    load_result,
    remarks,
)
from tests.edge.report.sample import HOSTILE, hostile, just_begun, odd, one_level, sample, sustained, zeros


def written(folder: Path, content: str | bytes) -> Path:
    path = folder / "old.json"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


# --- reading


@pytest.mark.parametrize("result", [sample(), sustained(sample()), one_level(), just_begun(), zeros(), hostile()])
def test_what_a_run_writes_is_read_as_it_was(tmp_path: Path, result: dict):
    text = json.dumps(result)
    assert load_result(written(tmp_path, text)) == result
    assert load_result(written(tmp_path, json.dumps(result, indent=2))) == result


def test_the_last_line_counts_where_others_were_saved_before_it(tmp_path: Path):
    text = f"converting...\n{{\n{json.dumps(sample())}\n\n"
    assert load_result(written(tmp_path, text)) == sample()
    windows = b"\xef\xbb\xbf" + json.dumps(sample()).encode() + b"\r\n"
    assert load_result(written(tmp_path, windows)) == sample()


def changed(**change: object) -> str:
    result = one_level()
    result["levels"][0] |= change
    return json.dumps(result)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no result of a benchmark"),
        (b"\xff\xfe\x00", "no result of a benchmark"),
        ("[]", "not an object"),
        ("{}", 'no list "levels"'),
        ('{"levels": {}}', 'no list "levels"'),
        ('{"levels": [1]}', "not an object with its name"),
        ('{"levels": [{"level": 7}]}', "not an object with its name"),
        ('{"levels": [], "machine": []}', "machine is not an object"),
        ('{"levels": [{"level": "a"}, {"level": "a"}]}', "'a' is there twice"),
        ('{"levels": [{"level": "a", "tg128": NaN}]}', "NaN is no number"),
        ('{"levels": [{"level": "a", "tg128": 1e999}]}', "tg128 of level 'a' is no number"),
        ('{"levels": [{"level": "a", "tg128": 1' + 400 * "0" + "}]}", "tg128 of level 'a' is no number"),
        ('{"levels": [{"level": "a", "tg128": 1' + 5000 * "0" + "}]}", "no result"),
        (changed(tg128="fast"), "tg128 of level 'Q4_0' is no number"),
        (changed(tg128=True), "is no number"),
        (changed(**{"pp512@4096": []}), "pp512@4096 of level"),
        (changed(spread={"tg128": [1]}), "spread of tg128 is not two numbers"),
        (changed(spread={"tg128": [1, None]}), "spread of tg128 is not two numbers"),
        (changed(spread=[]), "spread of level 'Q4_0' is of the wrong type"),
        (changed(widths={"0": [1]}), "widths at depth 0 are not an object"),
        (changed(widths={"0": {"1": "x"}}), "width 1 at depth 0"),
        (changed(sustained=[1]), "point of the sustained run"),
        (changed(sustained=[{"tg": "x"}]), "tg of the sustained run"),
        (changed(expected={"tg128": "x"}), "is no number"),
        ("[" * 200_000, "nested too deep"),
    ],
)
def test_what_is_no_result_is_refused(tmp_path: Path, content: str | bytes, words: str):
    with pytest.raises(ResultUnreadable) as error:
        load_result(written(tmp_path, content))
    assert words in error.value.message
    assert "edge bench --json" in error.value.hint


def test_a_file_that_is_missing_or_far_too_large_is_refused(tmp_path: Path):
    with pytest.raises(ResultUnreadable, match="cannot read"):
        load_result(tmp_path / "none.json")
    with pytest.raises(ResultUnreadable, match="cannot read"):
        load_result(tmp_path)
    with pytest.raises(ResultUnreadable, match="larger than 16 MiB"):
        load_result(written(tmp_path, b" " * (MAX_BYTES + 1)))


def test_unknown_keys_and_nulls_do_no_harm(tmp_path: Path):
    path = written(tmp_path, changed(tg128=None, note="mine", future={"a": []}))
    found = differences(load_result(path), one_level())
    assert "pp512" in {row.name for row in found}
    assert "tg128" not in {row.name for row in found}


# --- comparing


def compare(**change: object) -> dict[str, Difference]:
    new = one_level()
    new["levels"][0] |= change
    return {row.name: row for row in differences(one_level(), new)}


def test_the_same_result_has_no_differences():
    rows = differences(sample(), sample())
    assert {row.mark for row in rows} == {"same"}
    assert {row.level for row in rows} == {"Q8_0", "Q5_K_M", "Q4_K_M", "Q4_0"}
    assert {"bytes", "ttft@4096", "kl", "top1", "tg128x8@4096"} <= {row.name for row in rows}
    assert remarks(sample(), sample()) == []


@pytest.mark.parametrize(
    ("name", "larger_is"),
    [
        ("tg128", "better"),
        ("pp512", "better"),
        ("decode@4096", "better"),
        ("top1", "better"),
        ("ttft", "worse"),
        ("ttft@4096", "worse"),
        ("load", "worse"),
        ("peak_memory", "worse"),
        ("kl", "worse"),
        ("perplexity_zh", "worse"),
        ("bytes", "worse"),
    ],
)
def test_what_is_better(name: str, larger_is: str):
    old, new = sample(), sample()
    for level in (*old["levels"], *new["levels"]):
        level["spread"] = {}
    new["levels"][3][name] *= 1.6
    smaller_is = {"better": "worse", "worse": "better"}[larger_is]
    assert next(row for row in differences(old, new) if (row.level, row.name) == ("Q4_0", name)).mark == larger_is
    assert next(row for row in differences(new, old) if (row.level, row.name) == ("Q4_0", name)).mark == smaller_is


def test_a_ratio_is_new_over_old():
    row = compare(tg128=60.2, spread={"tg128": [60.0, 61.0]})["tg128"]
    assert (row.old, row.new, row.mark) == (30.1, 60.2, "better")
    assert row.ratio == pytest.approx(2.0)


def test_only_what_lies_outside_both_spreads_counts():
    """Old tg128 is 30.1, between 29.8 and 30.7."""
    assert compare(tg128=31.0, spread={"tg128": [30.6, 31.4]})["tg128"].mark == "same"
    assert compare(tg128=31.0, spread={"tg128": [30.8, 31.4]})["tg128"].mark == "better"
    assert compare(tg128=29.0, spread={"tg128": [28.0, 29.9]})["tg128"].mark == "same"
    assert compare(tg128=29.0, spread={"tg128": [28.0, 29.7]})["tg128"].mark == "worse"


def test_what_was_measured_once_is_not_sure():
    """Widths keep no spread: a few per cent are noise, and say nothing."""
    new = one_level()
    new["levels"][0]["widths"]["0"]["8"] *= 1.08
    new["levels"][0]["widths"]["0"]["4"] *= 1.5
    marks = {row.name: row.mark for row in differences(one_level(), new)}
    assert (marks["tg128x8"], marks["tg128x4"]) == ("same", "better")


def test_quality_is_as_sure_as_its_error():
    old, new = sample(), sample()
    new["levels"][3]["kl"] += 0.008  # the errors are 0.0047 each
    new["levels"][2]["kl"] += 0.008  # 0.0024
    marks = {row.level: row.mark for row in differences(old, new) if row.name == "kl"}
    assert (marks["Q4_0"], marks["Q4_K_M"]) == ("same", "worse")


def test_nothing_is_divided_by_zero():
    rows = differences(zeros(), sample())
    assert rows
    assert all(row.ratio is None for row in rows)
    assert {row.mark for row in rows if row.name == "tg128"} == {"better"}


def test_levels_that_only_one_has_are_told():
    old, new = sample(), sample()
    del old["levels"][0], new["levels"][3]
    assert {row.level for row in differences(old, new)} == {"Q5_K_M", "Q4_K_M"}
    assert remarks(old, new) == ["Q4_0: only in the old result", "Q8_0: only in the new result"]


def test_another_machine_library_or_setting_is_told():
    new = sample()
    new["model"] = "qwen3-4b"
    new["machine"] |= {"cpu": "AMD EPYC", "library": "llama-cpp-python 0.4.0 (AVX)", "bandwidth": 15e9, "flops": 151e9}
    new["settings"] |= {"repeats": 5, "depths": [0], "extra": 1}
    new["levels"][1] |= {"threads": 4, "flash_attn": None, "reference": "F16", "weights": 1}
    assert remarks(sample(), new) == [
        "model is qwen3-4b, was qwen2.5-coder-0.5b",
        "machine: cpu is AMD EPYC, was Intel(R) Xeon(R) Processor @ 2.50GHz",
        "machine: library is llama-cpp-python 0.4.0 (AVX), was llama-cpp-python 0.3.36 (AVX, AVX2, AVX512, FMA)",
        "machine: bandwidth is 1.5e+10, was 2.13e+10",
        "settings: depths is 0, was 0, 4096",
        "settings: repeats is 5, was 3",
        "Q5_K_M: weights is 1, was 494032768",
        "Q5_K_M: reference is F16, was Q8_0",
        "Q5_K_M: threads is 4, was 2",
        "Q5_K_M: flash_attn is -, was False",
    ]


def test_tuples_of_a_new_result_are_the_lists_of_an_old_one():
    """Settings that were never written differ in type alone: every comparison would have claimed other depths."""
    new = sample()
    new["settings"] |= {key: tuple(new["settings"][key]) for key in ("depths", "widths")}
    assert remarks(sample(), new) == []


@pytest.mark.parametrize("result", [odd(), {}, hostile()])
def test_odd_results_are_compared_without_harm(result: dict):
    differences(sample(), result)
    differences(result, sample())
    assert all(line.isprintable() for line in [*remarks(sample(), result), *remarks(result, sample())])


# --- showing


def shown(rows: list[Difference], *, everything: bool = False) -> str:
    out = StringIO()
    Console(file=out, width=80).print(difference_table(rows, everything))
    return out.getvalue()


def test_the_table_shows_what_changed_and_counts_the_rest():
    new = sample()
    new["levels"][3] |= {"tg128": 45.0, "spread": {"tg128": [44.0, 46.0]}, "ttft": 9.0}
    rows = differences(sample(), new)
    lines = shown(rows).splitlines()
    assert [line.split() for line in lines[1:3]] == [
        ["Q4_0", "tg128", "30.1", "tok/s", "45.0", "tok/s", "1.495", "better"],
        ["Q4_0", "ttft", "2.73", "s", "9.00", "s", "3.294", "worse"],
    ]
    assert f"{len(rows) - 2} figures differ by no more" in lines[3]
    assert len(shown(rows, everything=True).splitlines()) == len(rows) + 1


def test_names_in_the_table_are_only_names():
    old, new = sample(), sample()
    for result in (old, new):
        result["levels"][3]["level"] = HOSTILE
    new["levels"][3]["bytes"] *= 2
    text = shown(differences(old, new))
    assert "\x1b" not in text
    assert "red]" in text
