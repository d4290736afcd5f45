"""``edge plan``: before any download, what fits this machine and how fast it will be."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from convert.errors import one_line
from edge import machine, reference, store
from edge.cli.common import command_options, json_option, models_dir_option, print_json, progress_bar
from edge.model_file import parse_levels
from edge.plan.words import rate_text, seconds_text
from edge.text import size_text
from edge.tuned import gpu_libraries

if TYPE_CHECKING:
    from edge.plan.levels import LevelPlan
    from edge.plan.make import MadePlan


@click.command("plan")
@click.argument("model")
@click.option("--levels", help="Plan these, as Q8_0,Q4_K_M (default: the usual five, and those that are here).")
@click.option("-c", "--ctx", type=click.IntRange(8), help="Context in tokens (default: 4096, or less).")
@click.option("-t", "--threads", type=click.IntRange(1, 512), help="Threads (default: tuned, or the physical cores).")
@json_option
@click.option("-q", "--quiet", is_flag=True, help="Only the recommendation.")
@models_dir_option
@command_options
def plan_command(
    model: str,
    levels: str | None,
    ctx: int | None,
    threads: int | None,
    as_json: bool,
    quiet: bool,
    models_dir: Path | None,
) -> None:
    """Say which level of MODEL fits this machine, how fast it will be, and what it takes to get it. Uses no network."""
    from edge.bench.gauges import busy_note
    from edge.plan.levels import QUESTION
    from edge.plan.make import make_plan
    from edge.plan.words import advice, locale_language

    folder = store.models_dir(models_dir)
    if note := busy_note():
        click.echo(note, err=True)
    with progress_bar(quiet or as_json) as bar:
        made = make_plan(model, folder, levels=parse_levels(levels), ctx=ctx, threads=threads, on_progress=bar)
    command = convert_command(model, made.name, models_dir) if made.can_convert else ""
    sentences = advice(made.levels, made.room.available, made.room.disk, command, locale_language(), QUESTION)
    if as_json:
        print_json(
            {
                "model": made.name,
                "ctx": made.ctx,
                "room": dataclasses.asdict(made.room),
                "levels": [
                    {**dataclasses.asdict(plan), "measured": made.measured.get(plan.level, {})} for plan in made.levels
                ],
                "advice": sentences,
            }
        )
        return
    if not quiet:
        click.echo(heading(made))
        Console().print(plan_table(made))
        for line in breakdown(made):
            click.echo(line)
        if any(made.measured.values()):
            click.echo("\nmeasured before by edge bench, and how far off this plan is:")
            Console().print(measured_table(made))
    for sentence in sentences:
        click.echo(sentence)


def convert_command(model: str, name: str, models_dir: Path | None) -> str:
    """What makes the file of a level, with ``{level}`` in it, as MODEL was given."""
    wanted = reference.parse(model)
    folder = wanted.checkpoint is not None and wanted.name not in reference.EMBEDDED
    there = f" --models-dir {shlex.quote(str(models_dir))}" if models_dir else ""
    return f"edge convert {shlex.quote(model if folder else name)} --level {{level}}{there}"


def heading(made: MadePlan) -> str:
    """Two lines."""
    room, cpu = made.room, machine.cpu()
    disk = "" if room.disk is None else f", {size_text(room.disk)} of disk"
    return (
        f"{one_line(made.name)} on {cpu.name or cpu.arch}, {made.rates.threads} threads\n"
        f"{size_text(room.available)} of memory{disk} free; context {made.ctx} tokens"
    )


def breakdown(made: MadePlan) -> list[str]:
    """What MEMORY is made of beside weights, and what is to be fetched."""
    first = made.levels[0]
    cache, compute, program = map(size_text, (first.cache, first.compute, first.program))
    lines = [f"MEMORY: weights, {cache} cache, {compute} for a step, {program} for the program"]
    if download := max(plan.download for plan in made.levels):
        lines.append(f"to be fetched first: a checkpoint of {size_text(download)}")
    if gpu_libraries():
        lines.append("GPUs are not in these figures")
    return lines


def plan_table(made: MadePlan) -> Table:
    """Tokens/s are of decoding and of a prompt; TTFT is the time to the first token of an answer to it."""
    units = ("", "", "", "tokens/s", "tokens/s", "", "tokens", "")
    return table_of(
        ("FILE", "MEMORY", "FITS", "DECODE", "PREFILL", "TTFT", "CONTEXT", "CONVERT"),
        units,
        [(plan.level, cells_of(plan)) for plan in made.levels],
    )


def cells_of(plan: LevelPlan) -> list[str]:
    return [
        size_text(plan.file),
        size_text(plan.memory),
        {"fits": "yes", "tight": "tight", "does not fit": "no"}[plan.verdict],
        rate_text(plan.decode),
        rate_text(plan.prefill),
        seconds_text(plan.first_token),
        str(plan.longest_context),
        "here" if plan.here else seconds_text(plan.convert),
    ]


def measured_table(made: MadePlan) -> Table:
    """What ``edge bench`` found before, and how far off the plan is: above 0 it promised too much."""
    names = ("DECODE", "OFF", "PREFILL", "OFF", "TTFT", "OFF")
    known = [(plan, made.measured[plan.level]) for plan in made.levels if made.measured.get(plan.level)]
    return table_of(names, [""] * len(names), [(plan.level, measured_cells(plan, figures)) for plan, figures in known])


def measured_cells(plan: LevelPlan, known: Mapping[str, float]) -> list[str]:
    cells = []
    for key, planned, show in (
        ("tg128", plan.decode, rate_text),
        ("pp512", plan.prefill, rate_text),
        ("ttft", plan.first_token, seconds_text),
    ):
        found = known.get(key)
        cells += [show(found), f"{100 * (planned / found - 1):+.0f} %"] if found else ["", ""]
    return cells


def table_of(names: Sequence[str], units: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("LEVEL\n" if any(units) else "LEVEL")
    for name, unit in zip(names, units, strict=True):
        table.add_column(f"{name}\n{unit}" if any(units) else name, justify="right", no_wrap=True)
    for level, cells in rows:
        table.add_row(Text(one_line(level)), *cells)  # the name of a file may look like markup
    return table
