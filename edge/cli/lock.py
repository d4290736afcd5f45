"""``edge lock``: pin a model: revision, sizes, hashes, licence, and what planning needs, without its weights."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from edge import store
from edge.cli.common import command_options, json_option, models_dir_option, print_json
from edge.cli.fetching import download_bar, say, source_options
from edge.fetch import From, find_model, holding, pin_model
from edge.lock_file import lock_text
from edge.user_lock import lock_path


@click.command("lock")
@click.argument("model")
@source_options
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress.")
@models_dir_option
@command_options
def lock_command(model: str, where: From, as_json: bool, quiet: bool, models_dir: Path | None) -> None:
    """Ask a hub which files MODEL has today, keep their hashes in your own models.lock, and print its entry."""
    models = store.models_dir(models_dir)
    wanted = find_model(model, models, where)
    with holding(wanted, models, say) as folder, download_bar(quiet or as_json) as bar:
        pinned = pin_model(wanted, folder, models, where, bar).model
    if as_json:
        print_json(asdict(pinned))
        return
    click.echo(lock_text({pinned.name: pinned}), nl=False)
    if not quiet:
        say(f"kept in {lock_path(models)}")
