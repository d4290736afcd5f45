"""The only place that touches libggml: row sizes, conversion to float32, quantization.

``libggml-base`` is loaded by its path, without importing ``llama_cpp``: it is compiled for the plain CPU and
runs anywhere, while importing the package would also load the CPU backend, which may need more than this CPU has.
ctypes releases the GIL during each call.
"""

from __future__ import annotations

import ctypes
import importlib.util
import sys
from functools import cache
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from convert.errors import EdgeError

QType = gguf.GGMLQuantizationType
SOURCE_TYPE = {"F32": QType.F32, "F16": QType.F16, "BF16": QType.BF16}


@cache
def library() -> ctypes.CDLL:
    """libggml-base of the installed llama-cpp-python. Raises EdgeError when it is not there."""
    name = {"win32": "ggml-base.dll", "darwin": "libggml-base.dylib"}.get(sys.platform, "libggml-base.so")
    spec = importlib.util.find_spec("llama_cpp")
    folders = [Path(place) / "lib" for place in (spec.submodule_search_locations or ())] if spec else []
    path = next((folder / name for folder in folders if (folder / name).is_file()), None)
    if path is None:
        raise EdgeError(f"{name} of llama-cpp-python is not installed", "run: make setup")
    lib = ctypes.CDLL(str(path))
    lib.ggml_row_size.restype = ctypes.c_size_t
    lib.ggml_row_size.argtypes = [ctypes.c_int, ctypes.c_int64]
    lib.ggml_quantize_chunk.restype = ctypes.c_size_t
    lib.ggml_quantize_chunk.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_int64,
        ctypes.c_void_p,
    ]
    lib.ggml_validate_row_data.restype = ctypes.c_bool
    lib.ggml_validate_row_data.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t]
    for convert in (lib.ggml_bf16_to_fp32_row, lib.ggml_fp16_to_fp32_row):
        convert.restype = None
        convert.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64]
    return lib


def row_size(qtype: QType, elements: int) -> int:
    """Bytes of a row of ``elements`` weights; ``elements`` is a multiple of the type's block."""
    return library().ggml_row_size(qtype.value, elements)


def block_size(qtype: QType) -> int:
    """Weights in one block of the type: 1 for floats, 32 or 256 for quantized types."""
    return gguf.GGML_QUANT_SIZES[qtype][0]


def to_float32(raw: NDArray[np.uint8], dtype: str, out: NDArray[np.float32]) -> None:
    """Widen raw BF16, F16 or F32 bytes into ``out`` [elements]; exact."""
    if dtype == "F32":
        out[:] = raw.view("<f4")
        return
    lib = library()
    widen = lib.ggml_bf16_to_fp32_row if dtype == "BF16" else lib.ggml_fp16_to_fp32_row
    widen(raw.ctypes.data, out.ctypes.data, out.size)


def quantize_rows(
    source: NDArray[np.float32],
    qtype: QType,
    out: NDArray[np.uint8],
    imatrix: NDArray[np.float32] | None = None,
) -> None:
    """Encode ``source`` [rows, elements] into ``out`` [rows * row_size] as ``qtype``.

    ``imatrix`` [elements]: how much an error in each column matters; the same for all rows, which therefore are of
    one expert. Raises EdgeError where a value is too large for the type.
    """
    rows, elements = source.shape
    weights = None
    if imatrix is not None:
        if imatrix.shape != (elements,) or imatrix.dtype != np.float32 or not imatrix.flags.c_contiguous:
            raise ValueError(f"an imatrix of {imatrix.shape} {imatrix.dtype} for rows of {elements}")  # C would read on
        weights = imatrix.ctypes.data
    lib = library()
    written = lib.ggml_quantize_chunk(qtype.value, source.ctypes.data, out.ctypes.data, 0, rows, elements, weights)
    if written != out.size:
        raise EdgeError(f"libggml wrote {written} bytes where {out.size} were expected ({qtype.name})", "report this")
    if not lib.ggml_validate_row_data(qtype.value, out.ctypes.data, out.size):
        what, hint = ("weights", "") if imatrix is None else ("weights or imatrix", " or leave the imatrix out")
        raise EdgeError(f"{what} too large for {qtype.name}", f"choose BF16 or F32{hint}")
