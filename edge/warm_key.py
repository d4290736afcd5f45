"""What a kept prefix depends on, as one digest: a state of another model, build or context would be nonsense to C."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from convert.gguf_file import GgufFile
from edge.llama import library
from edge.llama.context import Context

FORMAT = 1  # of what is kept; a new one makes everything that was kept worthless
SAMPLE = 4096  # bytes
PIECES = 64  # of a library


def prefix_key(context: Context, tokens: Sequence[int]) -> bytes:
    """32 bytes. Threads are not in it: how a prompt is cut into steps changes more of what is computed. Raises
    OSError."""
    settings: dict[str, Any] = {
        "format": FORMAT,
        "tokens": list(tokens),
        "cells": context.n_ctx_seq,
        "sequences": context.n_seq_max,
        "rows": [context.n_batch, context.n_ubatch],
        "kv_type": context.kv_type,
        "flash_attn": context.flash_attn,
        "rope": context.rope and [context.rope.original, context.rope.factor],
        "model": model_digest(context.model.file),
        "library": library_digest(),
    }
    return hashlib.blake2b(json.dumps(settings, sort_keys=True).encode(), digest_size=32).digest()


def model_digest(file: GgufFile) -> str:
    """Changes with the file, without reading gigabytes at each start: its size and time, all before the tensors' data,
    and of each tensor's data the beginning, the middle and the end.

    The SHA-256 that a conversion or a box names says what the bytes were then; this looks at what is there now. Another
    training of the same model changes every tensor, and a file put in place of another has another time.
    """
    pieces = [(0, file.data_offset)]
    for tensor in file.tensors:
        last = max(0, tensor.nbytes - SAMPLE)
        start = file.data_offset + tensor.offset
        pieces += [(start + place, min(SAMPLE, tensor.nbytes)) for place in sorted({0, last // 2, last})]
    return digest_of(file.path, pieces)


def library_digest() -> str:
    """Changes with the build of llama.cpp that is loaded: the version, and of each library size, time and samples."""
    where = library.folder()
    files = sorted(path for path in where.iterdir() if is_library(path)) if where else []
    return json.dumps([library.version(), [[path.name, digest_of(path, evenly(path))] for path in files]])


def is_library(path: Path) -> bool:
    return bool({".so", ".dylib", ".dll"} & set(path.suffixes)) and path.is_file()


def evenly(path: Path) -> list[tuple[int, int]]:
    """Pieces all over a file; one with kernels for GPUs has hundreds of megabytes."""
    size = path.stat().st_size
    return [(size * part // PIECES, SAMPLE) for part in range(PIECES)]


def digest_of(path: Path, pieces: Iterable[tuple[int, int]]) -> str:
    """Of size, time, and pieces of the content, each an offset and a number of bytes."""
    seen = hashlib.blake2b(digest_size=32)
    with path.open("rb", buffering=0) as data:
        found = os.fstat(data.fileno())
        seen.update(f"{found.st_size} {found.st_mtime_ns} ".encode())
        for offset, count in sorted(pieces):
            data.seek(offset)
            seen.update(data.read(count))
    return seen.hexdigest()
