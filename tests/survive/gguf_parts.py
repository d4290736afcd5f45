"""A right GGUF's header in parts, so that it can be put together wrongly in every way."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace

STRING, ARRAY = 8, 9
SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<B", 10: "<Q", 11: "<q", 12: "<d"}
ALIGNMENT = 32


@dataclass(frozen=True)
class Pair:
    """A key of the metadata; ``value`` as it is encoded, but for an array of strings, which is ``items``."""

    key: bytes
    type: int
    value: bytes
    item_type: int | None = None
    items: tuple[bytes, ...] | None = None

    def encode(self) -> bytes:
        head = string(self.key) + struct.pack("<I", self.type)
        if self.items is not None:
            return head + struct.pack("<IQ", STRING, len(self.items)) + b"".join(map(string, self.items))
        return head + self.value


@dataclass(frozen=True)
class Tensor:
    name: bytes
    shape: tuple[int, ...]
    type: int
    offset: int

    def encode(self) -> bytes:
        dims = struct.pack(f"<I{len(self.shape)}Q", len(self.shape), *(dim % 2**64 for dim in self.shape))
        return string(self.name) + dims + struct.pack("<IQ", self.type % 2**32, self.offset % 2**64)


@dataclass(frozen=True)
class Gguf:
    """``counts``: of tensors and keys, where the header is to lie about them."""

    pairs: tuple[Pair, ...]
    tensors: tuple[Tensor, ...]
    data: bytes
    version: int = 3
    counts: tuple[int, int] | None = None

    def head(self) -> bytes:
        n_tensors, n_keys = self.counts or (len(self.tensors), len(self.pairs))
        parts = [b"GGUF", struct.pack("<IQQ", self.version, n_tensors % 2**64, n_keys % 2**64)]
        return b"".join([*parts, *(pair.encode() for pair in self.pairs), *(one.encode() for one in self.tensors)])

    def encode(self) -> bytes:
        head = self.head()
        return head + bytes(-len(head) % ALIGNMENT) + self.data

    def with_pair(self, index: int, *pairs: Pair) -> Gguf:
        """``pairs`` in place of one."""
        return replace(self, pairs=(*self.pairs[:index], *pairs, *self.pairs[index + 1 :]))

    def with_tensor(self, index: int, *tensors: Tensor) -> Gguf:
        return replace(self, tensors=(*self.tensors[:index], *tensors, *self.tensors[index + 1 :]))


def string(text: bytes) -> bytes:
    return struct.pack("<Q", len(text)) + text


def parse(data: bytes) -> tuple[Gguf, list[tuple[int, int]]]:
    """The parts, and where in ``data`` counts, lengths, types and dimensions lie: (offset, bytes)."""
    at, numbers = 8, []

    def number(code: str) -> int:
        nonlocal at
        size = struct.calcsize(code)
        (value,) = struct.unpack_from(code, data, at)
        numbers.append((at, size))
        at += size
        return value

    def text() -> bytes:
        nonlocal at
        size = number("<Q")
        at += size
        return data[at - size : at]

    n_tensors, n_keys = number("<Q"), number("<Q")
    pairs = []
    for _ in range(n_keys):
        key, kind = text(), number("<I")
        start = at
        if kind == STRING:
            text()
            pairs.append(Pair(key, kind, data[start:at]))
        elif kind == ARRAY:
            item_type, count = number("<I"), number("<Q")
            if item_type == STRING:
                known = len(numbers)
                items = tuple(text() for _ in range(count))
                del numbers[known + 50 :]  # of a vocabulary's lengths the first are enough
                pairs.append(Pair(key, kind, b"", STRING, items))
            else:
                at += count * struct.calcsize(SCALARS[item_type])
                pairs.append(Pair(key, kind, data[start:at], item_type))
        else:
            number(SCALARS[kind])
            pairs.append(Pair(key, kind, data[start:at]))
    tensors = []
    for _ in range(n_tensors):
        name, n_dims = text(), number("<I")
        tensors.append(Tensor(name, tuple(number("<Q") for _ in range(n_dims)), number("<I"), number("<Q")))
    data_at = at + -at % ALIGNMENT
    made = Gguf(tuple(pairs), tuple(tensors), data[data_at:])
    assert made.encode() == data, "the file would not be put together as it was"
    return made, numbers
