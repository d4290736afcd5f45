"""From answers to figures: a score a suite with its interval, medians of times, and who is better than whom. Pure.

The unit is a question: repeats of one are averaged, because they are not independent. Intervals of 95 % are
percentiles of means of questions drawn anew (Efron's bootstrap), the same draw each time; where every question is worth
0 or 1, they are Wilson's, which do not shrink to nothing where all are right.

Two models are told apart by their differences question by question: the interval must leave out zero, and so large a
difference must be rare when each question's sign is thrown anew (Fisher, The Design of Experiments, 1935, section 21).
The bootstrap alone is too sure of few questions: between models that are alike it finds a winner in one case of ten.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

DRAWS, SEED = 2000, 7
EXACT = 12  # questions of which all signs are tried: 4096
RARE = 0.05
ENOUGH = 6  # questions with which a winner is possible at all: 2 / 2**6 is below RARE
Z = 1.959964  # of 95 %
PLAIN, CONSTRAINED, FIRST, SECOND = "plain", "constrained", "first", "second"  # ways of asking a question

Answer = Mapping[str, Any]
Interval = tuple[float, float]


@dataclass(frozen=True)
class Mean:
    """Of ``n`` questions, from 0 to 1."""

    value: float
    low: float
    high: float
    n: int


@dataclass(frozen=True)
class Difference(Mean):
    """``value`` is from -1 to 1. ``chance``: how often it is as large, either way, between two that are alike."""

    chance: float


@dataclass(frozen=True)
class ModelSummary:
    """``scores`` by suite, of answers as they come; ``parts`` by suite and name: what is told beside a score,
    as precision. Seconds and tokens/s are medians, None where nothing was answered; bytes where they are known."""

    name: str
    scores: Mapping[str, Mean]
    parts: Mapping[str, Mapping[str, float]]
    overall: Mean | None
    rate: float | None
    ttft: float | None
    seconds: float | None
    memory: int | None
    size: int | None
    errors: int
    failed: str | None


def summarize(result: Mapping[str, Any]) -> list[ModelSummary]:
    """One for each model, in their order."""
    return [
        summary(one, [answer for answer in result["answers"] if answer["model"] == number], result)
        for number, one in enumerate(result["models"])
    ]


def summary(model: Mapping[str, Any], answers: Sequence[Answer], result: Mapping[str, Any]) -> ModelSummary:
    names = [suite["name"] for suite in result["suites"]]
    by_suite = {name: [one for one in answers if one["suite"] == name] for name in names}
    scores = {name: mean(found) for name in names if (found := list(by_question(by_suite[name]).values()))}
    long = {suite["name"] for suite in result["suites"] if any(one["document"] for one in suite["questions"])}
    told = {name: parts(by_suite[name], name in long) for name in names}
    return ModelSummary(
        name=model["name"],
        scores=scores,
        parts={name: found for name, found in told.items() if found},
        overall=of_suites(scores),
        rate=median(answers, "rate"),
        ttft=median(answers, "ttft"),
        seconds=median(answers, "seconds"),
        memory=model["memory"],
        size=model["size"],
        errors=sum(one["error"] is not None for one in answers),
        failed=model["failed"],
    )


def by_question(
    answers: Sequence[Answer], variant: Callable[[str], bool] = lambda one: one != CONSTRAINED
) -> dict[str, float]:
    """The mean score of each question that is scored, over its repeats."""
    found: dict[str, list[float]] = {}
    for one in answers:
        if one["score"] is not None and variant(one["variant"]):
            found.setdefault(one["question"], []).append(one["score"])
    return {question: statistics.fmean(scores) for question, scores in found.items()}


def scores_of(result: Mapping[str, Any], model: int, suite: str) -> dict[str, float]:
    """By question."""
    return by_question([one for one in result["answers"] if (one["model"], one["suite"]) == (model, suite)])


def parts(answers: Sequence[Answer], long: bool) -> dict[str, float]:
    """Shares and times of one suite that are told beside its score. ``long``: its questions have documents."""
    found: dict[str, float] = {}
    if long and (ttft := median(answers, "ttft")) is not None:
        found["TTFT (s)"] = ttft
    for variant in sorted({one["variant"] for one in answers}):
        mine = [one for one in answers if one["variant"] == variant]
        for key in ("valid", "complete", "english"):
            if values := [one["detail"][key] for one in mine if key in one["detail"]]:
                found[f"{key}, {variant}"] = statistics.fmean(values)
        if variant == CONSTRAINED and (scores := by_question(mine, lambda one: one == CONSTRAINED)):
            found["score, constrained"] = statistics.fmean(scores.values())
        if variant in (FIRST, SECOND) and (ttft := median(mine, "ttft")) is not None:
            found[f"TTFT, {variant} time (s)"] = ttft
    tp, fp, fn = (sum(one["detail"].get(key, 0) for one in answers) for key in ("tp", "fp", "fn"))
    if tp + fn:
        found |= {"precision": tp / (tp + fp) if tp + fp else 0.0, "recall": tp / (tp + fn)}
    return found


def median(answers: Sequence[Answer], key: str) -> float | None:
    values = [one[key] for one in answers if one[key] is not None]
    return statistics.median(values) if values else None


# --- intervals


def mean(values: Sequence[float]) -> Mean:
    """Of at least one question."""
    low, high = wilson(values) if all(one in (0, 1) for one in values) else bootstrap(tuple(values))
    return Mean(statistics.fmean(values), low, high, len(values))


def of_suites(scores: Mapping[str, Mean]) -> Mean | None:
    """The mean of all suites' scores: each suite counts as much, and the interval is that of a sum."""
    if not scores:
        return None
    value = statistics.fmean(one.value for one in scores.values())
    below, above = (
        math.hypot(*(getattr(one, end) - one.value for one in scores.values())) / len(scores) for end in ("low", "high")
    )
    return Mean(value, max(0.0, value - below), min(1.0, value + above), sum(one.n for one in scores.values()))


def wilson(values: Sequence[float]) -> Interval:
    """E. B. Wilson, 1927: the interval of a share."""
    n, share = len(values), statistics.fmean(values)
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n * n))
    return max(0.0, middle - half), min(1.0, middle + half)


@functools.lru_cache(1024)  # a report asks for the same ones in each of its parts
def bootstrap(values: tuple[float, ...]) -> Interval:
    rng = random.Random(SEED)
    means = sorted(statistics.fmean(rng.choices(values, k=len(values))) for _ in range(DRAWS))
    return means[round(0.025 * (DRAWS - 1))], means[round(0.975 * (DRAWS - 1))]


# --- who is better


def difference(one: Mapping[str, float], other: Mapping[str, float]) -> Difference | None:
    """Of two models' scores by question, over the questions that both have: ``one`` minus ``other``."""
    paired = [one[question] - other[question] for question in one if question in other]
    if not paired:
        return None
    low, high = bootstrap(tuple(paired))
    return Difference(statistics.fmean(paired), low, high, len(paired), chance(paired))


def chance(paired: Sequence[float]) -> float:
    """How often a sum with signs thrown anew is as far from zero. It takes ``ENOUGH`` questions that differ, all one
    way, to be below ``RARE``."""
    differing = [one for one in paired if one]
    least = abs(sum(differing)) - 1e-9  # the order of adding must not matter
    if len(differing) <= EXACT:
        signs = list(itertools.product((1, -1), repeat=len(differing)))
        return sum(abs(signed(one, differing)) >= least for one in signs) / len(signs)
    rng = random.Random(SEED)
    thrown = (signed(rng.choices((1, -1), k=len(differing)), differing) for _ in range(DRAWS))
    return (1 + sum(abs(one) >= least for one in thrown)) / (1 + DRAWS)


def signed(signs: Sequence[int], values: Sequence[float]) -> float:
    return sum(sign * value for sign, value in zip(signs, values, strict=True))


def beyond_noise(found: Difference | None) -> bool:
    """Whether the difference is more than chance makes of these questions."""
    return found is not None and found.chance <= RARE and (found.low > 0 or found.high < 0)


def winner(result: Mapping[str, Any], suite: str) -> int | None:
    """The model that is better than each other beyond the noise, if there is one."""
    scores = {
        number: scores_of(result, number, suite)
        for number, model in enumerate(result["models"])
        if model["failed"] is None
    }
    scores = {number: found for number, found in scores.items() if found}
    for number, mine in scores.items():
        found = [difference(mine, theirs) for other, theirs in scores.items() if other != number]
        if found and all(one is not None and beyond_noise(one) and one.value > 0 for one in found):
            return number
    return None
