"""Rates of this machine: positive and finite; and which matrices are tried for them, on kernels that only count."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.llama.kernels import MOST_MATRICES, Shape
from edge.plan import probe
from edge.plan.make import matrices
from edge.plan.probe import (
    CHUNK,
    ENOUGH,
    FEW_PRODUCTS,
    LEAST_RUNS,
    MOMENT,
    MOST_COLUMNS,
    MOST_WEIGHTS,
    QUANTIZED_WEIGHTS,
    SMALL_OPS,
    WIDE_OPS,
    Rates,
    measure_rates,
    part,
    representatives,
    typical,
)
from edge.shapes import level_tensors
from tests.edge.plan.sample import KINDS, locked_shape

ATTENTION, DOWN, OUTPUT = Shape("Q4_K", 3584, 3584), Shape("Q4_K", 18944, 3584), Shape("Q6_K", 3584, 152064)


# --- on this machine


def test_rates_are_positive_and_finite() -> None:
    asked: list[tuple[int, int]] = []
    shapes = [(Shape("Q4_0", 256, 64), 4), (Shape("Q6_K", 256, 128), 1), (Shape("F16", 128, 64), 2)]
    found = measure_rates(shapes, 1, 2, lambda done, of: asked.append((done, of)))
    assert (found.threads, found.threads_batch) == (1, 2)
    for table in (found.read, found.multiply, found.quantize):
        assert table.keys() == {"Q4_0", "Q6_K", "F16"}
        assert all(0 < rate < math.inf for rate in table.values())
    assert 0 < found.value < math.inf and 0 < found.small_op < math.inf
    assert asked == [(0, 3), (1, 3), (2, 3)]


def test_a_model_without_matrices_has_rates_all_the_same() -> None:
    found = measure_rates([], 1, 1)
    assert found.read == found.multiply == found.quantize == {} and found.small_op > 0


# --- which matrices


class Counting:
    """Kernels that take a second for everything, and remember what they were asked for."""

    def __init__(self, asked: list[tuple[Any, ...]], threads: int) -> None:
        self.asked, self.threads = asked, threads

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *_: object) -> None: ...

    @contextlib.contextmanager
    def products(self, shape: Shape, count: int, rows: int) -> Iterator[Callable[[], float]]:
        self.asked.append(("products", self.threads, shape, count, rows))
        yield lambda: 1.0

    @contextlib.contextmanager
    def sums(self, columns: int, rows: int, count: int) -> Iterator[Callable[[], float]]:
        self.asked.append(("sums", self.threads, columns, rows, count))
        yield lambda: 1.0

    def quantize(self, qtype: str, columns: int, rows: int) -> float:
        self.asked.append(("quantize", 1, qtype, columns, rows))
        return 1.0


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    asked: list[tuple[Any, ...]] = []
    monkeypatch.setattr(probe, "Kernels", lambda threads: Counting(asked, threads))
    return asked


def test_what_is_measured_and_what_becomes_of_it(asked: list[tuple[Any, ...]]) -> None:
    found = measure_rates([(ATTENTION, 100), (DOWN, 28)], 3, 5)
    rows = MOST_WEIGHTS // 18944 // 8 * 8
    copies = -(-ENOUGH // DOWN.nbytes)
    encoded = QUANTIZED_WEIGHTS // 18944
    assert asked == [
        ("products", 3, Shape("Q4_K", 18944, 8), FEW_PRODUCTS, 1),
        ("products", 3, DOWN, copies, 1),
        ("products", 5, Shape("Q4_K", 18944, rows), 1, CHUNK),
        ("quantize", 1, "Q4_K", 18944, encoded),
        ("sums", 3, 18944, 1, SMALL_OPS),
        ("sums", 5, 18944, CHUNK, WIDE_OPS),
    ]
    assert found == Rates(
        threads=3,
        threads_batch=5,
        read={"Q4_K": DOWN.nbytes / (1 / copies - 1 / FEW_PRODUCTS)},
        multiply={"Q4_K": 2 * 18944 * rows * CHUNK},
        quantize={"Q4_K": encoded * 18944},
        small_op=1 / SMALL_OPS,
        small_product=1 / FEW_PRODUCTS,
        value=1 / (WIDE_OPS * 18944 * CHUNK),
    )


def test_a_small_model_is_read_as_often_as_it_has_matrices(asked: list[tuple[Any, ...]]) -> None:
    """More would not lie in the caches where they will lie."""
    measure_rates([(Shape("F32", 64, 64), 10)], 1, 1)
    assert asked[1] == ("products", 1, Shape("F32", 64, 64), 10, 1)


def test_a_part_of_an_output_matrix_is_enough(asked: list[tuple[Any, ...]]) -> None:
    """All of Qwen2.5-7B's was made up, twice: a plan took 0.9 GB, on machines that do not have it."""
    found = measure_rates([(OUTPUT, 1)], 1, 1)
    _, _, shape, copies, _ = asked[1]
    assert OUTPUT.nbytes > 2 * ENOUGH and 0.99 * ENOUGH < shape.nbytes <= ENOUGH
    assert (copies, shape.columns, shape.rows % 8) == (1, 3584, 0)
    assert found.read == {"Q6_K": shape.nbytes / (1 - 1 / FEW_PRODUCTS)}


def test_a_graph_has_no_more_matrices_than_it_can(asked: list[tuple[Any, ...]]) -> None:
    """48 layers of 128 experts of 32 x 64: more products than a graph holds, which ended the process."""
    small = Shape("F32", 64, 32)
    measure_rates([(small, 48 * 128)], 1, 1)
    assert asked[1] == ("products", 1, small, MOST_MATRICES, 1)


def test_a_lock_may_say_anything(asked: list[tuple[Any, ...]]) -> None:
    """What it says of sizes is a number, and no more is known of it."""
    huge = Shape("Q4_K", 1 << 40, 1 << 40)
    measure_rates([(huge, 1)], 1, 1)
    sizes = [one[2].nbytes * one[3] for one in asked if one[0] == "products"]
    assert max(sizes) <= 2 * ENOUGH
    assert {one[2] for one in asked if one[0] == "sums"} == {MOST_COLUMNS}


@pytest.mark.parametrize("name", KINDS)
def test_no_model_takes_much_memory(name: str, asked: list[tuple[Any, ...]]) -> None:
    """Each type of its levels is tried with at most twice as much as is enough."""
    shape = locked_shape(name)
    files = [level_tensors(shape, level) for level in ("F16", "Q8_0", "Q4_K_M", "Q2_K")]
    found = measure_rates(matrices(files, shape), 1, 1)
    assert {"F16", "Q8_0", "Q4_K", "Q6_K"} <= found.read.keys()
    for kind, _, shape_of, count, rows in asked:
        if kind == "products":
            assert count * shape_of.nbytes <= 2 * ENOUGH and 1 <= count <= MOST_MATRICES
            assert rows == 1 or shape_of.columns * shape_of.rows <= MOST_WEIGHTS


# --- parts of it


def test_a_type_is_represented_by_the_shape_that_most_bytes_are_in() -> None:
    found = representatives([(ATTENTION, 56), (DOWN, 28), (OUTPUT, 1), (ATTENTION, 28)])
    attention, down = 56 * ATTENTION.nbytes, 28 * DOWN.nbytes
    assert found == {"Q4_K": (DOWN, attention + down), "Q6_K": (OUTPUT, OUTPUT.nbytes)}
    assert representatives([]) == {}


@settings(deadline=None)
@given(st.sampled_from(["F32", "Q4_0", "Q6_K"]), st.integers(1, 100), st.integers(1, 10**6), st.integers(0, 10**6))
def test_a_part_is_no_larger_than_asked_for(qtype: str, blocks: int, rows: int, most: int) -> None:
    """But for eight rows, of which a kernel takes all or none."""
    whole = Shape(qtype, 256 * blocks, rows)
    found = part(whole, most)
    assert (found.qtype, found.columns) == (qtype, whole.columns)
    assert found.rows % 8 == 0 and 8 <= found.rows <= max(8, min(rows, most))
    assert found.rows > min(rows, most) - 8


def test_the_first_run_warms_up_and_the_others_last_a_moment() -> None:
    def runs(seconds: float) -> tuple[float, int]:
        times = iter([1000.0, *[seconds] * 1000])
        return typical(lambda: next(times)), 1000 - sum(1 for _ in times)

    mean, count = runs(1.0)
    assert (mean, count) == (1.0, LEAST_RUNS)
    mean, count = runs(MOMENT / 10)
    assert mean == pytest.approx(MOMENT / 10) and count in (10, 11), "sums of floats"


def test_a_slow_run_counts_as_what_it_took() -> None:
    """Whoever disturbs a measurement will disturb a model, too."""
    times = iter([1000.0, 0.1, 0.1, 0.4])
    assert typical(lambda: next(times)) == pytest.approx(0.2)
