"""The answers of a comparison that was cut, so that the same one goes on where it was.

A file of JSON lines in ``MODELS/.compare``, named by all that an answer depends on. A line that is half written, or
damaged, is asked again.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge import store
from edge.errors import StoreError

MOST_BYTES = 1 << 28
NUMBERS = ("ttft", "seconds", "rate")
IDENTITY = ("model", "suite", "question", "variant", "repeat")

Key = tuple[Any, ...]


def key_of(answer: Mapping[str, Any]) -> Key:
    return tuple(answer.get(name) for name in IDENTITY)


class Journal:
    """``about``: everything that the answers depend on."""

    def __init__(self, models: Path, about: Any) -> None:
        digest = hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:24]
        self._path = models / ".compare" / f"{digest}.jsonl"

    def read(self) -> dict[Key, dict[str, Any]]:
        """What was answered already."""
        try:
            if self._path.stat().st_size > MOST_BYTES:
                return {}
            lines = self._path.read_bytes().splitlines()
        except OSError:
            return {}
        return {key_of(answer): answer for line in lines if (answer := parsed(line)) is not None}

    def add(self, answer: Mapping[str, Any]) -> None:
        """Kept through a power cut. Raises StoreError."""
        store.make_folder(self._path.parent)
        try:
            with self._path.open("ab") as file:
                file.write(json.dumps(answer, ensure_ascii=False).encode("utf-8", "replace") + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StoreError(f"cannot write {self._path}: {error.strerror}", "free some space") from error

    def forget(self) -> None:
        self._path.unlink(missing_ok=True)


def parsed(line: bytes) -> dict[str, Any] | None:
    """An answer as ``edge.compare.run`` makes it, None for anything else."""
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        return None
    right = (
        isinstance(answer, dict)
        and all(type(answer.get(name)) is kind for name, kind in zip(IDENTITY, (int, str, str, str, int), strict=True))
        and isinstance(answer.get("texts"), list)
        and all(isinstance(text, str) for text in answer["texts"])
        and isinstance(answer.get("detail"), dict)
        and all(type(answer.get(name)) in (int, float, type(None)) for name in (*NUMBERS, "score"))
    )
    return answer if right else None
