"""``edge tune``: find and keep the settings that a model likes on this machine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from convert.errors import one_line
from edge import store
from edge.cli.answering import ensure_converted
from edge.cli.common import command_options, json_option, models_dir_option, print_json, progress_bar
from edge.cli.model_options import GpuLayers
from edge.tuned_text import explain


@click.command("tune")
@click.argument("model")
@click.option("-ngl", "--gpu-layers", type=GpuLayers(), default="auto", help="Layers on GPUs (default: auto).")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Only the settings, no progress.")
@models_dir_option
@command_options
def tune_command(model: str, gpu_layers: int | str, as_json: bool, quiet: bool, models_dir: Path | None) -> None:
    """Measure which threads, attention, batch size and decode width are quickest for MODEL here, in under a minute.

    The settings are kept and used by every command from then on; edge show MODEL explains them.
    """
    from edge import tuned
    from edge.bench.gauges import busy_note
    from edge.bench.tune import tune
    from edge.llama.model import Model
    from edge.llama.offload import auto_offload

    models = store.models_dir(models_dir)
    path = ensure_converted(model, models, quiet or as_json)
    if note := busy_note():
        click.echo(note, err=True)
    layers = auto_offload(path, 4096)[0] if gpu_layers == "auto" else int(gpu_layers)
    with Model(path, gpu_layers=layers) as loaded, progress_bar(quiet or as_json) as bar:
        store.make_folder(tuned.path_for(models, loaded.file).parent)  # or fail now, and not after measuring
        found = tune(loaded, gpu_layers=layers, on_progress=bar)
        kept = tuned.save(models, loaded.file, found)
    if as_json:
        print_json({"model": str(path), "kept": str(kept), **dataclasses.asdict(found)})
        return
    for line in explain(found):
        click.echo(line)
    click.echo(f"kept for {one_line(path.name)} on this machine; every command that loads it uses them from now on")
