"""A comparison as one HTML file that can be sent, kept and printed: no script, nothing fetched. Pure.

Names and answers are untrusted: the template escapes them, and what hides in text is made visible.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from edge.compare import tables
from edge.compare.charts import bars_svg, tradeoff_svg
from edge.compare.words import words

TEMPLATE = Path(__file__).with_name("report.html.jinja")


def html_report(result: Mapping[str, Any], language: str = "en") -> str:
    """``language`` is "en" or "zh"; raises ValueError for another."""
    told = words(language)
    charts = [chart(result, language) for chart in (tradeoff_svg, bars_svg)]
    return template().render(
        told=told,
        result=result,
        summary=tables.summary_grid(result, told),
        verdicts=[*tables.verdicts(result, told), *tables.left_out(result, told)],
        levels=tables.level_grid(result, told),
        charts=[Markup(chart) for chart in charts if chart],
        suites=[section(result, suite, told) for suite in result["suites"]],
        grids=[tables.hashes_grid(result, told), tables.suites_grid(result, told)],
        made=tables.made_text(result, told),
        machine=tables.machine_text(result),
        settings=tables.settings_text(result, told),
    )


def section(result: Mapping[str, Any], suite: Mapping[str, Any], told: Mapping[str, str]) -> dict[str, Any]:
    """A suite with its questions, each with the answers that stand next to each other."""
    questions = [
        {
            **question,
            "asked": tables.asked(question, told),
            "answers": [
                (name, [(tables.facts_text(one), tables.answer_text(one, told)) for one in repeats])
                for name, repeats in tables.answers_of(result, suite["name"], question["id"])
            ],
        }
        for question in suite["questions"]
    ]
    return {
        "title": suite["title"],
        "note": suite["note"],
        "parts": tables.parts_grid(result, suite["name"], told),
        "questions": [one for one in questions if one["answers"]],
    }


@functools.cache
def template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True)
    environment.filters["visible"] = lambda text: tables.visible(str(text))
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
