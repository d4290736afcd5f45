"""``edge bench --against OLD.json``: an old result read with care, and what became better or worse since. Pure, but for
reading the file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from rich.table import Table
from rich.text import Text

from convert.errors import EdgeError
from edge.report.metrics import (
    LEVEL_SETTINGS,
    METRICS,
    WIDE,
    Name,
    depths,
    level_name,
    levels,
    look_up,
    mapping,
    number,
    parse_name,
    text,
    widths,
)
from edge.report.tables import figure_text

MAX_BYTES = 16 << 20
MACHINE = ("cpu", "arch", "os", "physical", "logical", "usable", "library")
MACHINE_MEASURED = ("memory", "bandwidth", "flops")
MACHINE_UNSURE = 0.1  # the part by which these differ from run to run on one machine
OBJECTS = ("machine", "settings", "clocks")
POINT = ("seconds", "tg", "clock", "temperature")  # of a sustained run
STYLES = {"better": "green", "worse": "red", "same": ""}


class ResultUnreadable(EdgeError):
    """A file that holds no result of ``edge bench``."""


@dataclass(frozen=True)
class Difference:
    """One figure of one level. ``ratio`` is new / old, None where old is 0. ``mark``: "better", "worse" or "same"."""

    level: str
    name: str
    old: float
    new: float
    ratio: float | None
    mark: str


# --- reading


def load_result(path: Path) -> dict[str, Any]:
    """The result in a file, or in the last line of one. Raises ResultUnreadable; the file may hold anything."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ResultUnreadable(f"cannot read {path}: {error.strerror}") from error
    hint = "name a file that `edge bench --json` wrote"
    if len(data) > MAX_BYTES:
        raise ResultUnreadable(f"{path} is larger than {MAX_BYTES >> 20} MiB", hint)
    try:
        return checked(parse(data.decode("utf-8-sig")))
    except RecursionError as error:
        raise ResultUnreadable(f"{path} is nested too deep", hint) from error
    except ValueError as error:
        raise ResultUnreadable(f"{path} holds no result of a benchmark: {error}", hint) from error


def parse(document: str) -> Any:
    """All of it as JSON, or its last line. Raises ValueError."""
    try:
        return json.loads(document, parse_constant=no_number)
    except ValueError:
        last = document.strip().rpartition("\n")[2]
        return json.loads(last, parse_constant=no_number)


def no_number(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number")


def checked(result: Any) -> dict[str, Any]:
    """The result, if everything in it that is read has its type. Raises ValueError."""
    if not isinstance(result, dict):
        raise ValueError("it is not an object")
    if not isinstance(result.get("levels"), list):
        raise ValueError('it has no list "levels"')
    for key in OBJECTS:
        if not isinstance(result.get(key, {}), dict):
            raise ValueError(f"{key} is not an object")
    names = set()
    for level in result["levels"]:
        if not isinstance(level, dict) or not isinstance(level.get("level"), str):
            raise ValueError("a level is not an object with its name")
        if level["level"] in names:
            raise ValueError(f"level {level['level']!r} is there twice")
        names.add(level["level"])
        for what, value in figures(level):
            if value is not None and number(value) is None:
                raise ValueError(f"{what} of level {level['level']!r} is no number")
    return result


def figures(level: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Everything in a level that should be a number, with its name. Raises ValueError where its place is not even."""
    yield from ((key, value) for key, value in level.items() if parse_name(key))
    for name, ends in part(level, "spread", dict).items():
        if not isinstance(ends, list) or len(ends) != 2 or None in map(number, ends):
            raise ValueError(f"the spread of {name} is not two numbers")
    yield from part(level, "expected", dict).items()
    for depth, rates in part(level, "widths", dict).items():
        if not isinstance(rates, dict):
            raise ValueError(f"widths at depth {depth} are not an object")
        yield from ((f"width {width} at depth {depth}", rate) for width, rate in rates.items())
    for point in part(level, "sustained", list):
        if not isinstance(point, dict):
            raise ValueError("a point of the sustained run is not an object")
        yield from ((f"{key} of the sustained run", point.get(key)) for key in POINT)


def part(level: Mapping[str, Any], key: str, kind: type) -> Any:
    found = level.get(key, kind())
    if not isinstance(found, kind):
        raise ValueError(f"{key} of level {level['level']!r} is of the wrong type")
    return found


# --- comparing


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[Difference]:
    """What both results measured, in the order of the new one's levels."""
    before = {level_name(level): level for level in levels(old)}
    found = []
    for level in levels(new):
        if (other := before.get(level_name(level))) is not None:
            found += [one for name in compared(new, level) if (one := difference(name, other, level))]
    return found


def compared(result: Mapping[str, Any], level: Mapping[str, Any]) -> list[Name]:
    """The figures of which one value is better than another."""
    names = []
    for base, metric in METRICS.items():
        if metric.better:
            names += [Name(base, depth=depth) for depth in (depths(result) if metric.deep else (0,))]
    return names + [Name(WIDE, width, depth) for depth in depths(result) for width in widths(level, depth) if width > 1]


def difference(name: Name, old: Mapping[str, Any], new: Mapping[str, Any]) -> Difference | None:
    """None where one of both did not measure it."""
    before, now = look_up(old, name), look_up(new, name)
    if before is None or now is None:
        return None
    low, high = spread(old, name, before)
    lowest, highest = spread(new, name, now)
    mark = "same"
    if lowest > high or highest < low:
        mark = "better" if (now > before) == (METRICS[name.base].better == "larger") else "worse"
    return Difference(level_name(new), str(name), before, now, now / before if before else None, mark)


def spread(level: Mapping[str, Any], name: Name, value: float) -> tuple[float, float]:
    """Between which two values the figure may be: smallest and largest of its repetitions, or what is known of its
    error, or else what ``METRICS`` takes it to be."""
    ends = mapping(level.get("spread")).get(str(name))
    if isinstance(ends, list) and len(ends) == 2:
        first, last = number(ends[0]), number(ends[1])
        if first is not None and last is not None:
            return min(first, last, value), max(first, last, value)
    error = number(level.get(f"{name}_error"))
    unsure = METRICS[name.base].unsure * abs(value) if error is None else abs(error)
    return value - unsure, value + unsure


def remarks(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """What makes the comparison unfair: one line for each thing that is not the same in both."""
    machine, machine_before = mapping(new.get("machine")), mapping(old.get("machine"))
    settings, settings_before = mapping(new.get("settings")), mapping(old.get("settings"))
    lines = changed("", {"model": old.get("model")}, {"model": new.get("model")}, ("model",))
    lines += changed("machine: ", machine_before, machine, MACHINE)
    for key in MACHINE_MEASURED:
        before, now = number(machine_before.get(key)), number(machine.get(key))
        if before is not None and now is not None and abs(now - before) > MACHINE_UNSURE * max(now, before):
            lines.append(f"machine: {key} is {now:.4g}, was {before:.4g}")
    lines += changed("settings: ", settings_before, settings, sorted({*settings, *settings_before} - {"tuned"}))
    before_names = {level_name(level): level for level in levels(old)}
    new_names = {level_name(level): level for level in levels(new)}
    for name, level in new_names.items():
        if name in before_names:
            lines += changed(f"{name}: ", before_names[name], level, ("weights", "reference", *LEVEL_SETTINGS))
    lines += [f"{name}: only in the old result" for name in before_names if name not in new_names]
    lines += [f"{name}: only in the new result" for name in new_names if name not in before_names]
    return lines


def changed(where: str, old: Mapping[str, Any], new: Mapping[str, Any], keys: Sequence[str]) -> list[str]:
    """A line for each of ``keys`` that both have, with different values."""
    both = [key for key in keys if key in old and key in new]
    differ = [key for key in both if plain(old[key]) != plain(new[key])]
    return [f"{where}{text(key)} is {text(new[key]) or '-'}, was {text(old[key]) or '-'}" for key in differ]


def plain(value: Any) -> Any:
    """As JSON has it: the new result still has tuples."""
    return list(value) if isinstance(value, tuple) else value


def difference_table(rows: Sequence[Difference], everything: bool = False) -> Table:
    """What changed; with ``everything`` also what did not."""
    table = Table(box=None, pad_edge=False)
    table.add_column("LEVEL", overflow="fold", max_width=24)
    table.add_column("FIGURE", no_wrap=True)
    for header in ("OLD", "NEW", "NEW/OLD"):
        table.add_column(header, justify="right", no_wrap=True)
    table.add_column("")
    shown = [row for row in rows if everything or row.mark != "same"]
    for row in shown:
        ratio = "" if row.ratio is None else f"{row.ratio:.3f}"
        cells = (row.level, row.name, figure_text(row.name, row.old), figure_text(row.name, row.new), ratio)
        table.add_row(*map(Text, cells), Text(row.mark, STYLES[row.mark]))
    if left_out := len(rows) - len(shown):
        table.caption = f"{left_out} figures differ by no more than they spread"
        table.caption_justify = "left"
    return table
