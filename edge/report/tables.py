"""A result as tables: for the terminal while it grows and at its end, for the report, and as CSV. Pure.

A table is a ``Grid`` of texts first: the terminal and the report show the same. A level has a row for each depth.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table
from rich.text import Text

from edge.report.metrics import (
    METRICS,
    WIDE,
    Name,
    depths,
    is_reference,
    level_name,
    levels,
    look_up,
    number,
    parse_name,
    text,
    widths,
)
from edge.text import size_text

LEVEL_WIDTH = 24  # characters of a level's name in the terminal
FORMULA = ("=", "+", "-", "@")  # a spreadsheet computes a text that begins so

Level = Mapping[str, Any]


@dataclass(frozen=True)
class Column:
    """``header`` and ``unit`` are what the terminal shows above; ``cell``: level, depth -> text, empty for not
    measured. ``once``: only in a level's first row, the figure is of no depth."""

    header: str
    unit: str
    cell: Callable[[Level, int], str]
    once: bool = False


@dataclass(frozen=True)
class Grid:
    """``rows``: as many texts as there are columns; the first names the level, and is empty for its further depths."""

    columns: Sequence[Column]
    rows: Sequence[Sequence[str]]


# --- figures as text


def rate_text(value: float | None) -> str:
    """Tokens/s, with three or four digits."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 1000 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def seconds_text(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def percent_text(value: float | None, digits: int = 0) -> str:
    return "" if value is None else f"{100 * value:.{digits}f} %"


def kl_text(value: float | None) -> str:
    """Nats per token; a tiny one as a power of ten."""
    if value is None:
        return ""
    return f"{value:.1e}" if 0 < value < 0.0001 else f"{value:.4f}"


def figure_text(name: str, value: float) -> str:
    """One figure with its unit, by its name."""
    found = parse_name(name)
    base = found.base if found else name
    if base in ("bytes", "peak_memory"):
        return size_text(int(value))
    if base in ("load", "ttft"):
        return f"{seconds_text(value)} s"
    if base in (WIDE, "pp512", "decode"):
        return f"{rate_text(value)} tok/s"
    if base in ("top1", "top1_error", "bandwidth_share", "flops_share"):
        return percent_text(value, 1)
    if base.startswith("kl"):
        return kl_text(value)
    return f"{value:.15g}" if value.is_integer() else f"{value:.4g}"


# --- columns


def measured(base: str, show: Callable[[float | None], str]) -> Callable[[Level, int], str]:
    return lambda level, depth: show(look_up(level, Name(base, depth=depth)))


def size(value: float | None) -> str:
    return "" if value is None else size_text(int(value))


def two_digits(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}" if value >= 1000 else f"{value:.2f}"


def count(value: float | None) -> str:
    return "" if value is None else f"{value:.0f}"


def kl_cell(level: Level, _: int) -> str:
    if is_reference(level):
        return "reference"
    kl, error = number(level.get("kl")), number(level.get("kl_error"))
    return kl_text(kl) + (f" ±{kl_text(error)}" if kl is not None and error is not None else "")


def top1_cell(level: Level, _: int) -> str:
    top1, error = number(level.get("top1")), number(level.get("top1_error"))
    if top1 is None or is_reference(level):
        return ""
    return f"{100 * top1:.1f}" + (f" ±{100 * error:.1f}" if error is not None else "")


LEVEL = Column("LEVEL", "", lambda level, _: level_name(level), once=True)
DEPTH = Column("DEPTH", "tokens", lambda _, depth: str(depth))
SPEED = (
    Column("LOAD", "s", measured("load", seconds_text), once=True),
    DEPTH,
    Column("PP512", "tok/s", measured("pp512", rate_text)),
    Column("TG128", "tok/s", measured("tg128", rate_text)),
    Column("DECODE", "tok/s", measured("decode", rate_text)),
    Column("TTFT", "s", measured("ttft", seconds_text)),
    Column("KNEE", "width", measured("knee", count)),
    Column("LASTS", "tok/s", measured("lasting", rate_text), once=True),
    Column("BANDW.", "share", measured("bandwidth_share", percent_text), once=True),
    Column("FLOP/S", "share", measured("flops_share", percent_text), once=True),
)
QUALITY = (
    Column("SIZE", "", measured("bytes", size), once=True),
    Column("BITS/W", "", measured("bits_per_weight", two_digits), once=True),
    Column("MEMORY", "peak", measured("peak_memory", size), once=True),
    Column("PPL", "en", measured("perplexity_en", two_digits), once=True),
    Column("PPL", "zh", measured("perplexity_zh", two_digits), once=True),
    Column("KL", "nats/token", kl_cell, once=True),
    Column("TOP-1", "%", top1_cell, once=True),
)


def speed_grid(result: Mapping[str, Any]) -> Grid:
    return grid(result, SPEED, depths(result))


def quality_grid(result: Mapping[str, Any]) -> Grid:
    """What a level takes and what it keeps."""
    return grid(result, QUALITY, [0])


def widths_grid(result: Mapping[str, Any]) -> Grid:
    """Tokens/s of all sequences together, a column for each number of them; empty where only one was measured."""
    each = sorted({width for level in levels(result) for depth in depths(result) for width in widths(level, depth)})
    if len(each) < 2:
        return Grid((LEVEL,), ())
    columns = [Column(str(one), "", measured_wide(one)) for one in each]
    return grid(result, (DEPTH, *columns), depths(result))


def measured_wide(width: int) -> Callable[[Level, int], str]:
    return lambda level, depth: rate_text(look_up(level, Name(WIDE, width, depth)))


def grid(result: Mapping[str, Any], columns: Sequence[Column], of_depths: Sequence[int]) -> Grid:
    """A row for each level and depth, without the columns that no level has. A depth that a level was not measured at
    keeps its row: the table does not jump while it fills."""
    columns = [LEVEL, *(column for column in columns if column is not DEPTH or len(of_depths) > 1)]
    rows = []
    for level in levels(result):
        for i, depth in enumerate(of_depths):
            rows.append(["" if column.once and i else column.cell(level, depth) for column in columns])
    kept = [i for i, column in enumerate(columns) if column in (LEVEL, DEPTH) or any(row[i] for row in rows)]
    return Grid([columns[i] for i in kept], [[row[i] for i in kept] for row in rows])


# --- for the terminal: 80 columns are enough


def speed_table(result: Mapping[str, Any]) -> Table:
    return rich_table(speed_grid(result))


def quality_table(result: Mapping[str, Any]) -> Table:
    return rich_table(quality_grid(result))


def widths_table(result: Mapping[str, Any]) -> Table:
    return rich_table(widths_grid(result))


def rich_table(shown: Grid) -> Table:
    table = Table(box=None, pad_edge=False)
    for column in shown.columns:
        if column is LEVEL:
            table.add_column(f"{column.header}\n", overflow="fold", max_width=LEVEL_WIDTH)  # gives way to the figures
        else:
            table.add_column(f"{column.header}\n{column.unit}", justify="right", no_wrap=True)
    for row in shown.rows:
        table.add_row(*map(Text, row))  # a name may hold what rich takes for markup
    return table


# --- for scripts


def csv_text(result: Mapping[str, Any]) -> str:
    """One line a level, below a header, as RFC 4180 (lines end with CR LF: write it with ``newline=""``).

    All figures of ``METRICS``, also at depths (``pp512@4096``) and widths (``tg128x4@4096``); empty where not measured.
    """
    of_depths = depths(result)
    names = [
        Name(base, depth=depth) for base, metric in METRICS.items() for depth in (of_depths if metric.deep else (0,))
    ]
    for depth in of_depths:
        each = sorted({width for level in levels(result) for width in widths(level, depth)})
        names += [Name(WIDE, width, depth) for width in each]
    texts = ("level", "file", "reference")
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(["model", *texts, *map(str, names)])
    for level in levels(result):
        found = [look_up(level, name) for name in names]
        cells = [plain_number(value) for value in found]
        writer.writerow([cell_text(result.get("model")), *(cell_text(level.get(key)) for key in texts), *cells])
    return out.getvalue()


def plain_number(value: float | None) -> str:
    """Whole numbers without a point; others with ten digits."""
    return "" if value is None else str(int(value)) if value.is_integer() else f"{value:.10g}"


def cell_text(value: Any) -> str:
    """A name that no spreadsheet takes for a formula."""
    found = text(value)
    return f"'{found}" if found.startswith(FORMULA) else found
