"""Two reports compared: scores and speed by model, and the questions that changed. A file is read without trust."""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from convert.errors import EdgeError
from edge.compare.summary import ModelSummary, beyond_noise, difference, scores_of, summarize

MOST_BYTES = 1 << 28
MOST = 10**15  # of what is counted or measured: what is summed up stays a number
Count = Annotated[int, Field(ge=0, le=MOST)]
Measure = Annotated[float, Field(ge=0, le=MOST)]


class Row(BaseModel):
    """Keys that are not named here are kept, and not looked at."""

    model_config = ConfigDict(extra="allow", strict=True, allow_inf_nan=False)


class QuestionRow(Row):
    id: str
    scored: str | None


class SuiteRow(Row):
    name: str
    title: str
    digest: str
    questions: list[QuestionRow]


class ModelRow(Row):
    name: str
    size: Count | None
    memory: Count | None
    failed: str | None


class AnswerRow(Row):
    model: Count
    suite: str
    question: str
    variant: str
    repeat: int
    score: Annotated[float, Field(ge=0, le=1)] | None
    detail: dict[str, Count]
    ttft: Measure | None
    seconds: Measure | None
    rate: Measure | None
    error: str | None


class Result(Row):
    kind: Literal["edge compare"]
    seed: int
    repeats: int
    machine: dict[str, Any]
    suites: list[SuiteRow]
    models: list[ModelRow]
    answers: list[AnswerRow]


def load_result(path: Path) -> dict[str, Any]:
    """Raises EdgeError for what is no result of ``edge compare -o FILE.json``."""
    hint = "give a .json that `edge compare -o` wrote"
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)  # a device has no size
        if len(data) > MOST_BYTES:
            raise EdgeError(f"{path.name} is too large for a report", hint)
        read = Result.model_validate_json(data.removeprefix(codecs.BOM_UTF8))
    except OSError as error:
        raise EdgeError(f"cannot read {path}: {error.strerror}", hint) from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise EdgeError(f"{path.name} is no report of edge compare: {where}: {first['msg']}", hint) from error
    return read.model_dump()


def remarks(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[str]:
    """What else is different, so that the figures must be read with care."""
    digests = [{suite["name"]: suite["digest"] for suite in one["suites"]} for one in (old, new)]
    for name in digests[0]:
        if name in digests[1] and digests[0][name] != digests[1][name]:
            yield f"the questions of {name} are others"
    for key in ("cpu", "library"):
        if old["machine"].get(key) != new["machine"].get(key):
            yield f"another {key}: {old['machine'].get(key)}, now {new['machine'].get(key)}"
    hashes = [{one["name"]: one.get("sha256") for one in result["models"]} for result in (old, new)]
    for name, found in hashes[0].items():
        if found and hashes[1].get(name) and found != hashes[1][name]:
            yield f"the file of {name} is another"
    if (old["seed"], old["repeats"]) != (new["seed"], new["repeats"]):
        yield "other seeds or repeats"


def difference_rows(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[tuple[str, str, str, str]]:
    """Model, what, before and now, and whether the difference is beyond the noise. Models that both have."""
    before, now = ({one.name: (number, one) for number, one in enumerate(summarize(result))} for result in (old, new))
    for name in before:
        if name in now:
            numbers, (was, is_now) = (before[name][0], now[name][0]), (before[name][1], now[name][1])
            yield from score_rows(name, was, is_now, old, new, numbers)
            yield from speed_rows(name, was, is_now)


def score_rows(
    name: str,
    was: ModelSummary,
    is_now: ModelSummary,
    old: Mapping[str, Any],
    new: Mapping[str, Any],
    numbers: tuple[int, int],
) -> Iterator[tuple[str, str, str, str]]:
    for suite in was.scores:
        if suite not in is_now.scores:
            continue
        scores = [scores_of(result, number, suite) for result, number in zip((old, new), numbers, strict=True)]
        found = difference(scores[1], scores[0])
        told = f"{was.scores[suite].value:.2f} -> {is_now.scores[suite].value:.2f}"
        yield name, suite, told, "beyond the noise" if beyond_noise(found) else "within the noise"
        for question in scores[0]:
            if question in scores[1] and scores[0][question] != scores[1][question]:
                yield name, f"{suite}/{question}", f"{scores[0][question]:.2f} -> {scores[1][question]:.2f}", ""


def speed_rows(name: str, was: ModelSummary, is_now: ModelSummary) -> Iterator[tuple[str, str, str, str]]:
    for key, unit in (("rate", "tokens/s"), ("ttft", "s"), ("seconds", "s")):
        one, other = getattr(was, key), getattr(is_now, key)
        if one and other:
            yield name, key, f"{one:.3g} -> {other:.3g} {unit}", f"{other / one:.2f} times"
