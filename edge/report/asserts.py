"""``edge bench --assert "tg128>=8,ttft<3"``: what a result must hold, for scripts. Pure."""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from convert.errors import EdgeError
from edge.report.metrics import Name, level_name, levels, look_up, name_forms, parse_name

OPERATORS: Mapping[str, Callable[[float, float], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    ">": operator.gt,
    "<": operator.lt,
}

PART = re.compile(
    r"(?P<name>[^<>=\s]+)\s*(?P<operator>>=|<=|==|>|<)\s*(?P<value>[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d{1,2})?)",
    re.ASCII | re.IGNORECASE,
)


class AssertionUnclear(EdgeError):
    """An assertion that cannot be read: wrong usage, not a failed one."""

    exit_code = 2


@dataclass(frozen=True)
class Assertion:
    """``name operator value``, in the units of the result: tokens/s, seconds, bytes, nats."""

    name: Name
    operator: str
    value: float

    def holds(self, measured: float) -> bool:
        return OPERATORS[self.operator](measured, self.value)

    def __str__(self) -> str:
        return f"{self.operator} {self.value:.15g}"


def parse_assertions(text: str) -> list[Assertion]:
    """Assertions parted by commas; spaces do not matter. Raises AssertionUnclear."""
    return [parse_assertion(part.strip()) for part in text.split(",")]


def parse_assertion(part: str) -> Assertion:
    found = PART.fullmatch(part)
    if not found:
        raise AssertionUnclear(f"{part!r} is no assertion", "write NAME, one of >= <= > < ==, and a number: tg128>=8")
    name = parse_name(found["name"])
    if name is None:
        raise AssertionUnclear(f"nothing that is measured is called {found['name']!r}", f"there are {name_forms()}")
    return Assertion(name, found["operator"], float(found["value"]))


def failures(assertions: Sequence[Assertion], result: Mapping[str, Any]) -> list[str]:
    """A line for each level that breaks an assertion; what was not measured breaks it too. Empty if all hold."""
    if not levels(result):
        return ["no level was measured"] if assertions else []
    lines = [failure(assertion, level) for level in levels(result) for assertion in assertions]
    return [line for line in lines if line]


def failure(assertion: Assertion, level: Mapping[str, Any]) -> str:
    """Empty if the level keeps to it."""
    measured = look_up(level, assertion.name)
    if measured is None:
        return f"{level_name(level)}: {assertion.name} was not measured; it should be {assertion}"
    if assertion.holds(measured):
        return ""
    return f"{level_name(level)}: {assertion.name} is {figure(measured, assertion)}, not {assertion}"


def figure(measured: float, assertion: Assertion) -> str:
    """With few digits, or with all where few would not show that it fails: that 8 is not >= 8 would puzzle."""
    short = f"{measured:.4g}"
    return repr(measured) if assertion.holds(float(short)) else short
