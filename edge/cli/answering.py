"""What ``edge run`` and ``edge chat`` share: the model's file, whether it thinks, answers and their speed."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from convert.errors import EdgeError
from edge import reference, store
from edge.chat.thinking import OPEN
from edge.cli.common import progress_bar
from edge.cli.model_options import is_count
from edge.text import terminal_safe

if TYPE_CHECKING:
    from edge.answer import Result
    from edge.api import Stream

ENDINGS = {"length": " (cut at the limit)", "cancelled": " (stopped)"}


def ensure_converted(model: str, models: Path, quiet: bool, level: str | None = None) -> Path:
    """The GGUF of MODEL, at ``level`` where one is given; an embedded model or a checkpoint folder is converted first,
    once."""
    wanted = reference.parse(model)
    if level is not None:
        wanted = replace(wanted, text=f"{model}:{level}", level=level)
    if wanted.gguf is not None or wanted.checkpoint is None:
        return reference.gguf_path(wanted, models)
    if (found := reference.find(wanted, models)) is not None:
        return found.path
    from edge.cli.convert import DEFAULT_LEVEL  # the converter takes long to import
    from edge.conversion import convert_and_check

    level = wanted.level or DEFAULT_LEVEL
    path = store.file_path(models, wanted.name, level)
    store.make_folder(path.parent)
    if not quiet:
        click.echo(f"converting {wanted.name} to {level} first", err=True)
    with progress_bar(quiet) as bar:
        convert_and_check(wanted.checkpoint, {level: path}, on_progress=bar)
    return path


def thinking(template: str | None, choice: str) -> tuple[dict[str, bool], int | None]:
    """What ``choice`` (``on``, ``off`` or the most tokens) means for a model: variables of its chat template, and its
    thinking budget in tokens, None for no limit. Raises EdgeError where the template does not offer it."""
    template = template or ""
    can_choose, thinks = "enable_thinking" in template, OPEN in template
    if choice in ("on", "off"):
        if not can_choose and not (choice == "on" and thinks):
            raise EdgeError("this model's template does not let one choose whether it thinks")
        return {"enable_thinking": choice == "on"} if can_choose else {}, None
    if not is_count(choice):
        raise EdgeError("thinking is on, off, or the most tokens, as 200")
    if not thinks:
        raise EdgeError("this model does not think")
    return {"enable_thinking": True} if can_choose else {}, int(choice)


def show(stream: Stream, *, thoughts: bool) -> Result:
    """Print an answer as it comes, and a newline at its end; ``thoughts`` dim before it, or not at all.

    Raises the error that ended the answer, after a newline if anything was printed.
    """
    clean = terminal_safe if sys.stdout.isatty() else str
    shown = after_thoughts = False
    try:
        for delta in stream:
            if delta.reasoning and thoughts:
                shown = after_thoughts = True
                click.secho(clean(delta.reasoning), dim=True, nl=False)
            if delta.text:
                click.echo("\n\n" * after_thoughts + clean(delta.text), nl=False)
                shown, after_thoughts = True, False
    except EdgeError:
        if shown:
            click.echo()
        raise
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
