"""``edge eval --assert "json>=0.95,rate>=8"``: what a result must hold, for scripts. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge.compare.summary import ModelSummary, summarize
from edge.report.asserts import OPERATORS, PART, AssertionUnclear

FIGURES = ("overall", "rate", "ttft", "seconds", "memory")  # tokens/s, seconds, seconds, bytes


@dataclass(frozen=True)
class Assertion:
    """``name``: a suite's, for its score, or one of ``FIGURES``."""

    name: str
    operator: str
    value: float


def parse_assertions(text: str, suites: Sequence[str]) -> list[Assertion]:
    """Parted by commas. Raises AssertionUnclear, for a name that is none of ``suites`` too."""
    found = []
    for part in text.split(","):
        if not (match := PART.fullmatch(part.strip())):
            raise AssertionUnclear(f"{part.strip()!r} is no assertion", "write NAME, one of >= <= > < ==, and a number")
        if match["name"] not in (*suites, *FIGURES):
            known = ", ".join((*suites, *FIGURES))
            raise AssertionUnclear(f"nothing that is asked is called {match['name']!r}", f"there are {known}")
        found.append(Assertion(match["name"], match["operator"], float(match["value"])))
    return found


def failures(assertions: Sequence[Assertion], result: Mapping[str, Any]) -> list[str]:
    """A line for each that does not hold; what was not measured breaks it too."""
    lines = []
    for one in summarize(result):
        for wanted in assertions:
            value = figure(one, wanted.name)
            if value is None:
                lines.append(f"{one.name}: {wanted.name} was not measured")
            elif not OPERATORS[wanted.operator](value, wanted.value):
                lines.append(f"{one.name}: {wanted.name} is {value!r}, not {wanted.operator} {wanted.value:.15g}")
    return lines


def figure(one: ModelSummary, name: str) -> float | None:
    if name == "overall":
        return one.overall.value if one.overall else None
    if name in one.scores:
        return one.scores[name].value
    return getattr(one, name) if name in FIGURES else None
