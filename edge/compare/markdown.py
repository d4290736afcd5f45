"""A comparison as Markdown, for a repository or a chat. Pure. Names and answers can't leave their cell or fence."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from edge.compare import tables
from edge.compare.tables import Grid, visible
from edge.compare.words import words

SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|<>~$&])")


def markdown_report(result: Mapping[str, Any], language: str = "en") -> str:
    """``language`` is "en" or "zh"; raises ValueError for another."""
    told = words(language)
    return "\n".join(lines(result, told)) + "\n"


def lines(result: Mapping[str, Any], told: Mapping[str, str]) -> Iterator[str]:
    yield f"# {told['title'].format(n=len(result['models']))}\n"
    yield f"{plain(tables.made_text(result, told))}. "
    yield f"{plain(tables.machine_text(result))}. {plain(tables.settings_text(result, told))}.\n"
    yield f"## {told['summary']}\n"
    yield from table(tables.summary_grid(result, told))
    yield f"\n{told['how']}\n"
    yield from (f"- {plain(one)}" for one in [*tables.verdicts(result, told), *tables.left_out(result, told)])
    if grid := tables.level_grid(result, told):
        yield f"\n## {told['levels']}\n"
        yield from table(grid) if len(grid) > 1 else [told["no_levels"]]
    for suite in result["suites"]:
        yield from suite_lines(result, suite, told)
    yield f"\n## {told['machine']}\n"
    yield from table(tables.hashes_grid(result, told))
    yield ""
    yield from table(tables.suites_grid(result, told))
    yield f"\n{told['command']}:\n"
    yield from fenced(result["command"])


def suite_lines(result: Mapping[str, Any], suite: Mapping[str, Any], told: Mapping[str, str]) -> Iterator[str]:
    asked = [(one, list(tables.answers_of(result, suite["name"], one["id"]))) for one in suite["questions"]]
    if not any(answers for _, answers in asked):
        return
    yield f"\n## {plain(suite['title'])}\n\n{plain(suite['note'])}\n"
    if grid := tables.parts_grid(result, suite["name"], told):
        yield from table(grid)
    for question, answers in asked:
        yield f"\n### {plain(question['id'])}\n"
        yield told["scored"].format(kind=told[question["scored"]]) if question["scored"] else told["not_scored"]
        yield ""
        yield from fenced(tables.asked(question, told))
        if question["rubric"]:
            yield f"\n{told['rubric']}: {plain(question['rubric'])}"
        for name, repeats in answers:
            for one in repeats:
                yield f"\n**{plain(name)}** {plain(tables.facts_text(one))}\n"
                yield from fenced(tables.answer_text(one, told))


def table(grid: Grid) -> Iterator[str]:
    for number, row in enumerate(grid):
        yield "| " + " | ".join(plain(cell) for cell in row) + " |"
        if number == 0:
            yield "|" + " --- |" * len(row)


def fenced(text: str) -> Iterator[str]:
    """A fence that is longer than any in the text."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    yield f"{fence}text\n{visible(text)}\n{fence}"


def plain(text: object) -> str:
    """One line, in which nothing is markup."""
    return SPECIAL.sub(r"\\\1", " ".join(visible(str(text)).split()))
