"""``edge rm``: remove converted models from the store."""

from __future__ import annotations

from pathlib import Path

import click

from edge import reference, store
from edge.cli.common import command_options, models_dir_option, size_text
from edge.errors import ModelNotFound


@click.command("rm")
@click.argument("model", nargs=-1, required=True)
@models_dir_option
@command_options
def rm_command(model: tuple[str, ...], models_dir: Path | None) -> None:
    """Remove MODEL from the store: every level of it, or the one named. Only files of the store are ever removed."""
    folder = store.models_dir(models_dir)
    doomed: list[store.StoredModel] = []
    for text in model:
        wanted = reference.parse(text)
        if wanted.gguf is not None:
            found = [m for m in store.all_models(folder) if m.path.resolve() == wanted.gguf.resolve()]
        else:
            stored = store.levels_of(folder, wanted.name)
            found = [m for m in stored if wanted.level in (None, m.level)]
        if not found:
            raise ModelNotFound(f"{text} is not in the store {folder}", "`edge list` shows what is")
        doomed += [m for m in found if m not in doomed]
    for stored_model in doomed:
        store.remove(stored_model)
        click.echo(f"removed {stored_model.name}:{stored_model.level} ({size_text(stored_model.nbytes)})")
