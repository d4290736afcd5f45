"""The one file that a box is: a first line for the shell, blobs one behind the other, a small zip archive.

The blobs lie before the archive because Python 3.11 cannot run an archive that needs ZIP64; so a box may have any
size. Every byte is accounted for: the first line is known, blobs are hashed and leave no gap, and the archive's
members decide its bytes.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from . import archive, durable
from .errors import BoxError
from .manifest import BOOTSTRAP, KEY, MANIFEST, SIGNATURE, File

SHEBANG = b"#!/usr/bin/env python3\n"
MAIN = "__main__.py"  # the archive's; its content is that of BOOTSTRAP
PIECE = 1 << 22  # bytes


@dataclass(frozen=True)
class Blob:
    """Content that goes into a box: ``size`` bytes of the file ``source``."""

    source: Path
    size: int
    sha256: str


@dataclass(frozen=True)
class Written:
    """Where the archive of a box begins, how long it is, and its SHA-256: what is checked before a box is run."""

    start: int
    length: int
    sha256: str


@dataclass(frozen=True)
class Box:
    """An opened box. ``members``: the archive's files, name -> content. Nothing of it has been trusted yet."""

    path: Path
    size: int
    archive: Written
    members: Mapping[str, bytes]

    @property
    def manifest(self) -> bytes:
        return self.members[MANIFEST]

    @property
    def signature(self) -> bytes:
        return self.members[SIGNATURE]

    @property
    def key(self) -> bytes:
        return self.members[KEY]


def distinct(blobs: Iterable[Blob]) -> dict[str, Blob]:
    """By hash; content that is there twice is stored once."""
    found: dict[str, Blob] = {}
    for blob in blobs:
        found.setdefault(blob.sha256, blob)
    return found


def offsets(blobs: Iterable[Blob]) -> dict[str, int]:
    """SHA-256 -> where ``write_box`` will put it, given the same blobs in the same order."""
    places, offset = {}, len(SHEBANG)
    for blob in distinct(blobs).values():
        places[blob.sha256] = offset
        offset += blob.size
    return places


def write_box(
    out: Path,
    blobs: Sequence[Blob],
    members: Mapping[str, bytes],
    on_bytes: Callable[[int], None] = lambda nbytes: None,
) -> Written:
    """Write the box under a temporary name, then give it its own. ``members``: the manifest's three files and the
    package ``box/``; ``__main__.py`` is made from it. Raises BoxError, OSError; a partial file is removed, and what a
    killed process left of one is taken over."""
    tail = archive.make({MAIN: members[BOOTSTRAP], **members})
    partial = out.with_name(f".{out.name}.partial")
    with os.fdopen(taken(partial), "wb") as file:
        try:
            file.truncate()
            file.write(SHEBANG)
            for blob in distinct(blobs).values():
                with blob.source.open("rb") as source:
                    if copy(source, file, blob.size, on_bytes) != blob.sha256 or source.read(1):
                        raise BoxError(f"{blob.source} changed while it was packed", "run the command again")
            start = file.tell()
            file.write(tail)
            file.flush()
            os.fchmod(file.fileno(), 0o755)
            os.fsync(file.fileno())
            durable.publish(partial, out)
        except BaseException:
            with contextlib.suppress(FileNotFoundError):
                partial.unlink()
            raise
    return Written(start, len(tail), hashlib.sha256(tail).hexdigest())


def taken(partial: Path) -> int:
    """Open it for writing, if no other process does. Raises BoxError, OSError."""
    opened = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)  # ends with the process, however it ends
        if os.path.samestat(os.fstat(opened), partial.stat()):
            return opened
    except (BlockingIOError, FileNotFoundError):
        pass
    os.close(opened)
    raise BoxError(f"another process writes {partial}", "wait for its end")


def open_box(path: Path) -> Box:
    """Read its archive. Raises BoxError."""
    with reading(path) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - archive.END.size))
        start = archive.start_of(file.read(archive.END.size), size)
        file.seek(0)
        if file.read(len(SHEBANG)) != SHEBANG or start < len(SHEBANG):
            raise BoxError(f"{path} is no box, or its beginning is damaged", "copy it again")
        file.seek(start)
        tail = file.read(size - start)
    members = archive.read(tail)
    if missing := [name for name in (MAIN, MANIFEST, SIGNATURE, KEY) if name not in members]:
        raise BoxError(f"{missing[0]} is not in the box", "copy it again")
    return Box(path, size, Written(start, len(tail), hashlib.sha256(tail).hexdigest()), members)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[BinaryIO]:
    """Open a box; what keeps it from being read becomes a BoxError."""
    try:
        with path.open("rb") as file:
            yield file
    except OSError as error:
        raise BoxError(f"cannot read {path}: {error.strerror}", "is the stick still there?") from error


def check_whole(box: Box, files: Sequence[File]) -> None:
    """The manifest's files fill the box without a gap, and the code in the archive is the signed code.

    Raises BoxError."""
    end = len(SHEBANG)
    for offset, size in sorted({(file.offset, file.size) for file in files}):
        if offset != end:
            raise BoxError("the files in the box are not where its manifest says", "do not trust this box")
        end += size
    if end != box.archive.start:
        raise BoxError("the box is longer or shorter than its manifest says", "copy it again")
    signed = {file.path: file.sha256 for file in files if file.path.startswith("box/")}
    signed[MAIN] = signed[BOOTSTRAP]
    for name, data in box.members.items():
        if name not in (MANIFEST, SIGNATURE, KEY) and signed.get(name) != hashlib.sha256(data).hexdigest():
            raise BoxError(f"{name} in the archive of the box is not the signed one", "do not trust this box")


def copy(source: BinaryIO, target: BinaryIO | None, size: int, on_bytes: Callable[[int], None]) -> str:
    """The SHA-256 of the next ``size`` bytes, which also go to ``target``, if any; empty when there are fewer.

    Raises OSError."""
    hasher = hashlib.sha256()
    while size > 0:
        data = source.read(min(PIECE, size))
        if not data:
            return ""
        if target is not None:
            target.write(data)
        hasher.update(data)
        size -= len(data)
        on_bytes(len(data))
    return hasher.hexdigest()
