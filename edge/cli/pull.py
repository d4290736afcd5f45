"""``edge pull``: fetch a model's checkpoint from a hub or a folder."""

from __future__ import annotations

from pathlib import Path

import click

from edge import store
from edge.cli.common import command_options, json_option, models_dir_option, print_json
from edge.cli.fetching import download_bar, say, source_options
from edge.fetch import From, fetch, find_model, holding
from edge.hub.folder import LOCK
from edge.lock_file import write_lock
from edge.text import size_text


@click.command("pull")
@click.argument("model")
@click.argument("files", nargs=-1, metavar="[FILE]...")
@source_options
@click.option("--local-dir", type=click.Path(path_type=Path), help="Put the files here instead of the models folder.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress and no summary.")
@models_dir_option
@command_options
def pull_command(
    model: str,
    files: tuple[str, ...],
    where: From,
    local_dir: Path | None,
    as_json: bool,
    quiet: bool,
    models_dir: Path | None,
) -> None:
    """Fetch what a conversion of MODEL needs, or the FILEs named (globs work): resumed, checked, pinned.

    MODEL is a name of models.lock, such as qwen2.5-7b, or a hub's org/repo.
    """
    models = store.models_dir(models_dir)
    wanted = find_model(model, models, where)
    with holding(wanted, models, say, local_dir) as folder, download_bar(quiet) as bar:
        pulled = fetch(wanted, folder, models, where, only=files, on_progress=bar)
        if local_dir is not None:  # so that the folder can be checked wherever it is carried
            write_lock(local_dir / LOCK, {pulled.model.name: pulled.model})
    if as_json:
        print_json(
            {
                "model": pulled.model.name,
                "folder": str(pulled.folder),
                "files": list(pulled.files),
                "fetched_bytes": pulled.fetched_bytes,
                "licence": pulled.model.licence,
            }
        )
    elif not quiet:
        what = f"fetched {size_text(pulled.fetched_bytes)}" if pulled.fetched_bytes else "nothing to fetch"
        click.echo(f"{pulled.folder}: {len(pulled.files)} files, {what}, licence {pulled.model.licence or 'unknown'}")
