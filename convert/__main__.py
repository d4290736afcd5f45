"""``python -m convert CHECKPOINT OUT.gguf``: the pipeline with the gate of ``edge``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from edge.cli.common import command_options
from edge.cli.convert import conversion_options, parse_levels, run_conversion


@click.command()
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@conversion_options
@command_options
def main(checkpoint: Path, out: Path, levels: str, **options: Any) -> None:
    """Convert the CHECKPOINT folder to the file OUT.

    With several levels OUT must contain "{level}", which each level's name replaces.
    """
    wanted = parse_levels(levels)
    if len(wanted) > 1 and "{level}" not in out.name:
        raise click.UsageError('with several levels OUT must contain "{level}", as in model-{level}.gguf')
    run_conversion(
        checkpoint, {level: out.with_name(out.name.replace("{level}", level)) for level in wanted}, **options
    )


if __name__ == "__main__":
    main(prog_name="python -m convert")
