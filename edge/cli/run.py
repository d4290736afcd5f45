"""``edge run``: one question, the answer as it comes, and how fast it came."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Any

import click

from edge import reference, store
from edge.cli.common import INTERRUPTED, command_options, json_option, models_dir_option, print_json, progress_bar
from edge.cli.convert import DEFAULT_LEVEL
from edge.conversion import convert_and_check
from edge.text import terminal_safe

DEFAULT_CONTEXT = 4096


@click.command("run")
@click.argument("model")
@click.argument("prompt", required=False)
@click.option("-s", "--system", help="System message.")
@click.option("-n", "--max-tokens", type=click.IntRange(1), help="End the answer after this many tokens.")
@click.option("-c", "--ctx", type=click.IntRange(8), help=f"Context in tokens (default: {DEFAULT_CONTEXT}, or less).")
@click.option("-t", "--threads", type=click.IntRange(1, 1024), help="Threads (default: the physical cores).")
@click.option("-ngl", "--gpu-layers", type=click.IntRange(-1), default=0, help="Layers on the GPU, -1 for all.")
@click.option("--temp", type=float, help="Temperature; 0 takes the likeliest token (default: the model's own).")
@click.option("--seed", type=int, help="Draw the same answer each time.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Only the answer.")
@models_dir_option
@command_options
def run_command(
    model: str,
    prompt: str | None,
    system: str | None,
    max_tokens: int | None,
    ctx: int | None,
    threads: int | None,
    gpu_layers: int,
    temp: float | None,
    seed: int | None,
    as_json: bool,
    quiet: bool,
    models_dir: Path | None,
) -> None:
    """Ask MODEL the PROMPT (or standard input) and stream the answer."""
    from edge.generate import generate, prompt_tokens
    from edge.llama.context import Context
    from edge.llama.model import Model
    from edge.llama.sampler import Sampling
    from edge.llama.yarn import rope_for

    question = prompt if prompt is not None else read_stdin()
    path = ensure_converted(model, store.models_dir(models_dir), quiet or as_json)
    with Model(path, gpu_layers=gpu_layers) as loaded:
        messages = [{"role": "system", "content": system}] if system else []
        tokens = prompt_tokens(loaded, [*messages, {"role": "user", "content": question}])
        changes: dict[str, Any] = {"temperature": temp, "seed": seed}
        sampling = Sampling.from_metadata(loaded.metadata)
        sampling = dataclasses.replace(sampling, **{k: v for k, v in changes.items() if v is not None})
        n_ctx = ctx or min(DEFAULT_CONTEXT, loaded.n_ctx_train)
        rope = rope_for(loaded.metadata, n_ctx)
        if rope is not None and not quiet:
            click.echo(f"YaRN by {rope.factor:.2f}: --ctx {n_ctx} is beyond the trained {loaded.n_ctx_train}", err=True)
        with Context(loaded, n_ctx, threads=threads, threads_batch=threads, rope=rope) as context:
            generation = generate(loaded, context, tokens, sampling, max_tokens=max_tokens)
            answer = []
            try:
                for piece in generation:
                    answer.append(piece.text)
                    if not as_json:
                        sys.stdout.write(terminal_safe(piece.text) if sys.stdout.isatty() else piece.text)
                        sys.stdout.flush()
            except KeyboardInterrupt:
                click.echo("\ninterrupted", err=True)
                sys.exit(INTERRUPTED)
    timings = generation.timings
    if as_json:
        print_json(
            {
                "model": str(path),
                "answer": "".join(answer),
                **dataclasses.asdict(timings),
                "prefill_tokens_per_second": round(timings.prefill_rate, 2),
                "decode_tokens_per_second": round(timings.decode_rate, 2),
            }
        )
        return
    click.echo()
    if not quiet:
        click.echo(timings_text(timings), err=True)


def timings_text(timings: Any) -> str:
    """One line: how fast the prompt was read, how fast the answer was written, and why it ended there."""
    cut = " (cut at the limit)" if timings.finish_reason == "length" else ""
    return (
        f"prefill {timings.prefill_rate:.1f} tokens/s ({timings.prompt_tokens}), "
        f"decode {timings.decode_rate:.1f} tokens/s ({timings.generated_tokens}){cut}"
    )


def read_stdin() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError('give a PROMPT, as in: edge run MODEL "你好"')
    text = sys.stdin.buffer.read().decode("utf-8", "replace").strip()
    if not text:
        raise click.UsageError("standard input is empty; give a PROMPT")
    return text


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
