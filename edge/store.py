"""Where models live: ``MODELS/NAME/NAME-LEVEL.gguf``, each with a ``.json`` beside it that tells how it was made.

The folder is ``--models-dir``, else ``$EDGE_HOME/models``, else the system's place for a program's data.
Nothing outside it is ever changed, so moving or removing the folder moves or removes everything.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from convert.durable import write_text
from convert.levels import LEVELS
from edge.errors import StoreError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
PREFERRED = ("Q4_K_M", "Q8_0", "Q4_0")  # which level a bare name means, where several are there


@dataclass(frozen=True)
class StoredModel:
    """One GGUF of the store. ``report`` is what the conversion wrote beside it, empty if nothing did."""

    name: str
    level: str
    path: Path
    nbytes: int
    report: dict[str, Any]


def models_dir(chosen: Path | None = None) -> Path:
    """The models folder; it need not exist yet."""
    if chosen is not None:
        return chosen
    home = os.environ.get("EDGE_HOME")
    return (Path(home) if home else Path(platformdirs.user_data_dir("edge", appauthor=False))) / "models"


def check_name(name: str) -> str:
    """``name`` if it can be a model's name; it becomes a folder, so it must not lead elsewhere."""
    if not NAME.fullmatch(name) or ".." in name:
        raise StoreError(f"{name!r} cannot be a model's name", "use letters, digits, . - _ (edge convert takes --name)")
    return name


def file_path(models: Path, name: str, level: str) -> Path:
    return models / check_name(name) / f"{name}-{level}.gguf"


def checkpoint_path(models: Path, name: str) -> Path:
    """Where the fetched checkpoint of a model lies."""
    return models / check_name(name) / "checkpoint"


def make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(
            f"cannot make {folder}: {error.strerror}", "choose another place with --models-dir or EDGE_HOME"
        ) from error


def all_models(models: Path) -> list[StoredModel]:
    """Every model of the store, by name, then from the finest level to the coarsest."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        try:
            folders = sorted(path for path in models.iterdir() if path.is_dir() and NAME.fullmatch(path.name))
        except NotADirectoryError as error:
            raise StoreError(f"{models} is not a folder", "choose another with --models-dir or EDGE_HOME") from error
        except PermissionError as error:
            raise StoreError(f"cannot read {models}: {error.strerror}", "mend its rights") from error
        for folder in folders:
            found += levels_of(models, folder.name)
    return found


def levels_of(models: Path, name: str) -> list[StoredModel]:
    """The files of one model, from the finest level to the coarsest."""
    found = []
    for level in LEVELS:
        path = file_path(models, name, level)
        if path.is_file():
            found.append(StoredModel(name, level, path, path.stat().st_size, read_report(path)))
    return found


def preferred(stored: list[StoredModel]) -> StoredModel | None:
    """The one that a name without a level means."""
    by_level = {model.level: model for model in stored}
    return next((by_level[level] for level in PREFERRED if level in by_level), stored[0] if stored else None)


def remove(model: StoredModel) -> None:
    """Delete one file and its report; the folder too when nothing is left in it."""
    try:
        model.path.unlink()
        report_path(model.path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            model.path.parent.rmdir()
    except OSError as error:
        raise StoreError(f"cannot remove {model.path}: {error.strerror}", "mend its rights") from error


def report_path(gguf: Path) -> Path:
    return gguf.with_name(gguf.name + ".json")


def read_report(gguf: Path) -> dict[str, Any]:
    """How the file was made; empty when nothing is known, or the file is no longer the one the report is about."""
    try:
        report = kept_report(gguf)
        return report if report.get("bytes") == gguf.stat().st_size else {}
    except OSError:
        return {}


def kept_report(gguf: Path) -> dict[str, Any]:
    """What the conversion wrote beside the file, whatever has become of that since; empty when there is nothing."""
    try:
        report = json.loads(report_path(gguf).read_text(encoding="utf-8"))
        return report if isinstance(report, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def write_report(gguf: Path, report: dict[str, Any]) -> None:
    """Put the report beside the file, whole or not at all."""
    path = report_path(gguf)
    try:
        write_text(path, json.dumps(report, ensure_ascii=False, indent=2) + "\n")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}", "the model itself is in place") from error


def fingerprint(checkpoint: Path) -> str:
    """Changes when a file of the checkpoint folder does: names, sizes and times, without reading weights."""
    seen = hashlib.sha256()
    for path in sorted(checkpoint.iterdir()):
        if path.suffix in (".json", ".safetensors", ".jinja", ".model", ".tiktoken") and path.name[0] != ".":
            stat = path.stat()
            seen.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return seen.hexdigest()
