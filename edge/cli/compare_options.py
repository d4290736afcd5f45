"""The options that ``edge compare`` and ``edge eval`` share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from edge.cli.common import OutputPath

SUFFIXES = (".html", ".md", ".json")


class ReportPath(OutputPath):
    """One in a folder that is there: known before hours of work."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = super().convert(value, param, ctx)
        if path.is_dir() or not path.parent.is_dir():
            self.fail(f"no file can be written at {value!r}", param, ctx)
        return path


class SuiteNames(click.ParamType):
    """Names of suites and files, parted by commas."""

    name = "names"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(one.strip() for one in value.split(",")))
        if "" in names:
            self.fail(f"{value!r} has an empty name", param, ctx)
        return names


def question_options(function: Callable[..., Any]) -> Callable[..., Any]:
    for option in reversed(QUESTION_OPTIONS):
        function = option(function)
    return function


QUESTION_OPTIONS: tuple[Callable[..., Any], ...] = (
    click.option("-r", "--repeats", type=click.IntRange(1, 100), default=1, show_default=True, help="Of a question."),
    click.option(
        "--seed", type=click.IntRange(0, 2**31 - 1), default=1, show_default=True, help="The first; repeats count on."
    ),
    click.option("--temperature", type=click.FloatRange(0, 2), show_default="0, with repeats 0.7", help="Of answers."),
    click.option("-c", "--ctx", type=click.IntRange(256), show_default="as needed", help="Context of models here."),
    click.option("--fresh", is_flag=True, help="Do not go on with a run that was cut."),
    click.option(
        "--api-key-file",
        "key_file",
        type=click.Path(path_type=Path, dir_okay=False),
        help="A file with the key for servers at addresses.",
    ),
)
