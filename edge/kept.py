"""Small JSON files that are kept between runs, and read without trust."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from convert.durable import write_text
from edge import store
from edge.errors import StoreError

MAX_BYTES = 1 << 16


def read(path: Path) -> Any:
    """What is there; None where nothing is, or what is no JSON, or too much."""
    try:
        return None if path.stat().st_size > MAX_BYTES else json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def write(path: Path, value: Any) -> None:
    """Whole or not at all; the folder is made. Raises StoreError."""
    store.make_folder(path.parent)
    try:
        write_text(path, json.dumps(value, indent=2) + "\n")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}", "choose another place with --models-dir") from error
