"""What is known of MODEL before it is here: its tensors, its files that are here, and how much there is to fetch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from convert.errors import EdgeError
from convert.gguf_file import GgufFile
from edge import reference, store
from edge.lock import LockedModel
from edge.model_file import level_of, read_sane
from edge.receipt import read_receipt
from edge.reference import Reference
from edge.shapes import ModelShape, from_checkpoint_config, from_config, from_gguf
from edge.user_lock import known_models

CHECKPOINT_WEIGHT = 2  # bytes of a weight in a bf16 checkpoint


@dataclass(frozen=True)
class Source:
    """``files``: level -> the file that is here; ``download``: bytes to fetch before a conversion, 0 where the
    checkpoint is here; None where only files are, and nothing can be converted."""

    name: str
    shape: ModelShape
    files: Mapping[str, GgufFile] = field(default_factory=dict)
    download: int | None = 0
    level: str | None = None


def find_source(model: str, models: Path) -> Source:
    """Understand MODEL. Uses no network. Raises EdgeError for one that neither the lock nor the store knows."""
    wanted = reference.parse(model)
    if wanted.gguf is not None:
        file = read_sane(wanted.gguf)
        return Source(wanted.name, from_gguf(file), {level_of(file) or wanted.name: file}, None)
    stored = [one for one in reference.stored_levels(wanted, models) if is_current(wanted, one.level, models)]
    files = {one.level: read_sane(one.path) for one in stored}
    if wanted.checkpoint is not None:
        shape = from_checkpoint_config(read_config(wanted.checkpoint))
        return Source(wanted.name, shape, files, 0, wanted.level)
    name = wanted.locked or wanted.name
    locked = known_models(models).get(name)
    if locked and locked.architecture and locked.context_length:
        shape = from_config(locked.architecture, locked.config, locked.context_length)
        return Source(name, shape, files, download_bytes(locked, shape, models), wanted.level)
    if files:
        return Source(wanted.name, from_gguf(next(iter(files.values()))), files, None, wanted.level)
    if locked or "/" in model:
        what = wanted.typed or model
        raise EdgeError(f"nothing is known of {what} yet", f"run: edge lock {what}, which fetches its config alone")
    reference.gguf_path(wanted, models)  # says which name is near
    raise AssertionError("a model that is not there has no file")


def is_current(wanted: Reference, level: str, models: Path) -> bool:
    """Not made from a checkpoint that has changed since."""
    return reference.find(replace(wanted, level=level), models) is not None


def read_config(checkpoint: Path) -> Mapping[str, object]:
    try:
        return json.loads((checkpoint / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise EdgeError(f"cannot read config.json of {checkpoint}: {error}", "fetch the checkpoint again") from error


def download_bytes(locked: LockedModel, shape: ModelShape, models: Path) -> int:
    """The locked files' sizes where all are known, else two bytes a weight; 0 where they are here already."""
    if read_receipt(store.checkpoint_path(models, locked.name), locked.name).complete:
        return 0
    if locked.complete:
        return sum(file.size for file in locked.files)
    return CHECKPOINT_WEIGHT * shape.parameters
