"""Tables for the terminal, in 80 columns, and CSV."""

from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from edge.report.tables import (
    QUALITY,
    SPEED,
    csv_text,
    figure_text,
    kl_text,
    quality_table,
    rate_text,
    seconds_text,
    speed_table,
    widths_grid,
    widths_table,
)
from tests.edge.report.sample import (
    HOSTILE,
    LEVELS,
    hostile,
    just_begun,
    many_levels,
    odd,
    one_level,
    sample,
    zeros,
)


def printed(table: object, width: int = 80) -> list[str]:
    out = io.StringIO()
    Console(file=out, width=width).print(table)
    return [line.rstrip() for line in out.getvalue().splitlines()]


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("result", [sample(), one_level(), many_levels(), zeros()])
def test_everything_fits(result: dict, width: int):
    for table, depths in ((speed_table(result), 2), (quality_table(result), 1)):
        lines = printed(table, width)
        assert max(map(len, lines)) <= 80
        assert "…" not in "".join(lines)
        assert len(lines) == 2 + depths * len(result["levels"])


def test_several_answers_at_once():
    """A row for each level and depth, a column for each number of answers; nothing where only one was measured."""
    lines = printed(widths_table(sample()))
    assert lines[0].split() == ["LEVEL", "DEPTH", "1", "2", "4", "8"]
    assert lines[2].split() == ["Q8_0", "0", "19.7", *lines[2].split()[3:]] and len(lines) == 2 + 2 * len(LEVELS)
    one = sample()
    for level in one["levels"]:
        level["widths"] = {"0": {"1": 5.0}}
    assert widths_table(one).row_count == 0


def test_large_figures_fit_too():
    result = sample()
    for level in result["levels"]:
        level |= {"level": "IQ4_XS", "bytes": 42_520_398_432, "peak_memory": 45_100_000_000, "load": 123.4}
        level |= {"pp512": 12345.6, "tg128": 1234.5, "decode": 1200.0, "ttft": 123.4, "perplexity_en": 123456.7}
        level |= {"lasting": 1234.5}
    assert "LASTS" in printed(speed_table(result))[0]
    assert "…" not in "".join([*printed(speed_table(result)), *printed(quality_table(result))])


def test_the_tables_say_what_was_measured():
    lines = printed(speed_table(sample()))
    figures = ["LOAD", "DEPTH", "PP512", "TG128", "DECODE", "TTFT", "KNEE", "BANDW.", "FLOP/S"]
    assert lines[0].split() == ["LEVEL", *figures]
    assert lines[1].split()[:2] == ["s", "tokens"]
    assert lines[2].split() == ["Q8_0", "0.92", "0", "86.3", "19.7", "19.1", "5.97", "8", "49", "%", "41", "%"]
    assert lines[3].split() == ["4096", "62.1", "14.2", "13.8", "8.28", "4"]
    lines = printed(quality_table(sample()))
    assert lines[0].split() == ["LEVEL", "SIZE", "BITS/W", "MEMORY", "PPL", "PPL", "KL", "TOP-1"]
    assert lines[2].split() == ["Q8_0", "531.1", "MB", "8.51", "704.0", "MB", "14.62", "21.05", "reference"]
    assert lines[5].split() == [
        "Q4_0",
        "353.0",
        "MB",
        "5.65",
        "520.0",
        "MB",
        "15.47",
        "22.96",
        "0.0752",
        "±0.0047",
        "88.3",
        "±0.7",
    ]


def test_what_no_level_has_is_no_column():
    assert printed(quality_table(one_level()))[0].split() == ["LEVEL", "SIZE", "BITS/W", "MEMORY", "PPL", "PPL"]
    result = one_level()
    result["settings"]["depths"] = [0]
    for key in [key for key in result["levels"][0] if "4096" in key]:
        del result["levels"][0][key]
    result["levels"][0]["widths"] = {"0": {"1": 30.1}}
    assert "DEPTH" not in printed(speed_table(result))[0]
    assert widths_grid(result).rows == ()


def test_levels_not_yet_measured_are_blank():
    """The table is drawn while the first level is still being measured."""
    lines = printed(speed_table(just_begun()))
    assert [line.split()[0] for line in lines[2::2]] == list(LEVELS)
    result = just_begun()
    result["levels"][0] |= {"load": 1.0, "tg128": 20.0}
    lines = printed(speed_table(result))
    assert lines[0].split() == ["LEVEL", "LOAD", "DEPTH", "TG128"]
    assert lines[2].split() == ["Q8_0", "1.00", "0", "20.0"]
    assert lines[4].split() == ["Q5_K_M", "0"]


def test_settings_that_were_never_json_have_tuples():
    """A result that is still being made keeps its depths in a tuple; the rows of the deep one were missing at first."""
    result = just_begun()
    result["settings"]["depths"] = (0, 4096)
    assert len(printed(speed_table(result))) == 2 + 2 * len(LEVELS)


def test_names_are_only_names():
    result = hostile()
    lines = printed(speed_table(result))
    assert "[red]" in "".join(lines)
    assert "\x1b" not in "".join(lines)
    assert max(map(len, lines)) <= 80
    figures = [line for line in lines if "19.7" in line]
    assert figures[0].split()[-9:] == ["0", "86.3", "19.7", "19.1", "5.97", "8", "49", "%", "41", "%"][-9:]


@pytest.mark.parametrize("result", [odd(), {}, {"levels": None}])
def test_odd_results_make_small_tables(result: dict):
    assert printed(speed_table(result))[0] == "LEVEL"
    assert printed(quality_table(result))[0] == "LEVEL"


def test_zero_is_a_figure():
    cells = printed(speed_table(zeros()))[2].split()
    assert cells == ["Q8_0", "0.00", "0", "0.00", "0.00", "0.00", "0.00", "0", "0", "%", "0", "%"]


def test_figures_as_text():
    assert [rate_text(value) for value in (None, 0, 7.256, 30.14, 1234.5)] == ["", "0.00", "7.26", "30.1", "1234"]
    assert [seconds_text(value) for value in (None, 0.044, 12.34, 123.4)] == ["", "0.04", "12.3", "123"]
    assert [kl_text(value) for value in (None, 0, 0.00002, 0.0312)] == ["", "0.0000", "2.0e-05", "0.0312"]
    names = ("bytes", "ttft@4096", "tg128x4", "top1", "kl", "knee", "what")
    texts = ("352.0 MB", "2.70 s", "52.3 tok/s", "93.0 %", "0.0310", "8", "1.5")
    values = (352e6, 2.7, 52.3, 0.93, 0.031, 8.0, 1.5)
    assert tuple(figure_text(name, value) for name, value in zip(names, values, strict=True)) == texts


def test_every_heading_is_short():
    assert all(len(column.header) <= 9 and len(column.unit) <= 10 for column in (*SPEED, *QUALITY))


# --- CSV


def rows_of(result: dict) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(csv_text(result), newline="")))


def test_csv_has_a_line_for_each_level():
    text = csv_text(sample())
    assert text.count("\r\n") == 1 + len(LEVELS)
    first = rows_of(sample())[0]
    assert (first["model"], first["level"], first["file"]) == (
        "qwen2.5-coder-0.5b",
        "Q8_0",
        "qwen2.5-coder-0.5b-Q8_0.gguf",
    )
    assert (first["bytes"], first["tg128"], first["tg128@4096"]) == ("531068128", "19.7", "14.184")
    assert (first["tg128x4"], first["tg128x8@4096"], first["knee@4096"]) == ("34.278", "18.58104", "4")
    assert (first["kl"], first["reference"], first["tokens"]) == ("0", "Q8_0", "1022")


def test_what_was_not_measured_is_empty():
    row = rows_of(one_level())[0]
    assert row["kl"] == row["reference"] == ""
    assert row["tg128"] == "30.1"
    assert rows_of(just_begun())[3]["level"] == "Q4_0"


def test_names_stay_in_their_cell():
    result = one_level()
    result["levels"][0] |= {"level": 'a,"b"\n', "file": "=1+1.gguf"}
    result["model"] = HOSTILE
    row = rows_of(result)[0]
    assert row["level"] == 'a,"b" '
    assert row["file"] == "'=1+1.gguf"
    assert row["tg128"] == "30.1"
    assert len(rows_of(odd())) == 4
