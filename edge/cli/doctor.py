"""``edge doctor``: what this machine has, each line ok or what to do. Does not load the library."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click

from convert.errors import one_line
from edge import store
from edge.cli.common import command_options, json_option, models_dir_option, print_json
from edge.doctor import checks

MARKS = {"ok": "ok  ", "warn": "note", "bad": "BAD "}


@click.command("doctor")
@json_option
@models_dir_option
@command_options
def doctor_command(as_json: bool, models_dir: Path | None) -> None:
    """Check this machine and the installation; exit code 1 if something must be mended."""
    found = checks(store.models_dir(models_dir))
    if as_json:
        print_json({"checks": [dataclasses.asdict(check) for check in found]})
    else:
        for check in found:
            todo = f" -> {check.todo}" if check.todo else ""
            click.echo(one_line(f"{MARKS[check.status]} {check.name}: {check.found}{todo}"))
    if any(check.status == "bad" for check in found):
        sys.exit(1)
