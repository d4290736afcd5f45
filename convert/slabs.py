"""Weights on their way: slabs of rows are read once, changed, encoded for every output file, and written.

Memory is bounded by the slabs, two per thread, and does not grow with the model: weights are read, never mapped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convert.architecture import ModelPlan, TensorPlan
from convert.checkpoint import Checkpoint, StoredTensor
from convert.errors import CheckpointError
from convert.file_plan import FilePlan
from convert.ggml import SOURCE_TYPE, QType, quantize_rows, row_size, to_float32
from convert.writer import GGUFWriter

SLAB_ELEMENTS = 1 << 19  # weights per slab: 2 MB as float32, within a core's cache

Progress = Callable[[int, int], None]  # weights done, weights in all


@dataclass(frozen=True)
class Slab:
    """Some whole rows of one span, and the row of the output where they begin."""

    tensor: TensorPlan
    source: StoredTensor
    first_row: int
    rows: int
    out_row: int


@dataclass(frozen=True)
class Target:
    """Where a tensor goes: a file, its type there, and the importance of its columns [experts, row], if measured."""

    writer: GGUFWriter
    qtype: QType
    imatrix: NDArray[np.float32] | None


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
    targets: dict[str, list[Target]] = {}
    for file, writer in zip(files, writers, strict=True):
        for info in file.infos:
            weights = None
            if file.imatrix and info.qtype != QType.F32:
                weights = file.imatrix.weights_for(info.name, info.shape)
            targets.setdefault(info.name, []).append(Target(writer, info.qtype, weights))
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


def write_slab(source: Checkpoint, slab: Slab, targets: list[Target], buffers: Buffers) -> None:
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
    for target in targets:
        size = row_size(target.qtype, wide.shape[1])
        if as_stored and target.qtype == SOURCE_TYPE[stored.dtype]:
            out = raw
        elif target.qtype == QType.F32:
            out = wide.reshape(-1).view(np.uint8)
        else:
            out = buffers.out(len(wide) * size)
            weights = None if target.imatrix is None else target.imatrix[slab.out_row // tensor.shape[-2]]
            quantize_rows(wide, target.qtype, out, weights)
        target.writer.write(tensor.name, slab.out_row * size, out.data)
