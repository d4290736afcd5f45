"""Ways to damage bytes. Each takes a random source and what is right, and gives what is to be opened."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import replace
from random import Random
from typing import Any

from tests.survive.gguf_parts import ARRAY, SCALARS, STRING, Gguf, Pair, Tensor, parse

ODD = (0, 1, 2, 3, 7, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**48, 2**63 - 1, 2**63, 2**64 - 1)
NESTED = {b"[": b"]", b"{": b"}", b"(": b")"}
TEMPLATES = (
    b"{% for a in range(999999999) %}{% for b in range(999999999) %}x{% endfor %}{% endfor %}",
    b"{{ 'x' * 9999999999 }}",
    b"{{ ''.__class__.__mro__[1].__subclasses__() }}",
    b"{{ (" * 500 + b"1" + b") }}" * 500,
    b"{% if " * 2000,
    b"{{ 9 ** 9 ** 9 }}",
    b"{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    b"{% set x = namespace(a=[]) %}{% for i in range(100000) %}{% set x.a = x.a + [x.a] %}{% endfor %}{{ x.a }}",
    b"{{ '%0999999999d' % 1 }}",
    b"{{ messages | tojson(indent=999999999) }}",
    b"{% include 'x' %}",
    b"",
)


# --- of any bytes


def flipped(rng: Random, data: bytes, end: int | None = None) -> bytes:
    """Up to 8 bits, before ``end``."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(end or len(data))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def cut(rng: Random, data: bytes, end: int | None = None) -> bytes:
    return data[: rng.randrange(end or len(data))]


def inserted(rng: Random, data: bytes, end: int | None = None) -> bytes:
    """Bytes too many, or too few."""
    at, size = rng.randrange(end or len(data)), rng.choice((1, 2, 4, 8, 32, 1000))
    more = rng.choice((rng.randbytes(size), bytes(size), b"\xff" * size, b""))
    return data[:at] + more + data[at + (0 if more else size) :]


def swapped(rng: Random, data: bytes, end: int | None = None) -> bytes:
    """Two neighbouring sections in each other's place."""
    first, second, third = sorted(rng.randrange((end or len(data)) + 1) for _ in range(3))
    return data[:first] + data[second:third] + data[first:second] + data[third:]


def numbered(rng: Random, data: bytes, end: int | None = None) -> bytes:
    """An odd number over any 1 to 8 bytes."""
    code = rng.choice(("<B", "<H", "<I", "<Q"))
    at = rng.randrange(max(1, (end or len(data)) - 8))
    return over(data, at, struct.calcsize(code), rng.choice(ODD))


def over(data: bytes, at: int, size: int, value: int) -> bytes:
    return data[:at] + (value % 2 ** (8 * size)).to_bytes(size, "little") + data[at + size :]


BYTES: Mapping[str, Callable[[Random, bytes], bytes]] = {
    "flip": flipped,
    "cut": cut,
    "insert": inserted,
    "swap": swapped,
    "number": numbered,
}


# --- of a GGUF


class GgufMutator:
    """Damages the header of one right file, in ``ways``."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._right, self._numbers = parse(data)
        self._end = len(self._right.head())
        keys = [pair.key for pair in self._right.pairs]
        self._template = keys.index(b"tokenizer.chat_template")
        self._texts = [i for i, pair in enumerate(self._right.pairs) if pair.items is not None]
        self.ways: Mapping[str, Callable[[Random], bytes]] = {
            "flip": lambda rng: flipped(rng, data, self._end),
            "cut": lambda rng: cut(rng, data, rng.choice((self._end, None))),
            "insert": lambda rng: inserted(rng, data, self._end),
            "swap": lambda rng: swapped(rng, data, self._end),
            "length": self._length,
            "count": self._count,
            "type": self._type,
            "value": self._value,
            "key": self._key,
            "order": self._order,
            "deep": self._deep,
            "tensor": self._tensor,
            "text": self._text,
            "template": self._with_template,
        }

    def _length(self, rng: Random) -> bytes:
        """One of the header's numbers is odd, or a little off."""
        at, size = rng.choice(self._numbers)
        now = int.from_bytes(self._data[at : at + size], "little")
        return over(self._data, at, size, rng.choice((*ODD, now + 1, now - 1, now * 2)))

    def _count(self, rng: Random) -> bytes:
        """The header lies about how much there is of something."""
        right = self._right
        counts = [len(right.tensors), len(right.pairs)]
        counts[rng.randrange(2)] = rng.choice((*ODD, counts[0] - 1, counts[1] + 1))
        return replace(right, counts=(counts[0], counts[1])).encode()

    def _type(self, rng: Random) -> bytes:
        """A key's value is of another type, well encoded."""
        index = rng.randrange(len(self._right.pairs))
        return self._right.with_pair(index, odd_pair(rng, self._right.pairs[index].key)).encode()

    def _value(self, rng: Random) -> bytes:
        """A number of the right type, but odd; all else is well formed."""
        plain = [i for i, pair in enumerate(self._right.pairs) if pair.type in SCALARS]
        index = rng.choice(plain)
        pair = self._right.pairs[index]
        return self._right.with_pair(index, replace(pair, value=odd_scalar(rng, pair.type))).encode()

    def _key(self, rng: Random) -> bytes:
        """A key is missing, there twice, or called as another one."""
        right, index = self._right, rng.randrange(len(self._right.pairs))
        pair, other = right.pairs[index], rng.choice(right.pairs)
        name = rng.choice((b"", b"x" * 70_000, b"\xff\0", pair.key[:-1], other.key))
        return rng.choice(
            (
                right.with_pair(index),
                right.with_pair(index, pair, pair),
                right.with_pair(index, replace(pair, key=name)),
                right.with_pair(index, replace(other, key=pair.key)),
            )
        ).encode()

    def _order(self, rng: Random) -> bytes:
        """Sections in another order, whose places in the data stay or go along."""
        pairs, tensors = list(self._right.pairs), list(self._right.tensors)
        if rng.random() < 0.3:
            rng.shuffle(pairs)
        one, other = rng.randrange(len(tensors)), rng.randrange(len(tensors))
        tensors[one], tensors[other] = tensors[other], tensors[one]
        if rng.random() < 0.5:
            first, second = tensors[one], tensors[other]
            tensors[one] = replace(first, offset=second.offset)
            tensors[other] = replace(second, offset=first.offset)
        return replace(self._right, pairs=tuple(pairs), tensors=tuple(tensors)).encode()

    def _deep(self, rng: Random) -> bytes:
        """Arrays in arrays, and arrays that claim to be huge."""
        depth = rng.choice((1, 2, 100, 100_000))
        nested = struct.pack("<IQ", ARRAY, 1) * depth + struct.pack("<IQ", 4, 0)
        kind = rng.choice((0, 4, 7, 8, 10, 12))
        huge = struct.pack("<IQ", kind, rng.choice(ODD[6:]))
        long = struct.pack("<IQ", 0, 3_000_000) + bytes(3_000_000)
        pair = Pair(rng.choice((b"deep", rng.choice(self._right.pairs).key)), ARRAY, rng.choice((nested, huge, long)))
        return replace(self._right, pairs=(*self._right.pairs, pair)).encode()

    def _tensor(self, rng: Random) -> bytes:
        """A tensor is missing, there twice, of another shape, type, name or place."""
        right, index = self._right, rng.randrange(len(self._right.tensors))
        one, other = right.tensors[index], rng.choice(right.tensors)
        at = rng.randrange(len(one.shape))
        dim = rng.choice((*ODD, one.shape[at] * 2, one.shape[at] // 2, one.shape[at] + 1))
        return rng.choice(
            (
                right.with_tensor(index),
                right.with_tensor(index, one, one),
                right.with_tensor(index, replace(one, shape=(*one.shape[:at], dim, *one.shape[at + 1 :]))),
                right.with_tensor(index, replace(one, shape=one.shape[::-1])),
                right.with_tensor(index, replace(one, shape=(*one.shape, rng.choice((0, 1, 2, 2**32))))),
                right.with_tensor(index, replace(one, shape=())),
                right.with_tensor(index, replace(one, type=rng.choice((*range(45), 2**31, 2**32 - 1)))),
                right.with_tensor(index, replace(one, name=rng.choice((other.name, b"", one.name + b"x" * 70)))),
                right.with_tensor(index, replace(one, offset=rng.choice((*ODD, other.offset)))),
                self._rearranged(index, other),
            )
        ).encode()

    def _rearranged(self, index: int, other: Tensor) -> Gguf:
        """Two tensors under each other's name: shapes that the model's graph does not expect, in a sound file."""
        tensors = list(self._right.tensors)
        place = tensors.index(other)
        tensors[index], tensors[place] = (
            replace(tensors[index], name=other.name),
            replace(other, name=tensors[index].name),
        )
        return replace(self._right, tensors=tuple(tensors))

    def _text(self, rng: Random) -> bytes:
        """Tokens or merges that are odd."""
        index = rng.choice(self._texts)
        pair = self._right.pairs[index]
        items = list(pair.items or ())
        for _ in range(rng.choice((1, 1, 3, 100))):
            place = rng.randrange(len(items))
            long = rng.choice((b"a ", b"\xe4\xbd", b"x")) * rng.choice((1, 100, 100_000))
            items[place] = rng.choice(
                (b"", items[rng.randrange(len(items))], long, rng.randbytes(9), b"<|im_end|>", b" ")
            )
        if rng.random() < 0.2:
            items = items[: rng.choice((0, 1, len(items) // 2, len(items) - 1))]
        return self._right.with_pair(index, replace(pair, items=tuple(items))).encode()

    def _with_template(self, rng: Random) -> bytes:
        pair = self._right.pairs[self._template]
        text = rng.choice((*TEMPLATES, flipped(rng, pair.value[8:]), inserted(rng, pair.value[8:])))
        value = struct.pack("<Q", len(text)) + text
        return self._right.with_pair(self._template, replace(pair, value=value)).encode()


def odd_pair(rng: Random, key: bytes) -> Pair:
    kind = rng.choice((*SCALARS, STRING, ARRAY))
    if kind in SCALARS:
        return Pair(key, kind, odd_scalar(rng, kind))
    if kind == STRING:
        text = rng.choice((b"", b"x", b"\xff", b"qwen2", b"gpt2", b"llama", b"0" * 100_000))
        return Pair(key, kind, struct.pack("<Q", len(text)) + text)
    if rng.random() < 0.3:
        return Pair(key, kind, b"", STRING, tuple(rng.choice((b"", b"a", b"b c")) for _ in range(rng.randrange(4))))
    item, count = rng.choice(list(SCALARS)), rng.choice((0, 1, 2, 512, 4096))
    values = b"".join(odd_scalar(rng, item) for _ in range(count))
    return Pair(key, kind, struct.pack("<IQ", item, count) + values, item)


def odd_scalar(rng: Random, kind: int) -> bytes:
    code = SCALARS[kind]
    if code in ("<f", "<d"):
        return struct.pack(code, rng.choice((0.0, -1.0, float("nan"), float("inf"), -float("inf"), 1e30, 1e-30, 1.0)))
    size = struct.calcsize(code)
    return (rng.choice((*ODD, 2**64 - 2, 64, 4096)) % 2 ** (8 * size)).to_bytes(size, "little")


# --- of text


def nested(rng: Random, data: bytes) -> bytes:
    """As deep as a parser may not go."""
    opening = rng.choice(list(NESTED))
    depth = rng.choice((10, 1000, 100_000))
    at = rng.choice([0, *(i for i, byte in enumerate(data) if byte in b"=[:")]) + 1
    return data[:at] + opening * depth + (NESTED[opening] * depth if rng.random() < 0.5 else b"") + data[at:]


def lines_changed(rng: Random, data: bytes) -> bytes:
    """Lines lost, doubled, or in another place."""
    lines = data.split(b"\n")
    for _ in range(rng.choice((1, 1, 5))):
        one, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        choice = rng.randrange(3)
        if choice == 0:
            lines[one], lines[other] = lines[other], lines[one]
        elif choice == 1:
            lines.insert(other, lines[one])
        elif len(lines) > 1:
            del lines[one]
    return b"\n".join(lines)


def values_changed(rng: Random, data: bytes) -> bytes:
    """A value is of another type, or odd."""
    words = (
        b"-1",
        b"0",
        b"99999999999999999999",
        b"1e999",
        b"nan",
        b'""',
        b"true",
        b"null",
        b"[]",
        b"{}",
        b'"../../x"',
    )
    separator = rng.choice((b"= ", b": "))
    places = [i + 2 for i in range(len(data) - 2) if data[i : i + 2] == separator]
    if not places:
        return flipped(rng, data)
    at = rng.choice(places)
    end = next((i for i in range(at, len(data)) if data[i] in b",}\n"), len(data))
    return data[:at] + rng.choice((*words, b'"' + b"x" * 100_000 + b'"')) + data[end:]


TEXT: Mapping[str, Callable[[Random, bytes], bytes]] = {
    **{name: BYTES[name] for name in ("flip", "cut", "insert", "swap")},
    "deep": nested,
    "line": lines_changed,
    "value": values_changed,
}


def field_changed(rng: Random, data: bytes) -> bytes:
    """Sound JSON with one value of another type, or odd, or missing; or one field too many."""
    value = json.loads(data)
    place: Any = value
    while True:
        key = rng.choice(list(place)) if isinstance(place, dict) else rng.randrange(len(place))
        if not isinstance(place[key], (dict, list)) or not place[key] or rng.random() < 0.2:
            break
        place = place[key]
    now = place[key]
    odd = (None, True, -1, 2**63, 10**400, 0.5, "", "..", "/x", "a" * 5000, "\ud800", "a\0b", [], {}, [now])
    place[key] = rng.choice(odd)
    if rng.random() < 0.1:
        del place[key]
    elif rng.random() < 0.1 and isinstance(place, dict):
        place[rng.choice(("more", "path", "../x", ""))] = now
    return json.dumps(value).encode()
