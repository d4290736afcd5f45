"""An importance matrix: how much an error in each column of each tensor matters, measured by ``llama-imatrix``.

Two forms exist, a GGUF and the older ``.dat``. Both are read as ``llama-quantize --imatrix`` reads them (llama.cpp's
common/imatrix-loader.cpp and tools/quantize/quantize.cpp), in its float32 arithmetic, since the bytes of the
quantized file depend on it.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from convert import gguf_file
from convert.errors import EdgeError
from convert.metadata import KV

SUMS, COUNTS = ".in_sum2", ".counts"
MAX_NAME = 255  # bytes of a tensor name in a .dat; llama.cpp's own names are under 64
MAX_METADATA = 127  # bytes that llama.cpp keeps of a text
MISMATCH_IGNORED = "token_embd.weight"
"""The one tensor of whose measured size llama.cpp does not insist that it fits."""


class ImatrixError(EdgeError):
    """The file is not an importance matrix, is damaged, or belongs to another model."""


@dataclass(frozen=True)
class Imatrix:
    """``weights``: tensor name -> one number per column, of all its experts one after another [experts * row].

    ``file`` is the path as it was given, ``chunks`` how many pieces of text were measured, 0 if unknown.
    """

    file: str
    weights: Mapping[str, NDArray[np.float32]]
    datasets: tuple[str, ...]
    chunks: int

    def weights_for(self, name: str, shape: tuple[int, ...]) -> NDArray[np.float32] | None:
        """Weights [experts, row] for a tensor that gets quantized, None where nothing was measured.

        ``shape`` of the tensor, outermost first. Raises ImatrixError where the matrix is of another size.
        """
        found = self.weights.get(name)
        if found is None:
            return None
        experts, row = math.prod(shape[-3:-2]), shape[-1]
        if found.size == experts * row:
            return found.reshape(experts, row)
        if name == MISMATCH_IGNORED:
            return None
        raise ImatrixError(
            f"{Path(self.file).name}: {found.size} values for {name}, which has {experts * row}",
            "it was made for another model",
        )


def read_imatrix(path: str | os.PathLike[str]) -> Imatrix:
    """Read either form. Memory is that of the weights; the file is not trusted. Raises EdgeError."""
    given = os.fspath(path)
    try:
        with Path(path).open("rb") as file:
            is_gguf = file.read(len(gguf_file.MAGIC)) == gguf_file.MAGIC
            file.seek(0)
            return checked(read_gguf(given, file) if is_gguf else read_dat(given, file))
    except OSError as error:
        raise ImatrixError(f"cannot read {path}: {error.strerror or error}") from error
    except ImatrixError as error:
        raise ImatrixError(f"{Path(path).name}: {error.message}", error.hint or "make or download it again") from None


def checked(imatrix: Imatrix) -> Imatrix:
    if not imatrix.weights:
        raise ImatrixError("no importance matrix in the file")
    for name, weights in imatrix.weights.items():
        if not (np.isfinite(weights) & (weights >= 0)).all():
            raise ImatrixError(f"a value for {name} is negative, infinite or NaN")
    return imatrix


def imatrix_metadata(imatrix: Imatrix) -> list[KV]:
    """What ``llama-quantize`` adds at the end of the metadata.

    A text that is cut is cut between characters, where llama.cpp may cut within one and leave what is not UTF-8.
    """
    metadata = [KV("quantize.imatrix.file", "str", cut(imatrix.file))]
    if imatrix.datasets:
        metadata.append(KV("quantize.imatrix.dataset", "str", cut(imatrix.datasets[0])))
    metadata.append(KV("quantize.imatrix.entries_count", "u32", len(imatrix.weights)))
    if imatrix.chunks > 0:
        metadata.append(KV("quantize.imatrix.chunks_count", "u32", imatrix.chunks))
    return metadata


def cut(text: str) -> str:
    return text.encode("utf-8", "surrogateescape")[:MAX_METADATA].decode("utf-8", "ignore")


def read_gguf(path: str, file: BinaryIO) -> Imatrix:
    """The GGUF form: for each tensor the sum of squared activations per column, and how many were summed."""
    header = gguf_file.read(path)
    metadata = header.metadata
    datasets, chunks = metadata.get("imatrix.datasets"), metadata.get("imatrix.chunk_count")
    if datasets is None or chunks is None or "imatrix.chunk_size" not in metadata:
        raise ImatrixError("not an importance matrix: its metadata is missing", "give a file that llama-imatrix made")
    if type(chunks) is not int or not 0 <= chunks < 2**31:
        raise ImatrixError(f"imatrix.chunk_count is {chunks!r}")
    pairs: dict[str, dict[str, gguf_file.TensorInfo]] = {}
    for tensor in header.tensors:
        for suffix in (SUMS, COUNTS):
            if tensor.name.endswith(suffix):
                pairs.setdefault(tensor.name.removesuffix(suffix), {})[suffix] = tensor
    weights = {}
    for name, pair in pairs.items():
        if len(pair) < 2:
            raise ImatrixError(f"{name} has sums without counts, or counts without sums")
        sums, counts = (read_floats(file, header, pair[suffix]) for suffix in (SUMS, COUNTS))
        if sums.size % counts.size:
            raise ImatrixError(f"{sums.size} sums for {name} cannot belong to {counts.size} experts")
        weights[name] = mean(sums.reshape(counts.size, -1), counts).reshape(-1)
    texts = tuple(datasets) if isinstance(datasets, list) else ()
    return Imatrix(path, weights, texts, chunks)


def read_floats(file: BinaryIO, header: gguf_file.GgufFile, tensor: gguf_file.TensorInfo) -> NDArray[np.float32]:
    if tensor.type != "F32":
        raise ImatrixError(f"{tensor.name} is {tensor.type}, not F32")
    file.seek(header.data_offset + tensor.offset)
    return floats(file, tensor.n_elements)


def mean(sums: NDArray[np.float32], counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """[experts, row]: sums by counts; an expert that no text reached counts every column alike."""
    if not np.isfinite(counts).all():
        raise ImatrixError("a count is NaN or infinite")
    whole = np.floor(np.abs(counts) + np.float64(0.5)) * np.sign(counts)  # as C's lround
    reached = (whole > 0)[:, None]
    return np.where(reached, sums / np.where(reached, whole[:, None], 1).astype(np.float32), np.float32(1))


def read_dat(path: str, file: BinaryIO) -> Imatrix:
    """The older form: entries of name, number of calls, values; then perhaps the chunk count and the dataset."""
    size = os.fstat(file.fileno()).st_size
    weights: dict[str, NDArray[np.float32]] = {}
    entries = integer(file)
    if entries < 1 or entries > size // 17:  # an entry has three integers, a character and a value
        raise ImatrixError("not an importance matrix", "give a file that llama-imatrix made")
    for _ in range(entries):
        name = tensor_name(file)
        if name in weights:
            raise ImatrixError(f"{name} occurs twice")
        calls, count = integer(file), integer(file)
        if not 1 <= count <= size // 4:
            raise ImatrixError(f"{count} values for {name} in a file of {size} bytes")
        values = floats(file, count)
        weights[name] = values / np.float32(calls) if calls > 0 else values
    chunks, datasets = 0, ()
    if file.tell() < size:
        chunks = integer(file)
    if file.tell() < size and 0 < (length := integer(file)) <= size:
        datasets = (exactly(file, length).split(b"\0")[0].decode("utf-8", "ignore"),)
    return Imatrix(path, weights, datasets, chunks)


def integer(file: BinaryIO) -> int:
    return struct.unpack("<i", exactly(file, 4))[0]


def tensor_name(file: BinaryIO) -> str:
    length = integer(file)
    if not 1 <= length <= MAX_NAME:
        raise ImatrixError(f"a tensor name of {length} bytes, 1 to {MAX_NAME} are sensible")
    data = exactly(file, length)
    try:
        return data.decode("ascii")
    except UnicodeDecodeError:
        raise ImatrixError(f"a tensor name is {data[:40]!r}") from None


def floats(file: BinaryIO, count: int) -> NDArray[np.float32]:
    return np.frombuffer(exactly(file, count * 4), "<f4")


def exactly(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise ImatrixError("the file ends too early")
    return data
