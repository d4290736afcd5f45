"""What llama.cpp's kernels reach on this machine for the matrices of one model, measured in a few seconds.

Each type of weights is tried with the matrix that most of its bytes are in; other matrices of the type are taken to be
as quick. ``edge.plan.predict`` makes tokens/s of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from edge.llama.kernels import MOST_MATRICES, Kernels, Shape

ENOUGH = 128 << 20  # bytes of weights that are read in turn: more than the caches of almost any CPU hold; all, if fewer
CHUNK = 128  # rows of a prompt
MOST_WEIGHTS = 4 << 20  # of a matrix that is multiplied with a chunk: some hundredths of a second
MOST_COLUMNS = 1 << 17  # no real model has as many; a lock may say anything
QUANTIZED_WEIGHTS = 1 << 18
SMALL_OPS, WIDE_OPS, FEW_PRODUCTS = 256, 16, 256
MOMENT = 0.04  # seconds that each measurement lasts at least, so that what else the machine does counts as it will then
LEAST_RUNS = 3


@dataclass(frozen=True)
class Rates:
    """By type of weights: ``read`` bytes/s while one row is multiplied, ``multiply`` operations/s for a chunk of a
    prompt, ``quantize`` weights/s on one thread. ``small_op`` and ``small_product``: seconds of an addition and of a
    product that have almost nothing to do; ``value``: seconds that an addition takes for each number of a chunk.
    """

    threads: int
    threads_batch: int
    read: Mapping[str, float]
    multiply: Mapping[str, float]
    quantize: Mapping[str, float]
    small_op: float
    small_product: float
    value: float


def measure_rates(
    matrices: Iterable[tuple[Shape, int]],
    threads: int,
    threads_batch: int,
    on_progress: Callable[[int, int], None] = lambda done, of: None,
) -> Rates:
    """``matrices``: each shape, and how many of it a model has. About a tenth of a second for each type of weights.

    Raises EdgeError.
    """
    by_type = representatives(matrices)
    read, multiply, quantize = {}, {}, {}
    small_product = 0.0
    with Kernels(threads) as one_row, Kernels(threads_batch) as chunk:
        for done, (qtype, (shape, held)) in enumerate(by_type.items()):
            on_progress(done, len(by_type))
            if not small_product:
                with one_row.products(part(shape, 1), FEW_PRODUCTS, 1) as run:
                    small_product = typical(run) / FEW_PRODUCTS
            some = part(shape, ENOUGH * shape.rows // shape.nbytes)
            copies = min(MOST_MATRICES, -(-min(ENOUGH, held) // shape.nbytes))
            with one_row.products(some, copies, 1) as run:
                each = typical(run) / copies
            read[qtype] = some.nbytes / max(each - small_product, each / 2)
            few = part(shape, MOST_WEIGHTS // shape.columns)
            with chunk.products(few, 1, CHUNK) as run:
                multiply[qtype] = 2 * few.columns * few.rows * CHUNK / typical(run)
            rows = max(1, QUANTIZED_WEIGHTS // few.columns)
            quantize[qtype] = rows * few.columns / one_row.quantize(qtype, few.columns, rows)
        width = min(MOST_COLUMNS, max((shape.columns for shape, _ in by_type.values()), default=256))
        with one_row.sums(width, 1, SMALL_OPS) as run:
            small_op = typical(run) / SMALL_OPS
        with chunk.sums(width, CHUNK, WIDE_OPS) as run:
            value = typical(run) / (WIDE_OPS * width * CHUNK)
    return Rates(threads, threads_batch, read, multiply, quantize, small_op, small_product, value)


def typical(run: Callable[[], float]) -> float:
    """The mean of ``run`` over a moment, without the first: it warms up."""
    run()
    seconds = [run() for _ in range(LEAST_RUNS)]
    while sum(seconds) < MOMENT:
        seconds.append(run())
    return sum(seconds) / len(seconds)


def part(shape: Shape, rows: int) -> Shape:
    """As much of a matrix as tells how quick all of it is: at most so many rows, in eights, as kernels take them. An
    output matrix may be larger than the memory that is free."""
    return Shape(shape.qtype, min(shape.columns, MOST_COLUMNS), max(8, min(shape.rows, rows) // 8 * 8))


def representatives(matrices: Iterable[tuple[Shape, int]]) -> dict[str, tuple[Shape, int]]:
    """Of each type the shape that most bytes are in, and the bytes that all of its shapes have together."""
    held: Counter[Shape] = Counter()
    for shape, count in matrices:
        held[shape] = max(held[shape], shape.nbytes * count)  # levels have the same matrices
    found: dict[str, tuple[Shape, int]] = {}
    for shape, nbytes in held.most_common():
        first, others = found.get(shape.qtype, (shape, 0))
        found[shape.qtype] = (first, others + nbytes)
    return found
