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
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from convert.durable import publish, write_text
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


def checkpoints(models: Path) -> dict[str, int]:
    """The fetched checkpoints: name -> bytes."""
    with reading(models):
        folders = [path for path in sorted(models.glob("*/checkpoint")) if NAME.fullmatch(path.parent.name)]
        return {
            folder.parent.name: sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
            for folder in folders
        }


def remove_checkpoint(models: Path, name: str) -> None:
    """Delete what was fetched of one model; its folder too when nothing is left in it."""
    folder = checkpoint_path(models, name)
    try:
        shutil.rmtree(folder)
        with contextlib.suppress(OSError):
            folder.parent.rmdir()
    except OSError as error:
        raise StoreError(f"cannot remove {folder}: {error.strerror}", "mend its rights") from error


@contextlib.contextmanager
def reading(models: Path) -> Iterator[None]:
    """Turns what keeps the models folder from being read into a StoreError; a missing one is empty."""
    try:
        yield
    except NotADirectoryError as error:
        raise StoreError(f"{models} is not a folder", "choose another with --models-dir or EDGE_HOME") from error
    except PermissionError as error:
        raise StoreError(f"cannot read {models}: {error.strerror}", "mend its rights") from error


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
    with reading(models), contextlib.suppress(FileNotFoundError):
        for folder in sorted(path for path in models.iterdir() if path.is_dir() and NAME.fullmatch(path.name)):
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
        prepared_path(model.path).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            model.path.parent.rmdir()
    except OSError as error:
        raise StoreError(f"cannot remove {model.path}: {error.strerror}", "mend its rights") from error


def report_path(gguf: Path) -> Path:
    return gguf.with_name(gguf.name + ".json")


def prepared_path(gguf: Path) -> Path:
    """Where the report of the next file lies until that has its name."""
    return gguf.with_name(gguf.name + ".json.new")


def read_report(gguf: Path) -> dict[str, Any]:
    """How the file was made; empty when nothing is known, or the file is no longer the one the report is about."""
    try:
        report = kept_report(gguf)
        return report if report.get("bytes") == gguf.stat().st_size else {}
    except OSError:
        return {}


def kept_report(gguf: Path) -> dict[str, Any]:
    """What the conversion wrote beside the file, whatever has become of that since; empty when there is nothing."""
    prepared = read_table(prepared_path(gguf))
    with contextlib.suppress(OSError):  # a kill came between the two names
        if prepared and prepared.get("mtime_ns") == gguf.stat().st_mtime_ns:
            return prepared
    return read_table(report_path(gguf))


def read_table(path: Path) -> dict[str, Any]:
    """A JSON object; empty when there is none."""
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        return report if isinstance(report, dict) else {}
    except (OSError, ValueError, RecursionError):
        return {}


def prepare_report(gguf: Path, report: dict[str, Any]) -> None:
    """Write the report of a file that has not got its name yet. Raises StoreError."""
    with writing(prepared_path(gguf), "free some space, or mend the rights"):
        write_text(prepared_path(gguf), json.dumps(report, ensure_ascii=False, indent=2) + "\n")


def publish_report(gguf: Path) -> None:
    """The file has its name: so may the report that was prepared. Raises StoreError."""
    with writing(report_path(gguf), "the model itself is in place"):
        publish(prepared_path(gguf), report_path(gguf))


@contextlib.contextmanager
def writing(path: Path, hint: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror}", hint) from error


def fingerprint(checkpoint: Path) -> str:
    """Changes when a file of the checkpoint folder does: names, sizes and times, without reading weights."""
    seen = hashlib.sha256()
    for path in sorted(checkpoint.iterdir()):
        if path.suffix in (".json", ".safetensors", ".jinja", ".model", ".tiktoken") and path.name[0] != ".":
            stat = path.stat()
            seen.update(f"{path.name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
    return seen.hexdigest()
