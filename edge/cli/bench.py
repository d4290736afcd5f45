"""``edge bench``: how fast and how good each level of a model is on this machine."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import click

from convert import gguf_file
from convert.errors import EdgeError
from edge import store
from edge.cli.answering import ensure_converted
from edge.cli.common import OutputPath, command_options, json_option, models_dir_option, print_json
from edge.cli.model_options import Numbers, check_kv_type, measured_options
from edge.model_file import parse_levels

SUFFIXES = (".html", ".json", ".csv", ".svg")
DEEPEST = 999_999_999  # tokens
WIDEST = 256  # sequences; ``edge.llama.context`` has it too, and takes long to import


class Minutes(click.FloatRange):
    """A range that leaves out NaN, too, which is neither below nor above."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        minutes = super().convert(value, param, ctx)
        if math.isnan(minutes):
            self.fail(f"{value!r} is no number of minutes", param, ctx)
        return minutes


@click.command("bench")
@click.argument("models", metavar="MODEL|FILE...", nargs=-1, required=True)
@click.option("--levels", help="Only these, as Q8_0,Q4_K_M; one that is not there is converted first.")
@click.option("-r", "--repeats", type=click.IntRange(1, 100), default=3, show_default=True, help="Of each measurement.")
@click.option(
    "-d",
    "--depths",
    type=Numbers(0, DEEPEST),
    show_default="0,4096, or what the model was trained for",
    help="Tokens in the cache before; 0 is always among them.",
)
@click.option(
    "--widths",
    type=Numbers(1, WIDEST),
    default="1,2,4,8",
    show_default=True,
    help="Sequences decoded at once; 1 is always among them.",
)
@click.option("--minutes", type=Minutes(0, 1440), default=0, help="Then decode for so long, for lasting speed.")
@click.option("--no-quality", is_flag=True, help="Leave out perplexity and KL divergence.")
@click.option(
    "-o", "--output", "outputs", type=OutputPath(SUFFIXES), multiple=True, help="Write .html, .json, .csv or .svg."
)
@click.option("--against", type=click.Path(path_type=Path), help="Compare with an older result (.json).")
@click.option("--assert", "assertions", help='Exit with 1 unless all hold, as "tg128>=8,ttft<3".')
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress and no tables.")
@models_dir_option
@command_options
@measured_options
def bench_command(
    models: tuple[str, ...],
    levels: str | None,
    repeats: int,
    depths: tuple[int, ...] | None,
    widths: tuple[int, ...],
    minutes: float,
    no_quality: bool,
    outputs: tuple[Path, ...],
    against: Path | None,
    assertions: str | None,
    as_json: bool,
    quiet: bool,
    models_dir: Path | None,
    **given: Any,
) -> None:
    """Measure MODEL at each level that is here, or the FILEs of one model: speed, memory, quality.

    Minutes for a small model, long for a large one: -r 1 -d 0 is the quickest that still says something.
    """
    from edge.bench.files import depths_for, files_of, options_for
    from edge.bench.gauges import busy_note
    from edge.bench.run import bench
    from edge.cli.bench_view import Live, has_figures, show_differences, write_outputs
    from edge.plan.make import expected_rates
    from edge.report.against import load_result
    from edge.report.asserts import failures, parse_assertions

    wanted = parse_assertions(assertions) if assertions else []
    old = load_result(against) if against else None
    check_kv_type(given)
    check_writable(outputs)
    folder, silent = store.models_dir(models_dir), quiet or as_json
    name, files = files_of(
        models, parse_levels(levels), folder, lambda one, level: ensure_converted(one, folder, silent, level)
    )
    check_chart(outputs, len(files), quality=not no_quality)
    measured = {"widths": widths, "repeats": repeats, "minutes": minutes}
    options = {level: options_for(path, folder, given, **measured) for level, path in files.items()}
    depths, notes = depths_for(files, options, depths)
    options = {level: replace(one, depths=depths) for level, one in options.items()}
    for note in filter(None, (*notes, busy_note())):
        click.echo(note, err=True)
    first = next(iter(options.values()))
    on_cpu = all(one.gpu_layers == 0 for one in options.values())  # what a plan is about
    expected = expected_rates(files, first.threads, first.threads_batch) if on_cpu else None
    live = Live(silent)
    try:
        with live:
            result = bench(
                name,
                files,
                options,
                quality=not no_quality,
                scratch=folder if os.access(folder, os.W_OK) else None,
                expected=expected,
                on_progress=live.update,
            )
    except BaseException:
        if as_json and has_figures(live.result):
            print_json(live.result)
        raise
    compared = {} if old is None else compare(old, result)
    if as_json:
        print_json(result | compared)
    if all(given[key] is None for key in ("flash_attn", "kv_type", "gpu_layers")):  # else no plan is about it
        remember(folder, files, result)
    write_outputs(outputs, result)
    if old is not None and not silent:
        show_differences(old, result)
    if broken := failures(wanted, result):
        for line in broken:
            click.echo(line, err=True)
        sys.exit(1)


def compare(old: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """What ``--json`` says of the older result."""
    from edge.report.against import differences, remarks

    return {"against": [asdict(one) for one in differences(old, result)], "remarks": remarks(old, result)}


def check_writable(outputs: Sequence[Path]) -> None:
    """Now, and not after minutes of measuring. Raises EdgeError."""
    for path in outputs:
        if not path.parent.is_dir():
            raise EdgeError(f"cannot write {path}: its folder does not exist", "make it first")
        if path.is_dir():
            raise EdgeError(f"cannot write {path}: it is a folder", "choose another name")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise EdgeError(f"cannot write {path}: permission denied", "choose another place")


def check_chart(outputs: Sequence[Path], levels: int, *, quality: bool) -> None:
    """Raises EdgeError where a chart of speed and quality would be empty."""
    if any(path.suffix == ".svg" for path in outputs) and (levels < 2 or not quality):
        raise EdgeError(
            "an .svg shows speed and quality of several levels",
            "leave --no-quality out" if levels > 1 else "name several --levels, or write .html",
        )


def remember(models: Path, files: Mapping[str, Path], result: Mapping[str, Any]) -> None:
    """Keep the figures for ``edge plan``; a models folder that cannot be written to is no reason to fail."""
    from edge import measured
    from edge.errors import StoreError

    by_level = {level["level"]: level for level in result["levels"]}
    for level, path in files.items():
        try:
            measured.save(models, gguf_file.read(path), by_level[level])
        except StoreError as error:
            click.echo(f"note: {error.message}; edge plan will not know these figures", err=True)
            return
