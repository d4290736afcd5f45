"""``edge doctor``: what this machine and the models folder have, each line ok or what to do."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import click

from convert.errors import one_line
from edge import store
from edge.cli.common import command_options, json_option, models_dir_option, print_json
from edge.doctor.checks import checks
from edge.fetch import From

MARKS = {"ok": "ok  ", "warn": "note", "bad": "BAD "}


@click.command("doctor")
@click.option("--online", is_flag=True, help="Also ask Hugging Face and ModelScope whether they can be reached.")
@click.option(
    "--offline", is_flag=True, help="Use no network, as HF_HUB_OFFLINE=1 does; without --online none is used."
)
@json_option
@models_dir_option
@command_options
def doctor_command(online: bool, offline: bool, as_json: bool, models_dir: Path | None) -> None:
    """Check this machine, the installation and the models; exit code 1 if something must be mended."""
    forbidden_by = From(offline="--offline" if offline else "").forbidden_by
    found = checks(store.models_dir(models_dir), hubs=online or offline, forbidden_by=forbidden_by)
    if as_json:
        print_json({"checks": [dataclasses.asdict(check) for check in found]})
    else:
        for check in found:
            todo = f" -> {check.todo}" if check.todo else ""
            click.echo(one_line(f"{MARKS[check.status]} {check.name}: {check.found}{todo}"))
    if any(check.status == "bad" for check in found):
        sys.exit(1)
