"""``edge list``: the models of the store, and the embedded ones."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from edge import reference, store
from edge.cli.common import command_options, json_option, models_dir_option, print_json
from edge.conversion import gate_text
from edge.receipt import read_receipt
from edge.text import size_text


@click.command("list")
@json_option
@models_dir_option
@command_options
def list_command(as_json: bool, models_dir: Path | None) -> None:
    """List the models that are here."""
    folder = store.models_dir(models_dir)
    models, fetched = store.all_models(folder), store.checkpoints(folder)
    if as_json:
        rows = [
            {
                "name": model.name,
                "level": model.level,
                "path": str(model.path),
                "bytes": model.nbytes,
                "bits_per_weight": model.report.get("bits_per_weight"),
                "gate": gate_text(model.report),
            }
            for model in models
        ]
        print_json(
            {
                "models_dir": str(folder),
                "models": rows,
                "checkpoints": [
                    {"name": name, "bytes": nbytes, "whole": whole(folder, name)} for name, nbytes in fetched.items()
                ],
                "embedded": list(reference.EMBEDDED),
            }
        )
        return
    table = Table("NAME", "LEVEL", "SIZE", "BITS/WEIGHT", "GATE", box=None, pad_edge=False)
    for model in models:
        bits = model.report.get("bits_per_weight")
        table.add_row(
            model.name, model.level, size_text(model.nbytes), f"{bits:.2f}" if bits else "?", gate_text(model.report)
        )
    if models:
        Console().print(table)
    if fetched:
        sizes = ", ".join(
            f"{name} ({size_text(nbytes)}{'' if whole(folder, name) else ', not whole'})"
            for name, nbytes in fetched.items()
        )
        click.echo(f"fetched checkpoints (edge rm NAME:checkpoint removes one): {sizes}")
    missing = [name for name in reference.EMBEDDED if not any(model.name == name for model in models)]
    if missing:
        click.echo(f"embedded, converted at first use: {', '.join(missing)}")
    click.echo(f"models live in {folder}")


def whole(models: Path, name: str) -> bool:
    """Whether all that a conversion needs was fetched."""
    return read_receipt(store.checkpoint_path(models, name), name).complete
