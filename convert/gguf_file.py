"""A GGUF file's header and tensor list, read without trusting a byte of it.

llama.cpp's parser has had memory holes more than once, so every model from outside goes through
``read`` (is it a well-formed GGUF?) and ``edge.gguf_sane.check_sane`` (would C trip over what it
says?) before C sees it. An importance matrix, which is a GGUF too, is only ever read here.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from convert.errors import EdgeError

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMS = 4
MAX_NAME = 63  # bytes; C keeps one more for its terminator
MAX_HEADER = 256 << 20  # bytes of metadata; the largest vocabularies need 20 MB
MAX_STRING = 16 << 20  # bytes; chat templates are under 100 kB
MAX_STRINGS = 1 << 22  # strings of one array; the largest vocabularies have 320,000 merges
READ_AHEAD = 1 << 20

SCALARS: dict[int, struct.Struct] = {
    0: struct.Struct("<B"),
    1: struct.Struct("<b"),
    2: struct.Struct("<H"),
    3: struct.Struct("<h"),
    4: struct.Struct("<I"),
    5: struct.Struct("<i"),
    6: struct.Struct("<f"),
    7: struct.Struct("<?"),
    10: struct.Struct("<Q"),
    11: struct.Struct("<q"),
    12: struct.Struct("<d"),
}
"""Value type id -> its encoding."""
STRING, ARRAY, UINT32 = 8, 9, 4
U64 = SCALARS[10]


class GgufError(EdgeError):
    """The file is not a GGUF, is damaged, or says something that cannot be."""


@dataclass(frozen=True)
class TensorInfo:
    """One tensor of the file.

    ``shape`` is in GGUF order, the row length first. ``type`` is ggml's name, such as ``Q4_K``.
    ``offset`` counts from ``GgufFile.data_offset``, ``nbytes`` is without padding.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    nbytes: int

    @property
    def n_elements(self) -> int:
        product = 1
        for dim in self.shape:
            product *= dim
        return product


@dataclass(frozen=True)
class GgufFile:
    """What a GGUF says of itself.

    ``metadata``: key -> int, float, bool, str, list[str], or a numpy array for an array of numbers.
    ``data_offset``: where tensor data begins in the file. ``size``: of the file, in bytes.
    """

    path: Path
    version: int
    metadata: dict[str, Any]
    tensors: list[TensorInfo]
    data_offset: int
    size: int

    @property
    def n_params(self) -> int:
        return sum(tensor.n_elements for tensor in self.tensors)

    @property
    def bits_per_weight(self) -> float:
        """Real bits per weight over all tensors; 0 in a file without tensors."""
        return 8 * sum(t.nbytes for t in self.tensors) / self.n_params if self.tensors else 0.0

    def count_types(self) -> Counter[str]:
        """How many tensors are of which type."""
        return Counter(tensor.type for tensor in self.tensors)


def read(path: str | os.PathLike[str]) -> GgufFile:
    """Read the header of a GGUF version 2 or 3, little-endian.

    Memory and time are bounded by the size of the header. Raises ``GgufError``.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            return _read(path, file, size)
    except OSError as e:
        raise GgufError(f"cannot read {path}: {e.strerror or e}") from e
    except GgufError as e:
        hint = e.hint or "download or convert it again"
        raise GgufError(f"{path.name}: {e.message}", hint) from None


def _read(path: Path, file: BinaryIO, size: int) -> GgufFile:
    cursor = _Cursor(file, size)
    version = _read_version(cursor)
    n_tensors, n_keys = cursor.u64(), cursor.u64()
    # The smallest tensor entry takes 32 bytes and the smallest key 14: more cannot be true.
    if n_tensors > size // 32 or n_keys > size // 14:
        raise GgufError(f"the file is too short for {n_keys} keys and {n_tensors} tensors")
    metadata: dict[str, Any] = {}
    alignment = DEFAULT_ALIGNMENT
    for _ in range(n_keys):
        key, value_type, value = _read_pair(cursor)
        if key in metadata:
            raise GgufError(f"key {key!r} occurs twice")
        metadata[key] = value
        if key == "general.alignment":
            if value_type != UINT32 or value <= 0 or value & (value - 1) or value > 1 << 16:
                raise GgufError(f"general.alignment is {value!r}, not a small power of two")
            alignment = value
    entries = [_read_tensor(cursor) for _ in range(n_tensors)]
    data_offset = _align(cursor.position, alignment)
    _check_layout(entries, alignment, size - data_offset)
    return GgufFile(path, version, metadata, entries, data_offset, size)


def _read_version(cursor: _Cursor) -> int:
    magic = cursor.take(4)
    if magic != MAGIC:
        hint = "it is a git-lfs pointer: run `git lfs pull`" if magic == b"vers" else ""
        raise GgufError(f"not a GGUF file, it begins with {magic!r}", hint)
    version = cursor.scalar(SCALARS[UINT32])
    if version in VERSIONS:
        return version
    if version & 0xFFFF == 0:
        raise GgufError("written for a big-endian machine")
    raise GgufError(f"GGUF version {version}, this program reads {' and '.join(map(str, VERSIONS))}")


def _read_pair(cursor: _Cursor) -> tuple[str, int, Any]:
    key = cursor.string("a key")
    if not key:
        raise GgufError("a key is empty")
    value_type = cursor.scalar(SCALARS[UINT32])
    if value_type == STRING:
        return key, value_type, cursor.string(key)
    if value_type in SCALARS:
        return key, value_type, cursor.scalar(SCALARS[value_type])
    if value_type != ARRAY:
        raise GgufError(f"key {key!r} has unknown type {value_type}")
    item_type, count = cursor.scalar(SCALARS[UINT32]), cursor.u64()
    if item_type == STRING:
        return key, value_type, cursor.strings(count, key)
    if item_type in SCALARS:
        return key, value_type, cursor.numbers(SCALARS[item_type], count)
    if item_type == ARRAY:
        raise GgufError(f"key {key!r} is an array of arrays, which llama.cpp does not read")
    raise GgufError(f"key {key!r} is an array of unknown type {item_type}")


def _read_tensor(cursor: _Cursor) -> TensorInfo:
    name = cursor.string("a tensor name", MAX_NAME)
    n_dims = cursor.scalar(SCALARS[UINT32])
    if not 1 <= n_dims <= MAX_DIMS:
        raise GgufError(f"tensor {name!r} has {n_dims} dimensions, 1 to {MAX_DIMS} are possible")
    shape = tuple(cursor.u64() for _ in range(n_dims))
    type_id = cursor.scalar(SCALARS[UINT32])
    offset = cursor.u64()
    try:
        qtype = GGMLQuantizationType(type_id)
    except ValueError:
        raise GgufError(f"tensor {name!r} has unknown type {type_id}") from None
    block, block_bytes = GGML_QUANT_SIZES[qtype]
    if min(shape) < 1 or shape[0] % block:
        raise GgufError(f"tensor {name!r} of type {qtype.name} has the impossible shape {shape}")
    nbytes = block_bytes * (shape[0] // block)
    for dim in shape[1:]:
        nbytes *= dim
    return TensorInfo(name, shape, qtype.name, offset, nbytes)


def _check_layout(tensors: list[TensorInfo], alignment: int, available: int) -> None:
    """Tensor data lies in order, without gap or overlap, inside the file: llama.cpp asks for the same."""
    names: set[str] = set()
    expected = 0
    for tensor in tensors:
        if tensor.name in names:
            raise GgufError(f"tensor {tensor.name!r} occurs twice")
        names.add(tensor.name)
        if tensor.offset != expected:
            raise GgufError(f"data of tensor {tensor.name!r} is at {tensor.offset}, expected at {expected}")
        if tensor.offset + tensor.nbytes > available:
            raise GgufError(f"the file ends inside the data of tensor {tensor.name!r}")
        expected = _align(tensor.offset + tensor.nbytes, alignment)


def _align(value: int, alignment: int) -> int:
    return (value + alignment - 1) // alignment * alignment


class _Cursor:
    """Reads forward through a file of known size, in big pieces, and never beyond its end."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._buffer = b""
        self._at = 0  # in the buffer
        self._start = 0  # of the buffer, in the file

    @property
    def position(self) -> int:
        return self._start + self._at

    def take(self, n: int) -> bytes:
        self._need(n)
        self._at += n
        return self._buffer[self._at - n : self._at]

    def scalar(self, encoding: struct.Struct) -> Any:
        self._need(encoding.size)
        (value,) = encoding.unpack_from(self._buffer, self._at)
        self._at += encoding.size
        return value

    def u64(self) -> int:
        return self.scalar(U64)

    def numbers(self, encoding: struct.Struct, count: int) -> np.ndarray:
        data = self.take(count * encoding.size)
        if encoding.format == "<?":
            return np.frombuffer(data, np.uint8) != 0
        return np.frombuffer(data, np.dtype(encoding.format))

    def string(self, what: str, limit: int = MAX_STRING) -> str:
        length = self.u64()
        if length > limit:
            raise GgufError(f"{what} is {length} bytes long, at most {limit} are sensible")
        try:
            text = self.take(length).decode()
        except UnicodeDecodeError:
            raise GgufError(f"{what} is not UTF-8 text") from None
        if "\0" in text:  # C would read less than is checked here
            raise GgufError(f"{what} contains a NUL character")
        return text

    def strings(self, count: int, key: str) -> list[str]:
        """A vocabulary has 150,000 of these: the loop is kept bare, and decoding comes last."""
        if count > MAX_STRINGS or count * U64.size > self._size - self.position:
            raise GgufError(f"key {key!r} has {count} strings, more than are sensible or in the file")
        items: list[bytes] = []
        append, unpack = items.append, U64.unpack_from
        buffer, at, end = self._buffer, self._at, len(self._buffer)
        for _ in range(count):
            if at + 8 > end or (stop := at + 8 + unpack(buffer, at)[0]) > end:
                self._at = at
                self._need(8)
                self._need(8 + unpack(self._buffer, self._at)[0])
                buffer, at, end = self._buffer, self._at, len(self._buffer)
                stop = at + 8 + unpack(buffer, at)[0]
            append(buffer[at + 8 : stop])
            at = stop
        self._at = at
        if b"\0" in b"".join(items):
            raise GgufError(f"an item of {key!r} contains a NUL character")
        try:
            return [item.decode() for item in items]
        except UnicodeDecodeError:
            raise GgufError(f"an item of {key!r} is not UTF-8 text") from None

    def _need(self, n: int) -> None:
        """Have ``n`` bytes ahead in the buffer, or raise."""
        missing = n - (len(self._buffer) - self._at)
        if missing <= 0:
            return
        if n > self._size - self.position:
            raise GgufError(f"the file ends after {self._size} bytes, in the middle of its header")
        if self.position + n > MAX_HEADER:
            raise GgufError(f"the header is larger than {MAX_HEADER >> 20} MiB")
        more = self._file.read(max(missing, READ_AHEAD))
        if len(more) < missing:
            raise GgufError("the file became shorter while it was read")
        self._start += self._at
        self._buffer = self._buffer[self._at :] + more
        self._at = 0
