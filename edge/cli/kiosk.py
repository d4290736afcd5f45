"""``edge kiosk``: what is installed on this machine from boxes, whether it is sound, and the next box."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from convert.errors import EdgeError
from edge.cli.common import command_options, json_option, print_json, progress_bar
from edge.kiosk.box import install as installing
from edge.kiosk.box import service
from edge.kiosk.box.__main__ import progress_line
from edge.kiosk.box.errors import BoxError
from edge.kiosk.box.layout import DEFAULT_ROOT, Layout
from edge.kiosk.box.status import Status, Version, read_status, verify_current
from edge.text import size_text

root_option = click.option(
    "--root",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="EDGE_KIOSK_ROOT",
    default=DEFAULT_ROOT,
    show_default=True,
    help="Where boxes are installed.",
)
no_service_option = click.option("--no-service", is_flag=True, help="Touch no systemd service.")


@contextmanager
def told() -> Iterator[None]:
    """The code in boxes has a failure of its own."""
    try:
        yield
    except BoxError as error:
        raise EdgeError(error.message, error.hint) from error


@click.group("kiosk")
def kiosk_command() -> None:
    """What is installed on this machine from boxes."""


@kiosk_command.command("status")
@root_option
@json_option
@command_options
def status_command(root: Path, as_json: bool) -> None:
    """Which version is served, which one edge rollback goes back to, and what was done last."""
    with told():
        status = read_status(Layout(root.resolve()), service.find())
    if as_json:
        print_json(status.as_json())
        return
    for line in lines_of(status):
        click.echo(line)


def lines_of(status: Status) -> list[str]:
    if status.current is None:
        return [f"nothing is installed in {status.root}"]
    return [
        f"current:  {version_text(status.current)}",
        f"previous: {version_text(status.previous) if status.previous else 'none'}",
        f"service:  {status.service}",
        *(f"trusted:  {key}" for key in status.trusted),
        *status.log,
    ]


def version_text(version: Version) -> str:
    return (
        f"{version.name} {version.level}, edge {version.version}, packed {version.created}, "
        f"{size_text(version.bytes)}, in slot {version.slot}"
    )


def no_progress(what: str, done: int, of: int) -> None:
    pass


@kiosk_command.command("install")
@click.argument("box", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--key", help="Fingerprint of the key to trust, as edge pack printed it.")
@root_option
@click.option(
    "--min-speed",
    type=click.FloatRange(0, 1),
    default=installing.MIN_SPEED,
    show_default=True,
    help="Least part of the planned decode speed.",
)
@click.option("--listen", help="Where the service is asked: ADDRESS:PORT or the path of a Unix socket.")
@no_service_option
@json_option
@command_options
def install_command(
    box: Path, key: str | None, root: Path, min_speed: float, listen: str | None, no_service: bool, as_json: bool
) -> None:
    """Check BOX, try it here and switch to it; else what is served stays."""
    ways = installing.Ways(key, min_speed, None if no_service else service.find(), listen)
    layout = Layout(root.resolve())
    with told():
        # A bar would stand in the line that the install's messages are written to.
        progress = no_progress if as_json else progress_line(sys.stderr)
        installing.install(box, layout, ways, lambda text: click.echo(text, err=as_json), progress)
        if as_json:
            print_json(read_status(layout, ways.systemd).as_json())


@kiosk_command.command("apply")
@click.option("--listen", help="Where the service is asked: ADDRESS:PORT or the path of a Unix socket.")
@root_option
@command_options
def apply_command(listen: str | None, root: Path) -> None:
    """Restart the service with the keys that are in the root's folder keys now, or at another address."""
    systemd = service.find()
    if systemd is None:
        raise EdgeError("systemd does not run this machine", "restart whatever serves it")
    with told():
        installing.apply(Layout(root.resolve()), systemd, listen, click.echo)


@kiosk_command.command("verify")
@root_option
@json_option
@command_options
def verify_command(root: Path, as_json: bool) -> None:
    """Hash every file of the version that is served, and compare with its signed manifest."""
    with told(), progress_bar(as_json) as bar:
        version, faults = verify_current(Layout(root.resolve()), bar)
    if as_json:
        print_json({"current": dataclasses.asdict(version), "faults": faults})
    else:
        for fault in faults:
            click.echo(fault)
    if faults:
        raise EdgeError(f"{len(faults)} files in {root} are not as they were signed", "install the box again")
    if not as_json:
        click.echo(f"{version_text(version)}: every file is as it was signed")
