"""``edge prove-offline``: a report for auditors that the service reaches no network."""

from __future__ import annotations

import os
from pathlib import Path

import click

from convert.durable import write_text
from convert.errors import EdgeError
from edge import reference, store
from edge.cli.common import command_options, json_option, models_dir_option, print_json
from edge.cli.kiosk import no_service_option, root_option, told
from edge.kiosk.box.layout import Layout


@click.command("prove-offline")
@click.argument("model", required=False)
@root_option
@click.option("-o", "--out", type=click.Path(path_type=Path, dir_okay=False), help="Write the report to this file.")
@no_service_option
@models_dir_option
@json_option
@command_options
def prove_offline_command(
    model: str | None, root: Path, out: Path | None, no_service: bool, models_dir: Path | None, as_json: bool
) -> None:
    """Run the installed service, or MODEL alone, in its sandbox, and try every way out from inside.

    Ends with 1 when one is not refused. The report is Markdown.
    """
    from edge.cli.answering import ensure_converted
    from edge.kiosk import prove
    from edge.kiosk.proof.report import report
    from edge.kiosk.proof.sandbox import can_use_systemd

    def tell(text: str) -> None:
        click.echo(text, err=True)

    if out is not None and not os.access(out.parent, os.W_OK):  # told before the work, not after it
        raise EdgeError(f"cannot write {out}", "name another file after -o")
    with told():
        if model is None:
            served = prove.installed(Layout(root.resolve()))
        else:
            path = ensure_converted(model, store.models_dir(models_dir), as_json)
            served = prove.model(path, reference.parse(model).name or path.stem)
        proof = prove.prove(served, None if no_service else can_use_systemd(), tell)
    if out is not None:
        write(out, report(proof))
    if as_json:
        print_json(proof.as_json())
    elif out is None:
        click.echo(report(proof), nl=False)
    if proof.faults:
        first, *rest = proof.faults
        more = f", and {len(rest)} more" if rest else ""
        raise EdgeError(f"not proven: {first}{more}", "the report has the rest" if rest else "")
    tell(f"proven: {len(proof.rows)} attempts, none got out" + (f"; see {out}" if out else ""))


def write(out: Path, text: str) -> None:
    """Raises EdgeError."""
    try:
        write_text(out, text)
    except OSError as error:
        raise EdgeError(f"cannot write {out}: {error.strerror}", "name another file after -o") from error
