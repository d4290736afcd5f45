"""What an output's bytes depend on beside its checkpoint: only outputs of the same recipe can be compared."""

from __future__ import annotations

import functools
import hashlib
import platform
from pathlib import Path

import convert
import edge
from edge.llama import library
from edge.lock import Output


@functools.cache
def converter() -> str:
    """This version of the program, and a digest of the converter's own source."""
    root = Path(convert.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes())
    return f"edge {edge.__version__} ({digest.hexdigest()[:12]})"


def library_build() -> str:
    """The library that quantizes, with the instruction sets it was compiled for."""
    sets = library.built_for()
    return f"{library.PACKAGE} {library.version()} ({' '.join(sorted(sets)) if sets else 'unknown build'})"


def output(level: str, sha256: str) -> Output:
    """A result of this machine, for the lock."""
    return Output(level, converter(), platform.machine().lower(), library_build(), sha256)
