"""How fast llama.cpp's own kernels multiply on this machine, by type of weights: what ``edge plan`` reckons with.

No model is needed: matrices of made-up weights lie where llama.cpp would put a model's (repacked, where it repacks
them), and are multiplied by its own graph on its own threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from convert.errors import EdgeError
from edge.llama.library import ggml_function, load, repacks

CPU_DEVICE = 0  # ggml_backend_dev_type
SUCCESS = 0  # ggml_status
F32 = 0  # ggml_type
GRAPH_NODES = 1024
MOST_MATRICES = GRAPH_NODES - 1  # of a graph, whose inputs are one more


@dataclass(frozen=True)
class Shape:
    """A matrix of weights: ``columns`` go into a product, ``rows`` come out of it."""

    qtype: str
    columns: int
    rows: int

    @property
    def nbytes(self) -> int:
        block, nbytes = GGML_QUANT_SIZES[GGMLQuantizationType[self.qtype]]
        return self.rows * (self.columns // block) * nbytes


class _InitParams(ctypes.Structure):
    _fields_ = (("mem_size", ctypes.c_size_t), ("mem_buffer", ctypes.c_void_p), ("no_alloc", ctypes.c_bool))


class Kernels:
    """llama.cpp's CPU backend with ``threads`` threads. A context manager. Raises EdgeError, LibraryError.

    One thread at a time may use it, and no other may compute in the process meanwhile: OpenMP would let both wait.
    """

    def __init__(self, threads: int) -> None:
        c = load()
        pointer, size, number = ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int

        def base(name: str, result: Any, *arguments: Any) -> Any:
            return ggml_function("ggml-base", name, result, *arguments)

        self._init = base("ggml_init", pointer, _InitParams)
        self._free = base("ggml_free", None, pointer)
        self._matrix = base("ggml_new_tensor_2d", pointer, pointer, number, ctypes.c_int64, ctypes.c_int64)
        self._product = base("ggml_mul_mat", pointer, pointer, pointer, pointer)
        self._sum = base("ggml_add", pointer, pointer, pointer, pointer)
        self._graph = base("ggml_new_graph_custom", pointer, pointer, size, ctypes.c_bool)
        self._expand = base("ggml_build_forward_expand", None, pointer, pointer)
        self._allocate = base("ggml_backend_alloc_ctx_tensors_from_buft", pointer, pointer, pointer)
        self._release = base("ggml_backend_buffer_free", None, pointer)
        self._set = base("ggml_backend_tensor_set", None, pointer, pointer, size, size)
        self._supports = base("ggml_backend_dev_supports_op", ctypes.c_bool, pointer, pointer)
        self._compute = base("ggml_backend_graph_compute", number, pointer, pointer)
        self._backend_free = base("ggml_backend_free", None, pointer)
        self._quantize = base("ggml_quantize_chunk", size, number, pointer, pointer, *[ctypes.c_int64] * 3, pointer)
        self._needs_imatrix = base("ggml_quantize_requires_imatrix", ctypes.c_bool, number)
        self._room = base("ggml_tensor_overhead", size)() * (2 * GRAPH_NODES + 8)
        self._room += base("ggml_graph_overhead_custom", size, size, ctypes.c_bool)(GRAPH_NODES, False)

        self._device = ggml_function("ggml", "ggml_backend_dev_by_type", pointer, number)(CPU_DEVICE)
        if not self._device:
            raise EdgeError("llama.cpp has no CPU backend", "build it again with: make setup REBUILD=1")
        self._plain = base("ggml_backend_dev_buffer_type", pointer, pointer)(self._device)
        registry = base("ggml_backend_dev_backend_reg", pointer, pointer)(self._device)
        procedure = base("ggml_backend_reg_get_proc_address", pointer, pointer, ctypes.c_char_p)
        extra = procedure(registry, b"ggml_backend_dev_get_extra_bufts")
        self._extra = self._extra_buffers(extra) if repacks(c) else []
        self._backend = base("ggml_backend_dev_init", pointer, pointer, ctypes.c_char_p)(self._device, None)
        set_threads = ctypes.CFUNCTYPE(None, pointer, number)(procedure(registry, b"ggml_backend_set_n_threads"))
        set_threads(self._backend, threads)

    def _extra_buffers(self, address: int | None) -> list[int]:
        """Where llama.cpp puts repacked weights, the best place first."""
        if not address:
            return []
        found = ctypes.CFUNCTYPE(ctypes.POINTER(ctypes.c_void_p), ctypes.c_void_p)(address)(self._device)
        buffers: list[int] = []
        while found and (one := found[len(buffers)]):
            buffers.append(one)
        return buffers

    # --- what is measured

    @contextlib.contextmanager
    def products(self, shape: Shape, count: int, rows: int) -> Iterator[Callable[[], float]]:
        """``count`` matrices of ``shape``, each multiplied with ``rows`` rows of numbers in one graph; call what is
        given for the seconds of one such graph. Raises ValueError for more than MOST_MATRICES."""
        if not 0 < count <= MOST_MATRICES:
            raise ValueError(f"a graph has 1 to {MOST_MATRICES} products, got {count}")  # C would end the process
        with contextlib.ExitStack() as stack:
            x = self._tensors(stack, [(F32, shape.columns, rows)])
            self._place(stack, x, self._plain)
            weights, data = self._weights(stack, shape, count, x[1][0], rows)
            for tensor in weights:
                self._set(tensor, data.ctypes.data, 0, shape.nbytes)
            noise = np.random.default_rng(1).standard_normal(shape.columns * rows, np.float32)
            self._set(x[1][0], noise.ctypes.data, 0, noise.nbytes)
            yield self._runner(stack, lambda context: [self._product(context, one, x[1][0]) for one in weights])

    @contextlib.contextmanager
    def sums(self, columns: int, rows: int, count: int) -> Iterator[Callable[[], float]]:
        """``count`` additions of ``rows`` vectors of ``columns``, each to the sum before; call for the seconds of them
        all."""
        with contextlib.ExitStack() as stack:
            context, (x,) = self._tensors(stack, [(F32, columns, rows)])
            self._place(stack, (context, [x]), self._plain)
            zeros = np.zeros(columns * rows, np.float32)
            self._set(x, zeros.ctypes.data, 0, zeros.nbytes)

            def chain(context: int) -> list[int]:
                nodes = [x]
                for _ in range(count):
                    nodes.append(self._sum(context, nodes[-1], x))
                return nodes[1:]

            yield self._runner(stack, chain)

    def quantize(self, qtype: str, columns: int, rows: int) -> float:
        """Seconds to quantize ``rows`` of noise, on one thread."""
        noise = np.random.default_rng(0).standard_normal((rows, columns), np.float32)
        started = time.perf_counter()
        self._encode(qtype, noise)
        return time.perf_counter() - started

    # --- how

    def _tensors(self, stack: contextlib.ExitStack, kinds: list[tuple[int, int, int]]) -> tuple[int, list[int]]:
        context = self._context(stack)
        return context, [self._matrix(context, *kind) for kind in kinds]

    def _context(self, stack: contextlib.ExitStack) -> int:
        context = self._init(_InitParams(self._room, None, True))
        if not context:
            raise EdgeError("llama.cpp cannot make a graph", "close other programs: there is no memory left")
        stack.callback(self._free, context)
        return context

    def _place(self, stack: contextlib.ExitStack, tensors: tuple[int, list[int]], buffer_type: int) -> None:
        buffer = self._allocate(tensors[0], buffer_type)
        if not buffer:
            raise EdgeError("there is no memory to measure with", "close other programs")
        stack.callback(self._release, buffer)

    def _weights(
        self, stack: contextlib.ExitStack, shape: Shape, count: int, x: int, rows: int
    ) -> tuple[list[int], np.ndarray]:
        """The matrices, where llama.cpp would put such weights: in the first extra buffer that can multiply them."""
        qtype = int(GGMLQuantizationType[shape.qtype])
        for buffer_type in (*self._extra, self._plain):
            with contextlib.ExitStack() as trial:
                tensors = self._tensors(trial, [(qtype, shape.columns, shape.rows)] * count)
                self._place(trial, tensors, buffer_type)
                if buffer_type == self._plain or self._can_multiply(tensors[1][0], x):
                    stack.push(trial.pop_all())
                    return tensors[1], self._made_up(shape)
        raise AssertionError("the plain buffer takes everything")

    def _can_multiply(self, weights: int, x: int) -> bool:
        with contextlib.ExitStack() as stack:
            return self._supports(self._device, self._product(self._context(stack), weights, x))

    def _made_up(self, shape: Shape) -> np.ndarray:
        """The bytes of a matrix: a few rows of noise, quantized and repeated."""
        few = min(shape.rows, 8)
        noise = np.random.default_rng(0).standard_normal((few, shape.columns), np.float32)
        noise *= 1 / math.sqrt(shape.columns)
        return np.resize(self._encode(shape.qtype, noise), shape.nbytes)

    def _encode(self, qtype: str, values: np.ndarray) -> np.ndarray:
        """``values`` [rows, columns] as ``qtype``. Types of about two bits want to be told how much each column
        matters, and C would end the process: all the same."""
        number, (rows, columns) = int(GGMLQuantizationType[qtype]), values.shape
        raw = np.empty(Shape(qtype, columns, rows).nbytes, np.uint8)
        alike = np.ones(columns, np.float32) if self._needs_imatrix(number) else None
        weights = None if alike is None else alike.ctypes.data
        self._quantize(number, values.ctypes.data, raw.ctypes.data, 0, rows, columns, weights)
        return raw

    def _runner(self, stack: contextlib.ExitStack, build: Callable[[int], list[int]]) -> Callable[[], float]:
        context = self._context(stack)
        graph = self._graph(context, GRAPH_NODES, False)
        for node in build(context):
            self._expand(graph, node)
        self._place(stack, (context, []), self._plain)

        def run() -> float:
            started = time.perf_counter()
            status = self._compute(self._backend, graph)
            if status != SUCCESS:
                raise EdgeError(f"llama.cpp cannot compute a product ({status})", "close other programs")
            return time.perf_counter() - started

        return run

    def close(self) -> None:
        if self._backend:
            self._backend_free(self._backend)
        self._backend = None

    def __enter__(self) -> Kernels:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
