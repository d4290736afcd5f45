"""What ``edge run`` and ``edge chat`` share: the model's file, an answer as it comes, how fast it was."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge import reference, store
from edge.cli.common import progress_bar
from edge.cli.convert import DEFAULT_LEVEL
from edge.conversion import convert_and_check
from edge.text import terminal_safe

if TYPE_CHECKING:
    from edge.answer import Result
    from edge.api import Stream

ENDINGS = {"length": " (cut at the limit)", "cancelled": " (stopped)"}


def ensure_converted(model: str, models: Path, quiet: bool) -> Path:
    """The GGUF of MODEL; an embedded model or a checkpoint folder is converted first, once."""
    wanted = reference.parse(model)
    if wanted.gguf is not None or wanted.checkpoint is None:
        return reference.gguf_path(wanted, models)
    if (found := reference.find(wanted, models)) is not None:
        return found.path
    level = wanted.level or DEFAULT_LEVEL
    path = store.file_path(models, wanted.name, level)
    store.make_folder(path.parent)
    if not quiet:
        click.echo(f"converting {wanted.name} to {level} first", err=True)
    with progress_bar(quiet) as bar:
        convert_and_check(wanted.checkpoint, {level: path}, on_progress=bar)
    return path


def show(stream: Stream, *, thoughts: bool) -> Result:
    """Print an answer as it comes, and a newline at its end; ``thoughts`` dim before it, or not at all."""
    clean = terminal_safe if sys.stdout.isatty() else str
    thinking = False
    for delta in stream:
        if delta.reasoning and thoughts:
            thinking = True
            click.secho(clean(delta.reasoning), dim=True, nl=False)
        if delta.text:
            click.echo("\n\n" * thinking + clean(delta.text), nl=False)
            thinking = False
    click.echo()
    return stream.result


def speed_text(result: Result) -> str:
    """One line: how fast the prompt was read and the answer written, and why it ended there."""
    timings = result.timings
    cached = f", {timings.cached_tokens} cached" if timings.cached_tokens else ""
    return (
        f"prefill {timings.prefill_rate:.1f} tokens/s ({timings.prompt_tokens - timings.cached_tokens}{cached}), "
        f"decode {timings.decode_rate:.1f} tokens/s ({timings.generated_tokens}){ENDINGS.get(result.finish_reason, '')}"
    )
