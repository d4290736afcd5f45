"""checkpoint -> GGUF files: plan, then slabs of rows read once and written at every level, then gate, then name.

Memory is bounded by the slabs, two per thread, and does not grow with the model: weights are read, never mapped.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from convert.architecture import ModelPlan, TensorPlan, plan
from convert.architectures import REGISTRY
from convert.checkpoint import Checkpoint, StoredTensor, open_checkpoint
from convert.errors import CheckpointError, OutputError
from convert.ggml import SOURCE_TYPE, QType, quantize_rows, row_size, to_float32
from convert.levels import Level, file_order, parse_level, tensor_types
from convert.metadata import KV, sampling_metadata
from convert.tokenizer import tokenizer_metadata
from convert.writer import GGUFWriter, TensorInfo, layout

SLAB_ELEMENTS = 1 << 19  # weights per slab: 2 MB as float32, within a core's cache
QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION

Progress = Callable[[int, int], None]  # weights done, weights in all
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
    """What a conversion did; ``seconds`` without the gate."""

    checkpoint: Path
    architecture: str
    weights: int
    seconds: float
    outputs: tuple[Output, ...]


@dataclass(frozen=True)
class FilePlan:
    """One output file before a byte of it is written."""

    level: Level
    path: Path
    metadata: tuple[KV, ...]
    infos: tuple[TensorInfo, ...]

    @cached_property
    def nbytes(self) -> int:
        return GGUFWriter(self.path, self.metadata, self.infos).size

    @property
    def bits_per_weight(self) -> float:
        weights = sum(int(np.prod(info.shape)) for info in self.infos)
        return 8 * sum(info.nbytes for info in self.infos) / weights


def plan_files(checkpoint: Checkpoint, outputs: Mapping[str, Path]) -> tuple[ModelPlan, list[FilePlan]]:
    """Decide everything about the files: tensors, types, metadata. Reads no weights."""
    model = plan(checkpoint, REGISTRY)
    name = KV("general.name", "str", checkpoint.folder.resolve().name)
    first = [
        KV("general.architecture", "str", model.architecture.name),
        KV("general.type", "str", "model"),
        *sampling_metadata(checkpoint.json("generation_config.json")),
        name,
        *model.metadata,
    ]
    tokenizer = tokenizer_metadata(checkpoint, model.hparams["vocab_size"], model.architecture.special_tokens)
    files = []
    for level_name, path in outputs.items():
        level = parse_level(level_name)
        types = tensor_types(level, model.tensors, model.facts)
        shapes = {tensor.name: tensor.shape for tensor in model.tensors}
        infos = layout((tensor, written(shapes[tensor], level), types[tensor]) for tensor in file_order(level, shapes))
        ftype = KV("general.file_type", "u32", int(level.ftype))
        version = KV("general.quantization_version", "u32", QUANTIZATION_VERSION)
        family = model.family_metadata
        if level.is_float:  # the converter's order
            metadata = [*first, ftype, *family, version, *tokenizer]
        else:  # the quantizer moves these two to the end
            metadata = [*first, *family, *tokenizer, version, ftype]
        files.append(FilePlan(level, path, tuple(metadata), tuple(infos)))
    return model, files


def written(shape: tuple[int, ...], level: Level) -> tuple[int, ...]:
    """The shape as the file has it: the quantizer leaves out leading dimensions of one."""
    while shape[0] == 1 and len(shape) > 1 and not level.is_float:
        shape = shape[1:]
    return shape


def convert(
    checkpoint: Path,
    outputs: Mapping[str, Path],
    *,
    threads: int | None = None,
    gate: Gate | None = None,
    progress: Progress | None = None,
    published: Callable[[Output], None] = lambda output: None,
) -> Report:
    """Convert the checkpoint folder to every level in ``outputs`` (level name -> GGUF path), reading it once.

    A file gets its name only when it is complete, on disk and passed by ``gate``; then ``published`` is called.
    Raises EdgeError; files that were already in place stay, everything unfinished is removed.
    """
    started = time.monotonic()
    with ExitStack() as stack:
        source = stack.enter_context(open_checkpoint(checkpoint))
        model, files = plan_files(source, outputs)
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
            writer.publish()
            done.append(Output(file.level.name, file.path, file.nbytes, file.bits_per_weight, digest, checked))
            published(done[-1])
    weights = sum(tensor.elements for tensor in model.tensors)
    return Report(checkpoint, model.architecture.name, weights, seconds, tuple(done))


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


@dataclass(frozen=True)
class Slab:
    """Some whole rows of one span, and the row of the output where they begin."""

    tensor: TensorPlan
    source: StoredTensor
    first_row: int
    rows: int
    out_row: int


def slabs(tensors: tuple[TensorPlan, ...]) -> Iterator[Slab]:
    """Slabs of all tensors. None crosses the border of an expert; a span to be transposed is one slab."""
    for tensor in tensors:
        expert = tensor.shape[-2] if len(tensor.shape) == 3 else tensor.rows
        out_row = 0
        for span in tensor.spans:
            if tensor.transposed:
                yield Slab(tensor, span.source, span.first, span.rows, out_row)
                out_row += span.source.row_elements
                continue
            step = max(1, SLAB_ELEMENTS // span.source.row_elements)
            row, end = span.first, span.first + span.rows
            while row < end:
                rows = min(step, end - row, expert - out_row % expert)
                yield Slab(tensor, span.source, row, rows, out_row)
                row, out_row = row + rows, out_row + rows


def write_tensors(
    source: Checkpoint,
    model: ModelPlan,
    files: list[FilePlan],
    writers: list[GGUFWriter],
    threads: int,
    progress: Progress | None,
) -> None:
    """Send every slab through ``threads`` workers. The first failure stops them all and is raised."""
    targets: dict[str, list[tuple[GGUFWriter, QType]]] = {}
    for file, writer in zip(files, writers, strict=True):
        for info in file.infos:
            targets.setdefault(info.name, []).append((writer, info.qtype))
    total = sum(tensor.elements for tensor in model.tensors)
    queue, lock, stop = slabs(model.tensors), threading.Lock(), threading.Event()
    done = 0

    def work() -> None:
        nonlocal done
        buffers = Buffers()
        while not stop.is_set():
            with lock:
                slab = next(queue, None)
            if slab is None:
                return
            write_slab(source, slab, targets[slab.tensor.name], buffers)
            with lock:
                done += slab.rows * slab.source.row_elements
                if progress:
                    progress(done, total)

    with ThreadPoolExecutor(threads) as pool:
        try:
            workers = [pool.submit(work) for _ in range(threads)]
            for worker in wait(workers, return_when=FIRST_EXCEPTION).done:
                worker.result()
        finally:
            stop.set()


class Buffers:
    """A worker's scratch memory, grown to the largest slab it has met."""

    def __init__(self) -> None:
        self._raw = np.empty(0, np.uint8)
        self._wide = np.empty(0, np.float32)
        self._out = np.empty(0, np.uint8)

    def raw(self, nbytes: int) -> NDArray[np.uint8]:
        if self._raw.size < nbytes:
            self._raw = np.empty(nbytes, np.uint8)
        return self._raw[:nbytes]

    def wide(self, elements: int) -> NDArray[np.float32]:
        if self._wide.size < elements:
            self._wide = np.empty(elements, np.float32)
        return self._wide[:elements]

    def out(self, nbytes: int) -> NDArray[np.uint8]:
        if self._out.size < nbytes:
            self._out = np.empty(nbytes, np.uint8)
        return self._out[:nbytes]


def write_slab(source: Checkpoint, slab: Slab, targets: list[tuple[GGUFWriter, QType]], buffers: Buffers) -> None:
    """Read the slab once, change it as its plan says, encode it as each target wants it, and write it to its place."""
    stored, tensor = slab.source, slab.tensor
    raw = buffers.raw(slab.rows * stored.row_bytes)
    source.read_into(stored, slab.first_row * stored.row_bytes, raw.data)
    flat = buffers.wide(slab.rows * stored.row_elements)
    to_float32(raw, stored.dtype, flat)
    with np.errstate(over="ignore"):
        suspect = not np.isfinite(flat.sum())  # quick, and right but for sums that overflow
    if suspect and not np.isfinite(flat).all():
        raise CheckpointError(f"tensor {stored.name} holds NaN or infinity", "the checkpoint is damaged")
    wide = flat.reshape(slab.rows, stored.row_elements)
    if tensor.change:
        wide = tensor.change(wide)
    if tensor.transposed:
        wide = wide.T
    wide = np.ascontiguousarray(wide)
    as_stored = not tensor.change and not tensor.transposed
    for writer, qtype in targets:
        size = row_size(qtype, wide.shape[1])
        if as_stored and qtype == SOURCE_TYPE[stored.dtype]:
            out = raw
        elif qtype == QType.F32:
            out = wide.reshape(-1).view(np.uint8)
        else:
            out = buffers.out(len(wide) * size)
            quantize_rows(wide, qtype, out)
        writer.write(tensor.name, slab.out_row * size, out.data)
