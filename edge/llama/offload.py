"""How many layers of a model fit into the free memory of the GPUs.

llama.cpp's own tools compute the same (``common_fit_params``), but the library does not export it.
"""

from __future__ import annotations

import ctypes
import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convert import gguf_file
from convert.gguf_file import GgufFile
from edge import cost, machine
from edge.cost import kv_bytes_per_token
from edge.gguf_sane import check_sane
from edge.llama.context import CELL_BLOCK
from edge.llama.library import ggml_function, load
from edge.shapes import from_gguf, largest

MARGIN = 1 << 30
"""Bytes left free on each GPU, as llama.cpp's tools do: its kernels, the desktop and what the estimate misses. A share
of the GPU's memory would be too little on a small one and is wasted on a large one."""


GPU, INTEGRATED_GPU = 1, 2  # ggml_backend_dev_type


def layers_that_fit(
    free: Sequence[int],
    layer_bytes: Sequence[int],
    output_bytes: int,
    kv_bytes_per_layer: int,
    compute_bytes: int,
    margin: int = MARGIN,
    split: Sequence[float] | None = None,
) -> int:
    """The largest ``n_gpu_layers`` with which no GPU is overfull; the output counts as a layer, the last.

    All in bytes: ``free`` on each GPU, ``layer_bytes`` of weights in each layer; ``compute_bytes`` are taken on each
    GPU that has a layer. ``split``: the share of layers of each GPU; by default the room for them there, where
    llama.cpp goes by what is free and overfills a small GPU beside a large one. 0 for a split that makes no sense,
    which ``Model`` refuses.
    """
    sizes = [*(size + kv_bytes_per_layer for size in layer_bytes), output_bytes]
    room = [one - margin - compute_bytes for one in free]
    shares = list(split or ())[: len(free)]
    shares = [*shares, *[0] * (len(free) - len(shares))] if any(shares) else [max(0, one) for one in room]
    if not any(shares) or not all(0 <= share < math.inf for share in shares):
        return 0
    for n in range(len(sizes), 0, -1):
        used = Counter[int]()
        for gpu, size in zip(placement(n, shares), sizes[-n:], strict=True):
            used[gpu] += size
        if all(size <= room[gpu] for gpu, size in used.items()):
            return n
    return 0


def placement(n: int, shares: Sequence[float]) -> list[int]:
    """On which GPU llama.cpp puts each of the last ``n`` layers: in order, their count by the GPUs' shares.

    In its 32-bit numbers: where a layer is on the line between two GPUs, others would put it on the wrong side.
    """
    ends = np.cumsum(shares, dtype=np.float32)
    layers = np.arange(n, dtype=np.float32) / np.float32(n)
    return np.searchsorted(ends / ends[-1], layers, side="right").tolist()


def auto_offload(
    path: Path,
    n_ctx: int,
    kv_type: str = "f16",
    *,
    outputs: int = 1,
    flash_attn: bool | None = None,
    tensor_split: Sequence[float] | None = None,
    main_gpu: int | None = None,
) -> tuple[int, Sequence[float] | None]:
    """``n_gpu_layers`` and ``tensor_split`` for a model with a cache of ``n_ctx`` cells, of which a step reads the
    logits of ``outputs`` rows; 0 where there is no GPU. Raises GgufError."""
    free = free_memory()
    if main_gpu is not None:
        free = free[main_gpu : main_gpu + 1] if main_gpu >= 0 else []
    if not free:
        return 0, tensor_split
    file = gguf_file.read(path)
    check_sane(file)
    layers, output = weight_bytes(file)
    compute = compute_bytes(file, n_ctx, flash_attn=flash_attn is not False, outputs=outputs)
    n = layers_that_fit(free, layers, output, kv_bytes(file, n_ctx, kv_type), compute, split=tensor_split)
    if len(free) > 1 and n and not any(list(tensor_split or ())[: len(free)]):
        return n, [max(0, one - MARGIN - compute) for one in free]
    return n, tensor_split


# --- what the file says


def weight_bytes(file: GgufFile) -> tuple[list[int], int]:
    """Bytes of each layer, and of the output, for which the embedding is copied where the file has no own."""
    sizes: Counter[str] = Counter()
    for tensor in file.tensors:
        first, _, rest = tensor.name.partition(".")
        sizes[rest.partition(".")[0] if first == "blk" else first] += tensor.nbytes
    layers = [sizes[str(i)] for i in range(largest(file.metadata, "block_count"))]
    return layers, sizes["output_norm"] + (sizes["output"] or sizes["token_embd"])


def kv_bytes(file: GgufFile, n_ctx: int, kv_type: str) -> int:
    """Bytes of the K and V of one layer that has them; layers of linear attention have a smaller state instead."""
    shape = from_gguf(file)
    cells = -(-n_ctx // CELL_BLOCK) * CELL_BLOCK
    return cells * kv_bytes_per_token(shape, kv_type) // max(1, shape.attention_layers)


def compute_bytes(file: GgufFile, n_ctx: int, *, flash_attn: bool, outputs: int = 1, rows: int = 512) -> int:
    """An upper estimate of what a step of ``rows`` tokens needs beside weights and cache, in bytes; the logits of
    ``outputs`` of them are read."""
    needed = cost.compute_bytes(from_gguf(file), n_ctx, flash_attn=flash_attn, outputs=outputs, rows=rows)
    return needed + (kv_bytes(file, n_ctx, "f16") if flash_attn else 0)  # a GPU widens a quantized cache


# --- what the machine says


def free_memory() -> list[int]:
    """Free bytes on each GPU that llama.cpp would use, in its order; an integrated one only without another."""
    c = load()
    if not c.llama_supports_gpu_offload():
        return []
    count = ggml_function("ggml", "ggml_backend_dev_count", ctypes.c_size_t)
    get = ggml_function("ggml", "ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    kind = ggml_function("ggml-base", "ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    devices = [(get(i), kind(get(i))) for i in range(count())]
    chosen = [one for one, kind in devices if kind == GPU] or [one for one, kind in devices if kind == INTEGRATED_GPU]
    return [device_memory(c, one) for one in chosen]


def device_memory(c: Any, device: int) -> int:
    """Free bytes of a ggml device; those of the machine where it has none of its own to report."""
    read = ggml_function(
        "ggml-base", "ggml_backend_dev_memory", None, ctypes.c_void_p, *[ctypes.POINTER(ctypes.c_size_t)] * 2
    )
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    read(device, ctypes.byref(free), ctypes.byref(total))
    return free.value if total.value else machine.memory().available
