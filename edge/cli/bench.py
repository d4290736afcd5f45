"""``edge bench``: how fast and how good each level of a model is on this machine."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from convert import gguf_file
from convert.errors import EdgeError
from edge import store
from edge.cli.answering import ensure_converted
from edge.cli.common import command_options, json_option, models_dir_option, print_json
from edge.cli.model_options import Numbers, measured_options

SUFFIXES = (".html", ".json", ".csv", ".svg")


class OutputPath(click.ParamType):
    """A file whose suffix says what goes into it."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(value)
        if path.suffix not in SUFFIXES:
            self.fail(f"{value!r} does not end in {', '.join(SUFFIXES)}", param, ctx)
        return path


@click.command("bench")
@click.argument("models", metavar="MODEL|FILE...", nargs=-1, required=True)
@click.option("--levels", help="Only these, as Q8_0,Q4_K_M; one that is not there is converted first.")
@click.option("-r", "--repeats", type=click.IntRange(1, 100), default=3, show_default=True, help="Of each measurement.")
@click.option(
    "-d", "--depths", type=Numbers(0), default="0,4096", show_default=True, help="Tokens in the cache before."
)
@click.option("--widths", type=Numbers(1), default="1,2,4,8", show_default=True, help="Sequences decoded at once.")
@click.option(
    "--minutes", type=click.FloatRange(0, 1440), default=0, help="Then decode for so long, for lasting speed."
)
@click.option("--no-quality", is_flag=True, help="Leave out perplexity and KL divergence.")
@click.option("-o", "--output", "outputs", type=OutputPath(), multiple=True, help="Write .html, .json, .csv or .svg.")
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
    depths: tuple[int, ...],
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
    from edge.bench.against import load_result
    from edge.bench.asserts import failures, parse_assertions
    from edge.bench.files import files_of, options_for, parse_levels
    from edge.bench.run import bench
    from edge.cli.bench_view import Live, show_differences, write_outputs
    from edge.plan.make import expected_rates

    wanted = parse_assertions(assertions) if assertions else []
    old = load_result(against) if against else None
    check_writable(outputs)
    folder, silent = store.models_dir(models_dir), quiet or as_json
    name, files = files_of(models, parse_levels(levels), folder, lambda one: ensure_converted(one, folder, silent))
    measured = {"depths": depths, "widths": widths, "repeats": repeats, "minutes": minutes}
    options = {level: options_for(path, folder, given, **measured) for level, path in files.items()}
    say_if_busy()
    first = next(iter(options.values()))
    expected = expected_rates(files, first.threads, first.threads_batch)
    with Live(silent) as live:
        result = bench(name, files, options, quality=not no_quality, expected=expected, on_progress=live.update)
    remember(folder, files, result)
    write_outputs(outputs, result)
    if as_json:
        print_json(result)
    elif old is not None:
        show_differences(old, result)
    if broken := failures(wanted, result):
        for line in broken:
            click.echo(line, err=True)
        sys.exit(1)


def check_writable(outputs: Sequence[Path]) -> None:
    """Now, and not after minutes of measuring. Raises EdgeError."""
    for path in outputs:
        if not path.parent.is_dir() or path.is_dir():
            raise EdgeError(f"cannot write {path}: its folder does not exist", "make it first")


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


def say_if_busy() -> None:
    from edge.bench.gauges import busy_note

    if note := busy_note():
        click.echo(note, err=True)
