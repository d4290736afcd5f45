"""What ``edge bench`` measured of a model on this machine, kept in ``MODELS/.measured/`` for ``edge plan`` to compare
itself with."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.gguf_file import GgufFile
from edge import kept
from edge.tuned import machine_key, model_key

FIGURES = ("pp512", "tg128", "decode", "ttft", "load", "peak_memory", "threads", "threads_batch")


def path_for(models: Path, file: GgufFile) -> Path:
    return models / ".measured" / f"{machine_key()}-{model_key(file)}.json"


def load(models: Path, file: GgufFile) -> dict[str, float]:
    """The figures of this file's like on this machine; empty where there are none, or they are damaged."""
    value = kept.read(path_for(models, file))
    return figures(value) if isinstance(value, dict) else {}


def save(models: Path, file: GgufFile, level: Mapping[str, Any]) -> None:
    """Keep a level of a result of ``edge bench``. Raises StoreError."""
    kept.write(path_for(models, file), figures(level))


def figures(value: Mapping[str, Any]) -> dict[str, float]:
    """The numbers among them that can be."""
    found = {key: value[key] for key in FIGURES if type(value.get(key)) in (int, float)}
    return {key: float(one) for key, one in found.items() if 0 < one <= sys.float_info.max}
