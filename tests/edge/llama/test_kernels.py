"""llama.cpp's kernels on made-up matrices: what is timed is the product itself, where weights really lie."""

from __future__ import annotations

import ctypes
import itertools
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from gguf.constants import GGMLQuantizationType
from gguf.quants import dequantize

from convert.errors import EdgeError
from convert.levels import LEVELS
from edge.llama.kernels import MOST_MATRICES, Kernels, Shape
from edge.llama.library import built_for, ggml_function, load, repacks

PAIRS = {"_init": "_free", "_allocate": "_release"}  # what takes memory, and what gives it back
# Types of other people's files. Not those for which llama.cpp makes tables for seconds: IQ2_XXS stands for them.
FOREIGN = {"IQ2_XXS", "IQ3_XXS", "IQ3_S", "TQ1_0", "TQ2_0", "MXFP4"}


@pytest.fixture
def kernels() -> Iterator[Kernels]:
    with Kernels(2) as kernels:
        yield kernels


class Memory:
    """Counts what ``kernels`` takes of llama.cpp's memory; ``fails``: which one, counted from 1, gets none."""

    def __init__(self, kernels: Kernels, monkeypatch: pytest.MonkeyPatch, fails: tuple[str, int] = ("", 0)) -> None:
        self.held: dict[str, list[int]] = {name: [] for name in PAIRS}
        self.taken = dict.fromkeys(PAIRS, 0)
        self.places: list[int] = []
        self.fails = fails
        for take, give in PAIRS.items():
            self.watch(kernels, monkeypatch, take, give)

    def watch(self, kernels: Kernels, monkeypatch: pytest.MonkeyPatch, take: str, give: str) -> None:
        taking, giving = getattr(kernels, take), getattr(kernels, give)

        def taken(*arguments: Any) -> int | None:
            self.taken[take] += 1
            if (take, self.taken[take]) == self.fails:
                return None
            pointer = taking(*arguments)
            self.held[take].append(pointer)
            if take == "_allocate":
                self.places.append(arguments[1])
            return pointer

        def given(pointer: int) -> None:
            self.held[take].remove(pointer)
            giving(pointer)

        monkeypatch.setattr(kernels, take, taken)
        monkeypatch.setattr(kernels, give, given)

    @property
    def is_free(self) -> bool:
        return not any(self.held.values())


def recorded(kernels: Kernels, monkeypatch: pytest.MonkeyPatch, name: str) -> list[tuple[tuple[int, ...], int]]:
    """The calls of a function that makes nodes: arguments, and the node."""
    calls: list[tuple[tuple[int, ...], int]] = []
    make = getattr(kernels, name)

    def call(*arguments: int) -> int:
        calls.append((arguments, make(*arguments)))
        return calls[-1][1]

    monkeypatch.setattr(kernels, name, call)
    return calls


def read_back(tensor: int, *dims: int) -> np.ndarray:
    """Float32 values that a graph left in ``tensor``."""
    size = ctypes.c_size_t
    get = ggml_function("ggml-base", "ggml_backend_tensor_get", None, ctypes.c_void_p, ctypes.c_void_p, size, size)
    values = np.full(dims, np.nan, np.float32)
    get(tensor, values.ctypes.data, 0, values.nbytes)
    return values


# --- the sizes of matrices


@pytest.mark.parametrize(
    ("shape", "nbytes"),
    [
        (Shape("F32", 100, 3), 1200),
        (Shape("F16", 128, 4096), 1 << 20),
        (Shape("Q4_0", 4096, 10), 10 * 128 * 18),
        (Shape("Q8_0", 896, 7), 7 * 28 * 34),
        (Shape("Q6_K", 3584, 2), 2 * 14 * 210),
    ],
)
def test_bytes(shape: Shape, nbytes: int) -> None:
    assert shape.nbytes == nbytes


# --- what is computed


@pytest.mark.parametrize("rows", [1, 3, 16])
@pytest.mark.parametrize("plain", [False, True], ids=["where llama.cpp puts it", "plain"])
@pytest.mark.parametrize("qtype", ["F32", "F16", "Q8_0", "Q4_0", "Q6_K", "Q4_K"])
def test_each_matrix_is_multiplied_with_all_rows(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch, qtype: str, plain: bool, rows: int
) -> None:
    """As numpy multiplies what the bytes stand for; kernels round the rows to 8 bits first."""
    if plain:
        monkeypatch.setattr(kernels, "_extra", [])
    shape, count = Shape(qtype, 512, 24), 3
    nodes = recorded(kernels, monkeypatch, "_product")
    with kernels.products(shape, count, rows) as run:
        assert 0 < run() < math.inf
        tensors = [node for _, node in nodes[-count:]]
        x = read_back(nodes[-1][0][2], rows, 512)
        found = [read_back(tensor, rows, 24) for tensor in tensors]
    weights = dequantize(kernels._made_up(shape).reshape(24, -1), GGMLQuantizationType[qtype]).reshape(24, 512)
    expected = x @ weights.T
    assert np.abs(x).max() > 1 and np.abs(expected).max() > 1, "neither is nothing"
    assert len(set(tensors)) == count
    for product in found:
        error = np.abs(product - expected).max()
        assert error < (1e-4 if qtype == "F32" else 0.05), error


def test_made_up_weights_differ_by_row_and_repeat() -> None:
    with Kernels(1) as kernels:
        raw = kernels._made_up(Shape("F32", 32, 20)).view(np.float32).reshape(20, 32)
    assert len(np.unique(raw[:8], axis=0)) == 8
    assert np.array_equal(raw[8:16], raw[:8]) and np.array_equal(raw[16:], raw[:4])


def test_sums_are_a_chain(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    """x + x, and each of the following adds x once more."""
    nodes = recorded(kernels, monkeypatch, "_sum")
    with kernels.sums(64, 3, 5) as run:
        x, last = nodes[0][0][1], nodes[-1][1]
        ones = np.ones((3, 64), np.float32)
        kernels._set(x, ones.ctypes.data, 0, ones.nbytes)
        assert 0 < run() < math.inf
        assert np.array_equal(read_back(last, 3, 64), 6 * ones)
    assert len(nodes) == 5


def test_a_graph_may_run_again(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = recorded(kernels, monkeypatch, "_product")
    with kernels.products(Shape("Q4_0", 64, 8), 1, 2) as run:
        results = [(run(), read_back(nodes[-1][1], 2, 8)) for _ in range(3)]
    assert all(np.array_equal(result, results[0][1]) for _, result in results)


# --- where weights lie


@pytest.mark.skipif("AVX2" not in (built_for() or ()) or not repacks(load()), reason="nothing is repacked here")
@pytest.mark.parametrize(("shape", "repacked"), [(Shape("Q4_0", 64, 8), True), (Shape("Q4_0", 64, 9), False)])
def test_weights_are_repacked_as_llama_cpp_repacks_them(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch, shape: Shape, repacked: bool
) -> None:
    """Kernels that take eight rows at once are much quicker; a ninth row fits none of them."""
    memory = Memory(kernels, monkeypatch)
    with kernels.products(shape, 2, 1):
        x, *trials, products = memory.places
        assert x == products == kernels._plain
        assert (trials[-1] in kernels._extra) == repacked
        assert len(memory.held["_allocate"]) == 3, "a place that was tried in vain is free again"


def test_without_repacking_weights_lie_plainly(monkeypatch: pytest.MonkeyPatch) -> None:
    """As ``Model`` loads them then."""
    monkeypatch.setattr("edge.llama.kernels.repacks", lambda c: False)
    with Kernels(1) as kernels:
        memory = Memory(kernels, monkeypatch)
        with kernels.products(Shape("Q4_0", 64, 8), 1, 1) as run:
            assert run() > 0
        assert set(memory.places) == {kernels._plain}


# --- memory


def test_everything_is_free_again(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(kernels, monkeypatch)
    with kernels.products(Shape("Q6_K", 256, 8), 2, 4):
        assert not memory.is_free
    with kernels.sums(64, 1, 3):
        assert not memory.is_free
    with pytest.raises(ZeroDivisionError), kernels.products(Shape("F16", 64, 8), 1, 1):
        raise ZeroDivisionError
    assert memory.is_free and min(memory.taken.values()) >= 6


@pytest.mark.parametrize("measure", ["products", "sums"])
@pytest.mark.parametrize(
    ("take", "says"), [("_init", "llama.cpp cannot make a graph"), ("_allocate", "there is no memory to measure with")]
)
def test_without_memory_all_of_it_is_given_back(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch, measure: str, take: str, says: str
) -> None:
    """Whichever allocation fails."""
    failures = number = 0
    for number in itertools.count(1):
        with monkeypatch.context() as patch:
            memory = Memory(kernels, patch, (take, number))
            work = kernels.products(Shape("Q4_0", 64, 9), 2, 1) if measure == "products" else kernels.sums(64, 1, 2)
            try:
                with work:
                    pass
            except EdgeError as error:
                assert str(error).startswith(f"{says}; close other programs")
                failures += 1
            assert memory.is_free
            if memory.taken[take] < number:
                break
    assert failures == number - 1 >= 2


def test_a_graph_that_cannot_be_computed(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(kernels, monkeypatch)
    monkeypatch.setattr(kernels, "_compute", lambda *_: -2)
    with (
        pytest.raises(EdgeError, match=r"llama.cpp cannot compute a product \(-2\)"),
        kernels.products(Shape("F32", 32, 8), 1, 1) as run,
    ):
        run()
    assert memory.is_free


def test_a_library_without_a_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def without(library: str, name: str, result: Any, *arguments: Any) -> Any:
        return (lambda *_: None) if library == "ggml" else ggml_function(library, name, result, *arguments)

    monkeypatch.setattr("edge.llama.kernels.ggml_function", without)
    with pytest.raises(EdgeError, match=r"has no CPU backend; build it again"):
        Kernels(1)


def test_closing_twice_is_harmless() -> None:
    with Kernels(1) as kernels:
        kernels.close()
    kernels.close()


# --- every type, every number


@pytest.mark.parametrize("qtype", sorted({level.qtype.name for level in LEVELS.values()} | FOREIGN))
def test_every_type_that_a_file_may_have(kernels: Kernels, qtype: str) -> None:
    """IQ2_XXS wanted an imatrix: llama.cpp ended the process over a plan for such a file."""
    with kernels.products(Shape(qtype, 256, 8), 2, 1) as run:
        assert 0 < run() < math.inf
    assert 0 < kernels.quantize(qtype, 256, 2) < math.inf


def test_as_many_matrices_as_a_graph_has(kernels: Kernels) -> None:
    """One more ended the process: a model with many small experts would have had it."""
    with kernels.products(Shape("Q8_0", 32, 1), MOST_MATRICES, 1) as run:
        assert run() > 0
    for count in (0, -1, MOST_MATRICES + 1):
        with pytest.raises(ValueError, match="products"), kernels.products(Shape("Q8_0", 32, 1), count, 1):
            pass
