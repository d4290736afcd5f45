"""A model's file: read and checked, the level that it says it has, and levels in order."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from convert import gguf_file
from convert.gguf_file import GgufFile
from convert.levels import LEVELS, parse_level
from edge.gguf_sane import check_sane

Value = TypeVar("Value")
LEVEL_OF_FTYPE = {int(level.ftype): level.name for level in LEVELS.values()}


def read_sane(path: Path) -> GgufFile:
    """Its header, which C may see. Raises GgufError."""
    file = gguf_file.read(path)
    check_sane(file)
    return file


def level_of(file: GgufFile) -> str | None:
    """The level that the file says it has, None for one that we do not know."""
    ftype = file.metadata.get("general.file_type")
    return LEVEL_OF_FTYPE.get(ftype) if type(ftype) is int else None


def in_order(by_level: Mapping[str, Value]) -> dict[str, Value]:
    """The finest first; what is no level's name, last."""
    order = list(LEVELS)
    return dict(sorted(by_level.items(), key=lambda item: order.index(item[0]) if item[0] in order else len(order)))


def parse_levels(text: str | None) -> list[str]:
    """``Q8_0,q4_k_m`` as names, each once. Raises EdgeError."""
    return list(dict.fromkeys(parse_level(part.strip()).name for part in (text or "").split(",") if part.strip()))
