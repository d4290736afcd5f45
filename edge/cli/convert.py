"""``edge convert``: a checkpoint to GGUF files, in the store or at a path."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from convert.checkpoint import open_checkpoint
from convert.errors import EdgeError
from convert.file_plan import plan_files
from convert.imatrix import Imatrix, read_imatrix
from convert.levels import LEVELS, parse_level
from convert.pipeline import Report
from convert.tokenizer import template_note
from edge import model_file, recipe, reference, store
from edge.cli.common import INTERRUPTED, command_options, json_option, models_dir_option, print_json, progress_bar
from edge.cli.fetching import download_bar, say, source_options
from edge.conversion import convert_and_check, gate_text
from edge.fetch import From, fetch, find_model, holding
from edge.text import size_text as size
from edge.user_lock import remember

DEFAULT_LEVEL = "Q4_K_M"


def conversion_options(function: Any) -> Any:
    """The options that ``edge convert`` and ``python -m convert`` have in common."""
    for option in (
        click.option("-q", "--quiet", is_flag=True, help="No progress and no summary."),
        json_option,
        click.option("--no-check", is_flag=True, help="Skip the gate that tries the file before it gets its name."),
        click.option("--dry-run", is_flag=True, help="Check everything and say what would be written; write nothing."),
        click.option("--imatrix", type=click.Path(), help="Importance matrix made by llama-imatrix (GGUF or .dat)."),
        click.option("-t", "--threads", type=click.IntRange(1, 1024), help="Worker threads (default: all cores)."),
        click.option(
            "-l",
            "--level",
            "levels",
            default=DEFAULT_LEVEL,
            show_default=True,
            help=f"Quant levels, separated by commas: {', '.join(LEVELS)}.",
        ),
    ):
        function = option(function)
    return function


@click.command("convert")
@click.argument("model")
@click.argument("out", required=False, type=click.Path(path_type=Path))
@conversion_options
@source_options
@click.option("--name", help="What to call the model (default: the folder's name).")
@models_dir_option
@command_options
def convert_command(
    model: str,
    out: Path | None,
    levels: str,
    where: From,
    name: str | None,
    models_dir: Path | None,
    **options: Any,
) -> None:
    """Convert MODEL into the store, or to the file OUT.

    MODEL is a checkpoint folder, or a name of models.lock or a hub's org/repo, whose files are fetched first.
    """
    wanted = parse_levels(levels)
    source = reference.parse(model)
    if source.level:
        wanted = [source.level]
    if source.gguf is not None:
        raise EdgeError(f"{model} is a GGUF file already", "give the checkpoint folder it was made from")
    if out is not None and len(wanted) > 1:
        raise click.UsageError("OUT names one file, but there are several levels")
    models = store.models_dir(models_dir)

    def convert_to(checkpoint: Path, called: str) -> Report | None:
        if out is not None:
            return run_conversion(checkpoint, {wanted[0]: out}, called, **options)
        outputs = {level: store.file_path(models, called, level) for level in wanted}
        if not options["dry_run"]:
            store.make_folder(next(iter(outputs.values())).parent)
        return run_conversion(checkpoint, outputs, called, **options)

    if source.checkpoint is not None:
        convert_to(source.checkpoint, name or source.name)
        return
    locked = find_model(source.typed, models, where)
    if options["dry_run"]:
        where = replace(where, offline="--dry-run")
    with holding(locked, models, say) as folder:
        with download_bar(options["quiet"] or options["as_json"]) as bar:
            pulled = fetch(locked, folder, models, where, on_progress=bar)
        report = convert_to(folder, name or locked.name)
        if report is not None and options["imatrix"] is None and name in (None, locked.name):
            made = tuple(recipe.output(output.level, output.sha256) for output in report.outputs)
            remember(models, replace(pulled.model, outputs=made))


def parse_levels(text: str) -> list[str]:
    """Level names from a list with commas, each once, in the order given; at least one."""
    levels = model_file.parse_levels(text)
    if not levels:
        raise click.UsageError(f"--level wants one or more of {', '.join(LEVELS)}")
    return levels


def run_conversion(
    checkpoint: Path,
    outputs: dict[str, Path],
    name: str | None = None,
    *,
    threads: int | None,
    imatrix: str | None,
    dry_run: bool,
    no_check: bool,
    as_json: bool,
    quiet: bool,
) -> Report | None:
    """Convert and print, unless it is a dry run; on Ctrl-C say what is in place and end with 130."""
    importance = None if imatrix is None else read_imatrix(imatrix)
    if importance and all(parse_level(level).is_float for level in outputs):
        raise click.UsageError(f"--imatrix has no use at {', '.join(outputs)}; it guides quantization")
    if dry_run:
        print_plan(checkpoint, outputs, importance, as_json)
        return None
    before = {path: path.stat().st_mtime_ns for path in outputs.values() if path.exists()}
    try:
        with progress_bar(quiet) as bar:
            report = convert_and_check(
                checkpoint, outputs, threads=threads, imatrix=importance, check=not no_check, name=name, on_progress=bar
            )
    except KeyboardInterrupt:
        done = [p.name for p in outputs.values() if p.exists() and before.get(p) != p.stat().st_mtime_ns]
        old = [p.name for p in before if p.name not in done]
        parts = [f"finished and kept: {', '.join(done) or 'nothing'}"]
        parts += [f"still the earlier file: {', '.join(old)}"] if old else []
        click.echo(f"interrupted; {'; '.join(parts)}; everything unfinished was removed", err=True)
        sys.exit(INTERRUPTED)
    if as_json:
        print_json(report_json(report))
    elif not quiet:
        print_report(report)
    return report


def print_plan(checkpoint: Path, outputs: dict[str, Path], imatrix: Imatrix | None, as_json: bool) -> None:
    with open_checkpoint(checkpoint) as source:
        model, files = plan_files(source, outputs, imatrix)
        note = template_note(source)
    left_out = [tensor.name for tensor in model.left_out]
    planned = [
        {
            "level": file.level.name,
            "path": str(file.path),
            "bytes": file.nbytes,
            "bits_per_weight": round(file.bits_per_weight, 4),
            "tensors": count(info.qtype.name for info in file.infos),
        }
        for file in files
    ]
    if as_json:
        plan = {"checkpoint": str(checkpoint), "architecture": model.architecture.name, "outputs": planned}
        print_json(plan | {"left_out": left_out, "note": note})
        return
    for plan in planned:
        types = ", ".join(f"{n} {name}" for name, n in plan["tensors"].items())
        click.echo(f"{plan['path']}: {size(plan['bytes'])}, {plan['bits_per_weight']:.2f} bits per weight ({types})")
    say_more(left_out, note)


def say_more(names: Sequence[str], note: str | None) -> None:
    if note:
        click.echo(f"note: {note}")
    if names:
        click.echo(f"left out, for text only: {len(names)} tensors of the vision part ({names[0]} ...)")


def count(names: Any) -> dict[str, int]:
    found: dict[str, int] = {}
    for name in names:
        found[name] = found.get(name, 0) + 1
    return found


def print_report(report: Report) -> None:
    for output in report.outputs:
        verdict = gate_text({"gate": output.gate or {"passed": None}})
        click.echo(
            f"{output.path}: {size(output.nbytes)}, {output.bits_per_weight:.2f} bits per weight, gate: {verdict}"
        )
    say_more(report.left_out, report.note)
    click.echo(f"converted {report.weights / 1e6:.1f} M weights in {report.seconds:.1f} s")


def report_json(report: Report) -> dict[str, Any]:
    return {
        "checkpoint": str(report.checkpoint),
        "architecture": report.architecture,
        "weights": report.weights,
        "seconds": round(report.seconds, 3),
        "left_out": list(report.left_out),
        "note": report.note,
        "outputs": [
            {
                "level": output.level,
                "path": str(output.path),
                "bytes": output.nbytes,
                "bits_per_weight": round(output.bits_per_weight, 4),
                "sha256": output.sha256,
                "gate": output.gate or {"passed": None},
            }
            for output in report.outputs
        ],
    }
