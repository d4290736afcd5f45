"""``edge rm``: remove converted models from the store."""

from __future__ import annotations

from pathlib import Path

import click

from edge import reference, store
from edge.cli.common import command_options, models_dir_option
from edge.cli.fetching import say
from edge.errors import ModelNotFound
from edge.fetch import holding
from edge.lock import LockedModel
from edge.text import size_text

CHECKPOINT = ":checkpoint"


@click.command("rm")
@click.argument("model", nargs=-1, required=True)
@models_dir_option
@command_options
def rm_command(model: tuple[str, ...], models_dir: Path | None) -> None:
    """Remove MODEL from the store: all of it, the level named (NAME:Q8_0), or the files it was converted from
    (NAME:checkpoint). Only files of the store are ever removed."""
    folder = store.models_dir(models_dir)
    fetched = store.checkpoints(folder)
    doomed: list[store.StoredModel] = []
    doomed_checkpoints: list[str] = []
    for text in model:
        wanted = reference.parse(text.removesuffix(CHECKPOINT))
        if wanted.gguf is not None:
            found = [m for m in store.all_models(folder) if m.path.resolve() == wanted.gguf.resolve()]
        else:
            stored = reference.stored_levels(wanted, folder)
            found = [m for m in stored if wanted.level in (None, m.level) and not text.endswith(CHECKPOINT)]
        whole = wanted.level is None and wanted.gguf is None
        checkpoint = next((name for name in (wanted.name, wanted.locked) if whole and name in fetched), None)
        if not found and checkpoint is None:
            raise ModelNotFound(f"{text} is not in the store {folder}", "`edge list` shows what is")
        doomed += [m for m in found if m not in doomed]
        doomed_checkpoints += [checkpoint] if checkpoint and checkpoint not in doomed_checkpoints else []
    for stored_model in doomed:
        store.remove(stored_model)
        click.echo(f"removed {stored_model.name}:{stored_model.level} ({size_text(stored_model.nbytes)})")
    for name in doomed_checkpoints:
        with holding(LockedModel(name), folder, say):
            store.remove_checkpoint(folder, name)
        click.echo(f"removed {name}{CHECKPOINT} ({size_text(fetched[name])})")
