"""``edge compare``: the same questions to several models, levels and servers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge import store
from edge.cli.common import command_options, json_option, models_dir_option
from edge.cli.compare_options import SUFFIXES, ReportPath, SuiteNames, question_options


@click.command("compare")
@click.argument("models", metavar="MODEL|ADDRESS...", nargs=-1, required=True)
@click.option("--suite", "suites", type=SuiteNames(), default="starter", show_default=True, help="As puzzles,my.toml.")
@click.option("-o", "--output", "outputs", type=ReportPath(SUFFIXES), multiple=True, help="Write .html, .md or .json.")
@click.option("--against", type=click.Path(path_type=Path), help="Compare with an older report (.json).")
@question_options
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress and no table.")
@models_dir_option
@command_options
def compare_command(
    models: tuple[str, ...],
    suites: tuple[str, ...],
    outputs: tuple[Path, ...],
    against: Path | None,
    as_json: bool,
    quiet: bool,
    models_dir: Path | None,
    **given: Any,
) -> None:
    """Ask each MODEL the same questions: side by side, scored where a rule can decide.

    ADDRESS is any OpenAI-compatible server, as http://127.0.0.1:11434/v1#model. Two reports (.json) in place of models
    are compared with each other, and nothing is asked.
    """
    from edge.cli.compare_view import asked, print_result, show_differences, write_reports
    from edge.compare.differ import load_result
    from edge.compare.suite import load_suites

    if len(models) == 2 and all(one.endswith(".json") for one in models):
        old, new = (load_result(Path(one)) for one in models)
        show_differences(old, new)
        return
    old = load_result(against) if against else None
    questions = load_suites(suites)
    result = asked(models, questions, store.models_dir(models_dir), quiet or as_json, given)
    write_reports(outputs, result)
    print_result(result, as_json, quiet)
    if old is not None and not quiet and not as_json:
        show_differences(old, result)
