"""A box is checked as a whole before anything is written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from .container import Box, check_whole, copy, open_box, reading
from .errors import BoxError
from .manifest import Manifest, parse
from .trust import check_signed


class Progress(Protocol):
    """Hears how far it is, in bytes."""

    def __call__(self, what: str, done: int, of: int, /) -> None: ...


@dataclass(frozen=True)
class Checked:
    """A box whose every byte is the signed one. ``key``: the fingerprint."""

    box: Box
    manifest: Manifest
    key: str


def check_box(path: Path, keys: frozenset[str], progress: Progress) -> Checked:
    """``keys``: the fingerprints that are trusted. Nothing in the manifest is read before its signature fits.

    Raises BoxError."""
    box = open_box(path)
    key = check_signed(box.manifest, box.signature, box.key, keys)
    manifest = parse(box.manifest)
    check_whole(box, manifest.files)
    done, of = 0, sum({file.sha256: file.size for file in manifest.files}.values())
    seen = set()

    def on_bytes(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        progress("checking", done, of)

    with reading(path) as source:
        for file in manifest.files:
            if file.sha256 not in seen:
                seen.add(file.sha256)
                source.seek(file.offset)
                if copy(source, None, file.size, on_bytes) != file.sha256:
                    raise BoxError(f"{file.path} in the box is damaged", "copy the box again; look at the stick")
    return Checked(box, manifest, key)
