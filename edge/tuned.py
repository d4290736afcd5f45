"""The settings that a model likes on this machine, as ``edge tune`` measured them; kept in ``MODELS/.tuned/``.

Everything that loads a model uses them, but for what its caller chose. They are of one machine (its CPU, the cores
that this process may use, the library's build) and one model (shapes and types of its tensors): for another there are
none, and the defaults stand.
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from convert.gguf_file import GgufFile
from edge import kept, machine
from edge.llama import library

NO_LIMIT = 256  # of the decode width: as many sequences as a context can have
COUNTS = {"threads": 512, "threads_batch": 512, "rows": 4096, "width": NO_LIMIT}  # the most of each


@dataclass(frozen=True)
class Tuned:
    """``threads`` decode one row, ``threads_batch`` everything wider; ``rows``: the most that are computed at once;
    ``width``: how many sequences decode in a step at most; ``gpu_layers`` it was measured with.

    ``measured``: setting -> choice -> tokens/s, which is what decided. ``made``: when, as ISO 8601.
    """

    threads: int
    threads_batch: int
    flash_attn: bool
    rows: int
    width: int
    gpu_layers: int = 0
    made: str = ""
    measured: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def path_for(models: Path, file: GgufFile) -> Path:
    return models / ".tuned" / f"{machine_key()}-{model_key(file)}.json"


def load(models: Path, file: GgufFile) -> Tuned | None:
    """The settings kept for this model on this machine, None without any; what is damaged counts as none."""
    try:
        return checked(kept.read(path_for(models, file)))
    except ValueError:
        return None


def save(models: Path, file: GgufFile, tuned: Tuned) -> Path:
    """Keep them, whole or not at all. Raises StoreError."""
    path = path_for(models, file)
    kept.write(path, asdict(tuned))
    return path


def checked(value: Any) -> Tuned:
    """Raises ValueError for anything that ``save`` would not have written."""
    if not isinstance(value, dict) or value.keys() != asdict(Tuned(1, 1, False, 1, 1)).keys():
        raise ValueError("not the settings of a model")
    for key, most in COUNTS.items():
        if type(value[key]) is not int or not 1 <= value[key] <= most:
            raise ValueError(f"{key} is no count")
    if type(value["flash_attn"]) is not bool or type(value["gpu_layers"]) is not int or type(value["made"]) is not str:
        raise ValueError("a setting of another type")
    measured = value["measured"]
    if not isinstance(measured, dict) or not all(isinstance(rates, dict) for rates in measured.values()):
        raise ValueError("no table of rates")
    for rates in measured.values():
        if not all(type(rate) in (int, float) and abs(rate) <= sys.float_info.max for rate in rates.values()):
            raise ValueError("a rate that is no number")
    return Tuned(**value)


def machine_key() -> str:
    """Changes with the CPU, the cores that this process may use, and the library's build."""
    cores = machine.cores()
    parts = [machine.cpu().name, cores.logical, cores.usable, machine.usable_cores(), library.version()]
    return digest([*parts, sorted(library.built_for() or ()), gpu_libraries()])


def gpu_libraries() -> list[str]:
    """The backends beside the CPU's that the library's folder holds."""
    where = library.folder()
    return sorted(path.name for path in where.glob("*ggml-*") if not re.search("cpu|base", path.name)) if where else []


def model_key(file: GgufFile) -> str:
    """Changes with the architecture and with shape and type of any tensor; the weights' values do not matter."""
    arch = file.metadata.get("general.architecture")
    return digest([arch, [(tensor.name, tensor.shape, tensor.type) for tensor in file.tensors]])


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:16]
