"""What both reports, HTML and Markdown, show: the same cells in the same order. Pure; nothing is escaped here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edge.compare.summary import ENOUGH, Mean, ModelSummary, scores_of, summarize, winner
from edge.text import DIRECTIONS, size_text

Told = Mapping[str, str]
Grid = list[list[str]]  # the first row is the head
HIDDEN = DIRECTIONS | {"\u200e", "\u200f", "\u061c"}


def summary_grid(result: Mapping[str, Any], told: Told) -> Grid:
    """A column a model: a row a model would be wider than any screen."""
    found = summarize(result)
    suites = [one["name"] for one in result["suites"] if any(one["name"] in model.scores for model in found)]
    head = [told["model"], told["overall"], *suites]
    head += [told[key] for key in ("rate", "ttft", "seconds", "memory", "size")]
    models = [summary_column(one, suites) for one in found if one.failed is None or one.scores]
    return [list(row) for row in zip(head, *models, strict=True)]


def summary_column(one: ModelSummary, suites: Sequence[str]) -> list[str]:
    times = [number_text(one.rate, 1), number_text(one.ttft, 2), number_text(one.seconds, 1)]
    sizes = ["" if value is None else size_text(value) for value in (one.memory, one.size)]
    return [one.name, mean_text(one.overall), *(mean_text(one.scores.get(name)) for name in suites), *times, *sizes]


def mean_text(one: Mean | None) -> str:
    return "" if one is None else f"{one.value:.2f} ({one.low:.2f}-{one.high:.2f})"


def number_text(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def verdicts(result: Mapping[str, Any], told: Told) -> list[str]:
    """A sentence for each suite that is scored, where there are two models to compare."""
    found = summarize(result)
    if sum(one.failed is None for one in found) < 2:
        return []
    lines = []
    for suite in result["suites"]:
        if any(suite["name"] in one.scores for one in found):
            best = winner(result, suite["name"])
            asked = max(one.scores[suite["name"]].n for one in found if suite["name"] in one.scores)
            key = "best" if best is not None else "no_best" if asked >= ENOUGH else "few"
            name = found[best].name if best is not None else ""
            lines.append(told[key].format(suite=suite["title"], model=name, n=asked))
    return lines


def left_out(result: Mapping[str, Any], told: Told) -> list[str]:
    """A sentence for each model that failed, and for each suite that was skipped."""
    gone = [one for one in result["models"] if one["failed"] is not None]
    failed = [f"{told['failed']}: {one['name']}: {one['failed']}" for one in gone]
    return failed + [f"{told['skipped']}: {one['suite']}: {one['why']}" for one in result["skipped"]]


def parts_grid(result: Mapping[str, Any], suite: str, told: Told) -> Grid:
    """What a suite tells beside its score; empty where there is nothing."""
    found = [one for one in summarize(result) if one.parts.get(suite)]
    names = list(dict.fromkeys(name for one in found for name in one.parts[suite]))
    rows = [[one.name, *(number_text(one.parts[suite].get(name), 2) for name in names)] for one in found]
    return [[told["parts"], *names], *rows] if rows else []


def level_grid(result: Mapping[str, Any], told: Told) -> Grid:
    """The questions in which levels of one model have other scores, the largest difference first."""
    alike: dict[str, list[int]] = {}
    for number, model in enumerate(result["models"]):
        if model["level"] is not None and model["failed"] is None:
            alike.setdefault(model["base"], []).append(number)
    rows: list[tuple[float, list[str]]] = []
    several = [numbers for numbers in alike.values() if len(numbers) > 1]
    for numbers in several:
        for suite in result["suites"]:
            scores = [scores_of(result, number, suite["name"]) for number in numbers]
            for question in scores[0]:
                values = [one[question] for one in scores if question in one]
                if len(values) == len(numbers) and max(values) > min(values):
                    said = ", ".join(
                        f"{result['models'][number]['level']} {value:.2f}"
                        for number, value in zip(numbers, values, strict=True)
                    )
                    base = result["models"][numbers[0]]["base"]
                    rows.append((max(values) - min(values), [base, f"{suite['name']}/{question}", said]))
    rows.sort(key=lambda row: -row[0])
    head = [told["model"], told["question"], told["score"]]
    return [head, *(row for _, row in rows)] if several else []


def asked(question: Mapping[str, Any], told: Told) -> str:
    """What was asked, turn by turn."""
    behind = f"[{told['document'].format(document=question['document'])}]\n" if question["document"] else ""
    return behind + "\n\n".join(question["turns"])


def answers_of(result: Mapping[str, Any], suite: str, question: str) -> Iterator[tuple[str, list[Mapping[str, Any]]]]:
    """A model's name, with its way of asking where there are several, and its answers, one a repeat."""
    mine = [one for one in result["answers"] if (one["suite"], one["question"]) == (suite, question)]
    variants = list(dict.fromkeys(one["variant"] for one in mine))
    for number, model in enumerate(result["models"]):
        for variant in variants:
            if found := [one for one in mine if (one["model"], one["variant"]) == (number, variant)]:
                yield model["name"] + (f" ({variant})" if len(variants) > 1 else ""), found


def answer_text(answer: Mapping[str, Any], told: Told) -> str:
    """What was said, turn by turn, with what hides made visible."""
    if answer["error"] is not None:
        return f"[{told['error']}: {visible(answer['error'])}]"
    return "\n\n— — —\n\n".join(visible(text) for text in answer["texts"])


def facts_text(answer: Mapping[str, Any]) -> str:
    """Score and why, time to the first token, seconds and speed, in a line."""
    worth = [] if answer["score"] is None else [f"{answer['score']:.2f}", visible(answer["why"])]
    times = [f"TTFT {number_text(answer['ttft'], 2)} s"] if answer["ttft"] is not None else []
    times += [number_text(answer["seconds"], 1) + " s"] if answer["seconds"] is not None else []
    speed = [number_text(answer["rate"], 1) + " tokens/s"] if answer["rate"] is not None else []
    cut = ["max_tokens"] if answer["finish"] == "length" else []
    return " · ".join(one for one in (*worth, *times, *speed, *cut) if one)


def visible(text: str) -> str:
    """Control characters, and those that turn text around, as what they are: a model may write them."""
    return "".join(
        f"\\u{ord(c):04x}"
        if c in HIDDEN or (ord(c) < 32 and c not in "\n\t") or 127 <= ord(c) < 160 or is_half(c)
        else c
        for c in text.replace("\r\n", "\n")
    )


def is_half(c: str) -> bool:
    """Of a surrogate pair: no file could hold it."""
    return "\ud800" <= c <= "\udfff"


def made_text(result: Mapping[str, Any], told: Told) -> str:
    """When, to the minute."""
    day, _, clock = result["made"].partition("T")
    return told["made"].format(made=f"{day} {clock[:5]} UTC", edge=result["edge"])


def machine_text(result: Mapping[str, Any]) -> str:
    machine = result["machine"]
    memory = size_text(machine["memory"])
    return f"{machine['cpu']}, {machine['usable']} cores, {memory}, {machine['os']}; {machine['library']}"


def settings_text(result: Mapping[str, Any], told: Told) -> str:
    keys = ("seed", "repeats", "temperature")
    return told["seed"].format(**{key: result[key] for key in keys})


def hashes_grid(result: Mapping[str, Any], told: Told) -> Grid:
    rows = [[one["name"], one["sha256"] or one["address"] or "", one["failed"] or ""] for one in result["models"]]
    return [[told["hashes"], "SHA-256", told["failed"]], *rows]


def suites_grid(result: Mapping[str, Any], told: Told) -> Grid:
    why = {one["suite"]: one["why"] for one in result["skipped"]}
    rows = [[one["name"], one["digest"], why.get(one["name"], "")] for one in result["suites"]]
    return [[told["suites"], "SHA-256", told["skipped"]], *rows]
