"""Ed25519 signatures are checked here (RFC 8032, section 5.1.7), so that a bare Python can trust a box.

Only public values are handled, so nothing needs constant time. Strict: S below the group's order, points in their one
spelling, keys of small order refused; and R compared byte for byte, as OpenSSL does.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_ONE = pow(2, (P - 1) // 4, P)
COFACTOR_BITS = 3


class Point(NamedTuple):
    """On -x^2 + y^2 = 1 + d*x^2*y^2 over the field of P elements, with x = X/Z, y = Y/Z, x*y = T/Z."""

    x: int
    y: int
    z: int
    t: int


NEUTRAL = Point(0, 1, 1, 0)


def verify(key: bytes, message: bytes, signature: bytes) -> bool:
    """Whether the owner of the public ``key`` signed exactly this message."""
    if len(key) != 32 or len(signature) != 64:
        return False
    owner, s = decode(key), int.from_bytes(signature[32:], "little")
    if owner is None or s >= ORDER or has_small_order(owner):
        return False
    digest = hashlib.sha512(signature[:32] + key + message).digest()
    k = int.from_bytes(digest, "little") % ORDER
    x, y, z, t = owner
    r = add(times(s, BASE), times(k, Point(-x % P, y, z, -t % P)))
    return encode(r) == signature[:32]


def add(one: Point, other: Point) -> Point:
    x1, y1, z1, t1 = one
    x2, y2, z2, t2 = other
    a, b = (y1 - x1) * (y2 - x2) % P, (y1 + x1) * (y2 + x2) % P
    c, d = 2 * t1 * t2 * D % P, 2 * z1 * z2 % P
    e, f, g, h = b - a, d - c, d + c, b + a
    return Point(e * f % P, g * h % P, f * g % P, e * h % P)


def times(factor: int, point: Point) -> Point:
    total = NEUTRAL
    while factor:
        if factor & 1:
            total = add(total, point)
        point = add(point, point)
        factor >>= 1
    return total


def has_small_order(point: Point) -> bool:
    """Signatures of such a key fit many messages."""
    for _ in range(COFACTOR_BITS):
        point = add(point, point)
    x, y, z, _ = point
    return x == 0 and (y - z) % P == 0


def encode(point: Point) -> bytes:
    x, y, z, _ = point
    inverse = pow(z, P - 2, P)
    return (y * inverse % P | (x * inverse % P & 1) << 255).to_bytes(32, "little")


def decode(data: bytes) -> Point | None:
    """The point that 32 bytes spell, None when they spell none, or not in its one way."""
    number = int.from_bytes(data, "little")
    sign, y = number >> 255, number & (2**255 - 1)
    if y >= P:
        return None
    u, v = y * y - 1, D * y * y + 1  # x^2 = u / v
    x = u * pow(v, 3, P) * pow(u * pow(v, 7, P), (P - 5) // 8, P) % P
    if (v * x * x - u) % P:
        x = x * ROOT_OF_MINUS_ONE % P
    if (v * x * x - u) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return Point(x, y, 1, x * y % P)


def base() -> Point:
    point = decode((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
    assert point is not None
    return point


BASE = base()
