"""``edge eval``: one model's scores, for scripts."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from edge import store
from edge.cli.common import command_options, json_option, models_dir_option
from edge.cli.compare_options import SUFFIXES, ReportPath, SuiteNames, question_options


@click.command("eval")
@click.argument("model", metavar="MODEL|ADDRESS")
@click.option(
    "--suite", "suites", type=SuiteNames(), default="starter", show_default=True, help="As json,code,my.toml."
)
@click.option("--assert", "assertions", help='Exit with 1 unless all hold, as "json>=0.95,rate>=8".')
@click.option("-o", "--output", "outputs", type=ReportPath(SUFFIXES), multiple=True, help="Write .html, .md or .json.")
@question_options
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress and no table.")
@models_dir_option
@command_options
def eval_command(
    model: str,
    suites: tuple[str, ...],
    assertions: str | None,
    outputs: tuple[Path, ...],
    as_json: bool,
    quiet: bool,
    models_dir: Path | None,
    **given: Any,
) -> None:
    """Score MODEL's answers to suites of questions: from 0 to 1 each, with tokens/s, TTFT and memory."""
    from edge.cli.compare_view import asked, print_result, write_reports
    from edge.compare.asserts import failures, parse_assertions
    from edge.compare.suite import load_suites

    questions = load_suites(suites)
    wanted = parse_assertions(assertions, [one.name for one in questions]) if assertions else []
    result = asked((model,), questions, store.models_dir(models_dir), quiet or as_json, given)
    write_reports(outputs, result)
    print_result(result, as_json, quiet)
    if broken := failures(wanted, result):
        for line in broken:
            click.echo(f"error: {line}", err=True)
        sys.exit(1)
