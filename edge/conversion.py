"""A conversion as the commands want it: pipeline, gate, and the report that is kept beside each file."""

from __future__ import annotations

import platform
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from convert.imatrix import Imatrix
from convert.pipeline import Output, Report, convert
from edge import lock, recipe, store
from edge.gate import run_gate

OnProgress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much


def convert_and_check(
    checkpoint: Path,
    outputs: Mapping[str, Path],
    *,
    threads: int | None = None,
    imatrix: Imatrix | None = None,
    check: bool = True,
    name: str | None = None,
    on_progress: OnProgress = lambda what, done, of: None,
) -> Report:
    """Convert to every level in ``outputs`` (level -> GGUF path), gate each file, write its report.

    Raises EdgeError.
    """
    levels = ", ".join(outputs)

    def gate(gguf: Path, source: Path) -> dict[str, Any]:
        label = gguf.name.removesuffix(".partial")
        return run_gate(gguf, source, lambda name, done, of: on_progress(f"checking {label}: {name}", done, of))

    def publishing(output: Output, partial: Path) -> None:
        # A rename keeps the time: by it a report is known to be about the file, wherever a kill comes.
        mtime_ns = partial.stat().st_mtime_ns
        store.prepare_report(output.path, {**describe(output, checkpoint), "mtime_ns": mtime_ns})

    return convert(
        checkpoint,
        outputs,
        threads=threads,
        imatrix=imatrix,
        gate=gate if check else None,
        progress=lambda done, of: on_progress(f"converting to {levels}", done, of),
        publishing=publishing,
        published=lambda output: store.publish_report(output.path),
        name=name,
    )


def rebuild(
    checkpoint: Path, name: str, levels: Sequence[str], place: Path, on_progress: OnProgress
) -> list[lock.Output]:
    """Convert to ``levels`` once more, as the model called ``name``, for the hashes alone; nothing stays in ``place``.

    Raises EdgeError.
    """
    store.make_folder(place)
    with tempfile.TemporaryDirectory(prefix=".rebuild-", dir=place) as folder:
        outputs = {level: Path(folder) / f"{level}.gguf" for level in levels}
        report = convert(
            checkpoint, outputs, name=name, progress=lambda done, of: on_progress("converting again", done, of)
        )
    return [recipe.output(output.level, output.sha256) for output in report.outputs]


def describe(output: Output, checkpoint: Path) -> dict[str, Any]:
    """The report of one file: what it is, what it was made from and by, and what the gate found."""
    return {
        "level": output.level,
        "bytes": output.nbytes,
        "bits_per_weight": round(output.bits_per_weight, 4),
        "sha256": output.sha256,
        "checkpoint": str(checkpoint.resolve()),
        "fingerprint": store.fingerprint(checkpoint),
        "converted": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "converter": recipe.converter(),
        "library": recipe.library_build(),
        "cpu": platform.machine(),
        "gate": output.gate or {"passed": None},
    }


def gate_text(report: Mapping[str, Any]) -> str:
    """The gate's verdict in a few words, from a report; ``unknown`` for a file that was not converted here."""
    gate = report.get("gate")
    if not isinstance(gate, dict):
        return "unknown"
    if gate.get("passed"):
        return "passed"
    return f"not run, needs {gate['needs_gb']} GB" if "needs_gb" in gate else "not run"
