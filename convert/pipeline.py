"""checkpoint -> GGUF files: plan, then every weight read once and written at every level, then gate, then name."""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from convert.checkpoint import open_checkpoint
from convert.errors import OutputError
from convert.file_plan import FilePlan, plan_files
from convert.imatrix import Imatrix
from convert.slabs import Progress, write_tensors
from convert.tokenizer import template_note
from convert.writer import GGUFWriter

Gate = Callable[[Path, Path], dict]  # (GGUF, checkpoint) -> what was checked; raises EdgeError to refuse the file


@dataclass(frozen=True)
class Output:
    """One file made by a conversion."""

    level: str
    path: Path
    nbytes: int
    bits_per_weight: float
    sha256: str
    gate: dict | None


@dataclass(frozen=True)
class Report:
    """What a conversion did; ``seconds`` without the gate, ``left_out`` names tensors that are not for text.

    ``note``: what was assumed because no file tells it.
    """

    checkpoint: Path
    architecture: str
    weights: int
    seconds: float
    outputs: tuple[Output, ...]
    left_out: tuple[str, ...]
    note: str | None


def convert(
    checkpoint: Path,
    outputs: Mapping[str, Path],
    *,
    threads: int | None = None,
    imatrix: Imatrix | None = None,
    gate: Gate | None = None,
    progress: Progress | None = None,
    publishing: Callable[[Output, Path], None] = lambda output, partial: None,
    published: Callable[[Output], None] = lambda output: None,
    name: str | None = None,
) -> Report:
    """Convert the checkpoint folder to every level in ``outputs`` (level name -> GGUF path), reading it once.

    The model is called ``name``, or as its folder. A file gets its name only when it is complete, on disk and passed
    by ``gate``; ``publishing`` is called before that, with where it lies until then, and ``published`` after it. Raises
    EdgeError; files that were already in place stay, everything unfinished is removed.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        source = stack.enter_context(open_checkpoint(checkpoint))
        model, files = plan_files(source, outputs, imatrix, name)
        note = template_note(source)
        check_space(files)
        writers = [GGUFWriter(file.path, file.metadata, file.infos) for file in files]
        for writer in writers:
            stack.callback(writer.discard)
            writer.open()
        write_tensors(source, model, files, writers, threads or os.cpu_count() or 1, progress)
        for writer in writers:
            writer.finish()
        hashes = [sha256(writer.partial) for writer in writers]
        seconds = time.monotonic() - started
        done = []
        for file, writer, digest in zip(files, writers, hashes, strict=True):
            checked = gate(writer.partial, checkpoint) if gate else None
            output = Output(file.level.name, file.path, file.nbytes, file.bits_per_weight, digest, checked)
            publishing(output, writer.partial)
            writer.publish()
            published(output)
            done.append(output)
    weights = sum(tensor.elements for tensor in model.tensors)
    left_out = tuple(tensor.name for tensor in model.left_out)
    return Report(checkpoint, model.architecture.name, weights, seconds, tuple(done), left_out, note)


def check_space(files: list[FilePlan]) -> None:
    """Refuse before any work when a disk has no room for the files that go there. Raises OutputError."""
    needed: dict[int, int] = {}
    for file in files:
        folder = file.path.parent
        if not folder.is_dir():
            raise OutputError(f"{folder} is not a folder", "make it first, or choose another place")
        if file.path.is_dir():
            raise OutputError(f"{file.path} is a folder", "give the name of a file")
        device = folder.stat().st_dev
        needed[device] = needed.get(device, 0) + file.nbytes
        free = shutil.disk_usage(folder).free
        if needed[device] > free:
            raise OutputError(
                f"{folder} has {free / 1e9:.1f} GB free, the result needs {needed[device] / 1e9:.1f} GB",
                "free some room or choose another place",
            )


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
