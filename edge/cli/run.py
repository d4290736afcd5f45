"""``edge run``: one question, the answer as it comes, and how fast it came."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edge import store
from edge.cli.answering import ensure_converted, show, speed_text, thinking
from edge.cli.common import INTERRUPTED, command_options, json_option, models_dir_option, print_json
from edge.cli.model_options import engine_and_answer, model_options, think_option

if TYPE_CHECKING:
    from edge.answer import Result


@click.command("run")
@click.argument("model")
@click.argument("prompt", required=False)
@click.option("-s", "--system", help="System message.")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Only the answer.")
@models_dir_option
@command_options
@think_option
@model_options
def run_command(
    model: str,
    prompt: str | None,
    system: str | None,
    as_json: bool,
    quiet: bool,
    models_dir: Path | None,
    think: str | None,
    **given: Any,
) -> None:
    """Ask MODEL the PROMPT (or standard input) and stream the answer."""
    from edge.api import Engine

    engine, answer = engine_and_answer(given)
    question = prompt if prompt is not None else read_stdin()
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question})
    path = ensure_converted(model, store.models_dir(models_dir), quiet or as_json)
    with Engine(path, slots=1, models_dir=models_dir, **engine) as llm:
        if llm.rope is not None and not quiet:
            trained = llm.model.n_ctx_train
            click.echo(f"YaRN by {llm.rope.factor:.2f}: --ctx {llm.ctx} is beyond the trained {trained}", err=True)
        variables, budget = thinking(llm.model.chat_template, think) if think else ({}, None)
        stream = llm.chat(messages, variables=variables, thinking_budget=budget, **answer)
        try:
            result = stream.result if as_json else show(stream, thoughts=sys.stdout.isatty() and not quiet)
        except KeyboardInterrupt:
            click.echo("\ninterrupted", err=True)
            sys.exit(INTERRUPTED)
    if as_json:
        print_json({"model": str(path), **result_json(result)})
    elif not quiet:
        click.echo(speed_text(result), err=True)


def result_json(result: Result) -> dict[str, Any]:
    """Tokens, seconds and tokens a second. Thoughts are not in the answer."""
    timings = result.timings
    return {
        "answer": result.text,
        "prompt_tokens": timings.prompt_tokens,
        "prefill_seconds": timings.prefill,
        "generated_tokens": timings.generated_tokens,
        "decode_seconds": timings.decode,
        "finish_reason": result.finish_reason,
        "prefill_tokens_per_second": round(timings.prefill_rate, 2),
        "decode_tokens_per_second": round(timings.decode_rate, 2),
    }


def read_stdin() -> str:
    if sys.stdin is None or sys.stdin.isatty():
        raise click.UsageError('give a PROMPT, as in: edge run MODEL "你好"')
    text = sys.stdin.buffer.read().decode("utf-8", "replace").strip()
    if not text:
        raise click.UsageError("standard input is empty; give a PROMPT")
    return text
