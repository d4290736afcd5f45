"""Reading a protobuf message without its generated code: the wire format, every length checked.

https://protobuf.dev/programming-guides/encoding: a message is a run of (tag, value), the tag a varint of
field number and wire type. Nothing in the bytes is trusted.
"""

from __future__ import annotations

from collections.abc import Iterator

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
MAX_VARINT = 10  # bytes of a 64-bit number


class WireError(ValueError):
    """The bytes are no protobuf message."""


def fields(data: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """(field number, value) of each field in order: a number for a varint, else its bytes. Raises WireError."""
    place = 0
    while place < len(data):
        tag, place = varint(data, place)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, place = varint(data, place)
            yield number, value
            continue
        if kind == LENGTH:
            length, place = varint(data, place)
        elif kind in (FIXED32, FIXED64):
            length = 4 if kind == FIXED32 else 8
        else:
            raise WireError(f"wire type {kind} at byte {place}")
        if length > len(data) - place:
            raise WireError(f"{length} bytes wanted at byte {place}, {len(data) - place} there")
        yield number, data[place : place + length]
        place += length


def varint(data: memoryview, place: int) -> tuple[int, int]:
    """The number at ``place``, and the place behind it."""
    value = 0
    for i, byte in enumerate(data[place : place + MAX_VARINT]):
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, place + i + 1
    raise WireError(f"a number at byte {place} does not end")
