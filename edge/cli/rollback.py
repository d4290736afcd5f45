"""``edge rollback``: the version before is served again."""

from __future__ import annotations

from pathlib import Path

import click

from edge.cli.common import command_options, json_option, print_json
from edge.cli.kiosk import no_service_option, root_option, told
from edge.kiosk.box import service
from edge.kiosk.box.layout import Layout
from edge.kiosk.box.rollback import roll_back
from edge.kiosk.box.status import read_status


@click.command("rollback")
@root_option
@no_service_option
@json_option
@command_options
def rollback_command(root: Path, no_service: bool, as_json: bool) -> None:
    """Go back to the version that was served before; once more, and it is the newer one again."""
    layout, systemd = Layout(root.resolve()), None if no_service else service.find()
    with told():
        roll_back(layout, systemd, lambda text: click.echo(text, err=as_json))
        if as_json:
            print_json(read_status(layout, systemd).as_json())
