"""Whose boxes are installed here: keys go by their fingerprint, the SHA-256 of their 32 bytes."""

from __future__ import annotations

import hashlib

from . import durable, ed25519
from .errors import BoxError
from .layout import Layout, read_small
from .manifest import HASH


def fingerprint(key: bytes) -> str:
    return hashlib.sha256(key).hexdigest()


def parse_fingerprint(text: str) -> str:
    """As somebody typed it. Raises BoxError."""
    plain = text.replace(":", "").replace(" ", "").lower()
    if not HASH.fullmatch(plain):
        raise BoxError("a key's fingerprint is 64 hex digits", "edge pack printed it")
    return plain


def pinned(layout: Layout) -> frozenset[str]:
    """Fingerprints that were trusted here before. Raises BoxError."""
    lines = (line.strip() for line in read_small(layout.trusted).splitlines())
    return frozenset(line for line in lines if HASH.fullmatch(line))


def trusted(layout: Layout, told: str | None) -> frozenset[str]:
    """Those, and the one that was told. Raises BoxError."""
    return pinned(layout) | ({parse_fingerprint(told)} if told else frozenset())


def pin(layout: Layout, mark: str) -> None:
    """Raises BoxError, OSError."""
    known = pinned(layout)
    if mark not in known:
        durable.write(layout.trusted, "".join(f"{one}\n" for one in sorted(known | {mark})).encode())


def check_signed(manifest: bytes, signature: bytes, key: bytes, keys: frozenset[str]) -> str:
    """The fingerprint of the key, one of ``keys``, that signed exactly these bytes. Raises BoxError."""
    mark = fingerprint(key)
    if mark not in keys:
        if keys:
            raise BoxError(
                f"this box is signed with another key, {mark}",
                "do not install it; if its maker has a new key, give that with --key",
            )
        raise BoxError(
            "no key is trusted here yet", f"this box says {mark}: compare it with what edge pack printed, give --key"
        )
    if not ed25519.verify(key, manifest, signature):
        raise BoxError("the signature of the box is wrong", "it was changed or damaged: do not install it")
    return mark
