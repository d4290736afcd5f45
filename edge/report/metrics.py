"""The figures of a level in a result of ``edge bench``: their names, what is better, and how to look one up. Pure.

A result is a plain dict, perhaps read from a file that somebody sent: whatever is missing or no number is taken as not
measured.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from convert.errors import one_line

LARGEST = 1e24  # no figure is larger; what is cannot be drawn either
LONGEST_TEXT = 300  # characters of a name that are shown


@dataclass(frozen=True)
class Metric:
    """``better`` is "larger", "smaller" or "", where neither is.

    ``unsure``: the part of its value by which a figure is off, perhaps, where no spread was measured. ``deep``: there
    is one for each depth, ``NAME@DEPTH`` behind ``DEPTH`` tokens.
    """

    better: str = ""
    unsure: float = 0.0
    deep: bool = False


METRICS: Mapping[str, Metric] = {
    "bytes": Metric("smaller", 0.001),  # names and dates in a file do not count
    "bits_per_weight": Metric(),
    "weights": Metric(),
    "load": Metric("smaller", 0.2),  # measured once, and it depends on what the system has in memory
    "peak_memory": Metric("smaller", 0.05),
    "pp512": Metric("larger", 0.1, deep=True),
    "tg128": Metric("larger", 0.1, deep=True),
    "decode": Metric("larger", 0.1, deep=True),
    "ttft": Metric("smaller", 0.1, deep=True),
    "knee": Metric(deep=True),
    "lasting": Metric("larger", 0.1),
    "bandwidth_share": Metric(),
    "flops_share": Metric(),
    "perplexity_en": Metric("smaller", 0.01),
    "perplexity_zh": Metric("smaller", 0.01),
    "kl": Metric("smaller", 0.05),
    "kl_en": Metric(),
    "kl_zh": Metric(),
    "kl_error": Metric(),
    "top1": Metric("larger", 0.01),
    "top1_error": Metric(),
    "tokens": Metric(),
}
LEVEL_SETTINGS = ("threads", "threads_batch", "flash_attn", "rows")  # those that each level has of its own
WIDE = "tg128"  # the one that ``widths`` holds: tokens/s of N sequences together are called tg128xN

_NAME = re.compile(r"(?P<base>[a-z]\w*?)(x(?P<width>[1-9]\d{0,5}))?(@(?P<depth>0|[1-9]\d{0,8}))?", re.ASCII)


@dataclass(frozen=True)
class Name:
    """A figure's name in its parts; ``width`` is 0 where it is not one of ``widths``."""

    base: str
    width: int = 0
    depth: int = 0

    def __str__(self) -> str:
        return self.base + (f"x{self.width}" if self.width else "") + (f"@{self.depth}" if self.depth else "")


def parse_name(text: str) -> Name | None:
    """``pp512``, ``pp512@4096``, ``tg128x4``, ``tg128x4@4096``; None for a name that no level has."""
    found = _NAME.fullmatch(text)
    if not found or found["base"] not in METRICS:
        return None
    name = Name(found["base"], int(found["width"] or 0), int(found["depth"] or 0))
    wide = not name.width or name.base == WIDE
    return name if wide and (METRICS[name.base].deep or not name.depth) else None


def name_forms() -> str:
    """All names there are, for a person who has mistyped one."""
    plain = [base for base, metric in METRICS.items() if not metric.deep]
    deep = [base for base, metric in METRICS.items() if metric.deep]
    return f"{', '.join(plain)}; with or without @DEPTH: {', '.join([*deep, f'{WIDE}xSEQUENCES'])}"


# --- looking things up


def look_up(level: Mapping[str, Any], name: Name) -> float | None:
    """The figure, None where it was not measured."""
    if name.width:
        return widths(level, name.depth).get(name.width)
    return number(level.get(str(name)))


def number(value: Any) -> float | None:
    """``value`` if it is a number that can be worked with."""
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST:
        return float(value)  # comparing is false for NaN
    return None


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def levels(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = result.get("levels")
    return [level for level in found if isinstance(level, Mapping)] if isinstance(found, list) else []


def text(value: Any) -> str:
    """A name or a setting for people: one line, no control characters, not endless; empty for None."""
    if isinstance(value, list | tuple):
        value = ", ".join(map(str, value[:LONGEST_TEXT]))
    return "" if value is None else one_line(str(value)[:LONGEST_TEXT])


def level_name(level: Mapping[str, Any]) -> str:
    return text(level.get("level")) or "?"


def widths(level: Mapping[str, Any], depth: int) -> dict[int, float]:
    """Sequences at once -> tokens/s of all together, the narrowest first."""
    rates = mapping(mapping(level.get("widths")).get(str(depth)))
    found = {int(width): number(rate) for width, rate in rates.items() if re.fullmatch(r"[1-9]\d{0,5}", str(width))}
    return {width: rate for width, rate in sorted(found.items()) if rate is not None}


def depths(result: Mapping[str, Any]) -> list[int]:
    """Every depth that was, or is to be, measured; 0 is always among them."""
    found = {0}
    wanted = mapping(result.get("settings")).get("depths")
    for level in levels(result):
        found |= {name.depth for key in level if isinstance(key, str) and (name := parse_name(key))}
        found |= {int(depth) for depth in mapping(level.get("widths")) if re.fullmatch(r"[1-9]\d{0,8}", str(depth))}
    if isinstance(wanted, list | tuple):  # a result that was never JSON has tuples
        found |= {depth for depth in wanted if type(depth) is int and 0 <= depth < 10**9}
    return sorted(found)


def is_reference(level: Mapping[str, Any]) -> bool:
    """Whether the quality of others is measured against this level."""
    return level.get("reference") is not None and level.get("reference") == level.get("level")
