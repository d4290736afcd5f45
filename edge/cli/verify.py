"""``edge verify``: whether a model's files are the locked ones; fetch those that are not; convert again and compare."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from convert.errors import EdgeError
from edge import store
from edge.cli.common import command_options, json_option, models_dir_option, print_json, progress_bar
from edge.cli.fetching import download_bar, say, source_options
from edge.conversion import rebuild
from edge.errors import ModelNotFound
from edge.fetch import From, fetch, find_model, holding
from edge.lock import LockedModel, Output
from edge.verify import Finding, checkpoint_checks, compare, gguf_checks, stored_checks, verify


@click.command("verify")
@click.argument("model")
@click.option("--folder", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Look here instead.")
@click.option("--repair", is_flag=True, help="Fetch what is missing or damaged.")
@click.option("--rebuild", "again", is_flag=True, help="Convert again and compare with the hashes kept before.")
@source_options
@json_option
@click.option("-q", "--quiet", is_flag=True, help="No progress; only what is wrong.")
@models_dir_option
@command_options
def verify_command(
    model: str,
    folder: Path | None,
    repair: bool,
    again: bool,
    where: From,
    as_json: bool,
    quiet: bool,
    models_dir: Path | None,
) -> None:
    """Hash every file of MODEL, in the models folder or in --folder, and compare with models.lock."""
    models = store.models_dir(models_dir)
    wanted = find_model(model, models, where)
    with holding(wanted, models, say, folder if repair else None) as checkpoint:
        place = folder or checkpoint
        findings = look(wanted, models, place, folder is not None, quiet or as_json)
        if repair:
            fetch_again(wanted, models, place, findings, where, quiet or as_json)
            findings = look(wanted, models, place, folder is not None, quiet or as_json)
        comparisons = compare_again(wanted, place, models, quiet or as_json) if again else []
    show(wanted, findings, comparisons, as_json, quiet)


def look(model: LockedModel, models: Path, place: Path, elsewhere: bool, quiet: bool) -> list[Finding]:
    """What is there. Raises ModelNotFound when that is nothing, or nothing is known."""
    converted = gguf_checks(model, place) if elsewhere else stored_checks(model, models)
    checks = [*(checkpoint_checks(model, place) if place.is_dir() else []), *converted]
    if not checks:
        what = f"no file of {model.name} is in {place}" if model.files else f"no hash of {model.name} is known"
        raise ModelNotFound(what, f"run: edge {'pull' if model.files else 'lock'} {model.name}")
    with download_bar(quiet) as bar:
        return verify(checks, bar)


def fetch_again(
    model: LockedModel, models: Path, place: Path, findings: Sequence[Finding], where: From, quiet: bool
) -> None:
    """Fetch the bad files of the checkpoint alone."""
    locked = {file.name for file in model.files}
    bad = [finding for finding in findings if finding.state in ("missing", "damaged") and finding.name in locked]
    for finding in bad:
        finding.path.unlink(missing_ok=True)  # its size and time may still be right
    if bad:
        with download_bar(quiet) as bar:
            fetch(model, place, models, where, only=tuple(finding.name for finding in bad), on_progress=bar)


def compare_again(model: LockedModel, place: Path, models: Path, quiet: bool) -> list[tuple[Output, Output | None]]:
    """Convert to every level that the lock has an output of, into a folder that is removed again."""
    levels = sorted({output.level for output in model.outputs})
    if not levels:
        raise EdgeError(f"models.lock has no output of {model.name}", f"run: edge convert {model.name}")
    with progress_bar(quiet) as bar:
        made = rebuild(place, levels, models / model.name, bar)
    return compare(model.outputs, made)


def show(
    model: LockedModel,
    findings: Sequence[Finding],
    comparisons: Sequence[tuple[Output, Output | None]],
    as_json: bool,
    quiet: bool,
) -> None:
    """Print it all; raises EdgeError when something is wrong."""
    bad = [finding for finding in findings if finding.state in ("missing", "damaged")]
    differing = [new for new, old in comparisons if old is not None and old.sha256 != new.sha256]
    if as_json:
        print_json(
            {
                "model": model.name,
                "files": [asdict(finding) | {"path": str(finding.path)} for finding in findings],
                "rebuilt": [rebuilt_json(new, old) for new, old in comparisons],
            }
        )
    else:
        for finding in findings:
            if finding in bad or not quiet:
                click.echo(finding.text)
        for new, old in comparisons:
            if new in differing or not quiet:
                click.echo(rebuilt_text(new, old))
    if bad:
        raise EdgeError(
            f"{len(bad)} of {len(findings)} files of {model.name} are missing or damaged",
            f"edge verify {model.name} --repair fetches them again",
        )
    if differing:
        raise EdgeError(
            f"{len(differing)} of {len(comparisons)} outputs of {model.name} came out differently",
            "the machine's memory or disk may be failing; or report it",
        )


def rebuilt_text(new: Output, old: Output | None) -> str:
    if old is None:
        return f"{new.level}: nothing to compare with: no output of this converter and library is locked"
    if old.sha256 == new.sha256:
        return f"{new.level}: the same bytes again, SHA-256 {new.sha256}"
    return f"{new.level}: differs: SHA-256 is {new.sha256}, locked is {old.sha256}"


def rebuilt_json(new: Output, old: Output | None) -> dict[str, Any]:
    return {"level": new.level, "sha256": new.sha256, "locked": old.sha256 if old else None}
