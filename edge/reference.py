"""MODEL on a command line -> what it means: a GGUF file, a checkpoint folder, or a name with perhaps a level.

A name is one of the store, one of the lock however it is written (``qwen2.5:7b``), or a hub's ``org/repo``.
"""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from convert.errors import EdgeError
from convert.levels import parse_level
from edge import names, store
from edge.errors import ModelNotFound
from edge.lock_file import check_repo, read_lock, shipped_path

EMBEDDED = ("tiny-qwen", "tiny-glm")


@dataclass(frozen=True)
class Reference:
    """Exactly one of ``gguf`` (a file), ``checkpoint`` (a folder) is set, or neither for a name in the store.

    ``name`` is what the model is, or would be, called in the store, ``locked`` what the shipped lock calls it;
    ``typed`` the name as it was given; ``level`` the one asked for, if any.
    """

    text: str
    name: str
    level: str | None = None
    gguf: Path | None = None
    checkpoint: Path | None = None
    locked: str | None = None
    typed: str = ""


def parse(text: str) -> Reference:
    """Understand MODEL; looks only at whether files exist. Raises EdgeError naming what is wrong."""
    if not text:
        raise ModelNotFound("MODEL is empty", "give a name, a checkpoint folder or a .gguf file")
    path = Path(text).expanduser()
    if text.lower().endswith(".gguf"):
        if not path.is_file():
            raise ModelNotFound(f"there is no file {text}", "`edge list` shows the models that are there")
        return Reference(text, path.stem, gguf=path)
    if (path / "config.json").is_file():
        return Reference(text, path.resolve().name, checkpoint=path)
    if looks_like_path(text) and not looks_like_repo(text):
        what = "is not a checkpoint: it has no config.json" if path.is_dir() else "does not exist"
        raise ModelNotFound(f"{text} {what}", "give a name, a checkpoint folder or a .gguf file")
    name, level = split_level(text)
    if name in EMBEDDED:
        return Reference(text, name, level, checkpoint=Path(str(files("edge.models") / name)))
    locked = locked_name(name)
    if "/" in name or ":" in name:
        return Reference(text, locked or names.resolve(name, {}).name, level, locked=locked, typed=name)
    return Reference(text, store.check_name(name), level, locked=locked, typed=name)


def split_level(text: str) -> tuple[str, str | None]:
    """``name:level`` as two; a colon may also be part of a name the lock knows, as in ``qwen2.5:7b``."""
    name, _, level = text.rpartition(":")
    if not name:
        return text, None
    try:
        return name, parse_level(level).name
    except EdgeError:
        if locked_name(text):
            return text, None
        raise


def locked_name(name: str) -> str | None:
    """What the shipped lock calls ``name``, if it knows it."""
    shipped = read_lock(shipped_path())
    try:
        found = names.resolve(name, shipped).name
    except ModelNotFound:
        return None
    return found if found in shipped else None


def looks_like_path(text: str) -> bool:
    separators = [os.sep, "/", *([os.altsep] if os.altsep else [])]
    return any(sep in text for sep in separators) or text.startswith((".", "~")) or Path(text).is_dir()


def looks_like_repo(text: str) -> bool:
    """``org/repo``, but for a path: one that begins at a folder which is here."""
    try:
        org = check_repo(text.partition(":")[0]).partition("/")[0]
    except ValueError:
        return False
    return not Path(org).exists()


def stored_levels(reference: Reference, models: Path) -> list[store.StoredModel]:
    """The model's files in the store, under its own name, else under the lock's."""
    stored = store.levels_of(models, reference.name)
    return stored or (store.levels_of(models, reference.locked) if reference.locked else [])


def find(reference: Reference, models: Path) -> store.StoredModel | None:
    """The stored file that the reference means, or None when it has not been converted yet.

    A file made from a checkpoint that has changed since does not count.
    """
    stored = stored_levels(reference, models)
    if reference.checkpoint is not None:
        now = store.fingerprint(reference.checkpoint)
        stored = [model for model in stored if model.report.get("fingerprint") == now]
    if reference.level is not None:
        return next((model for model in stored if model.level == reference.level), None)
    return store.preferred(stored)


def gguf_path(reference: Reference, models: Path) -> Path:
    """The GGUF file that the reference means. Raises ModelNotFound with the nearest name there is."""
    if reference.gguf is not None:
        return reference.gguf
    if (found := find(reference, models)) is not None:
        return found.path
    if reference.checkpoint is not None:
        raise ModelNotFound(f"{reference.text} has not been converted yet", f"run: edge convert {reference.text}")
    have = stored_levels(reference, models)
    if have and reference.level:
        levels = ", ".join(model.level for model in have)
        raise ModelNotFound(f"{reference.name} is not there at {reference.level}", f"there is {levels}")
    if reference.locked or "/" in reference.text:
        raise ModelNotFound(f"{reference.text} is not here yet", f"run: edge convert {reference.text}")
    names = sorted({model.name for model in store.all_models(models)} | set(EMBEDDED))
    near = difflib.get_close_matches(reference.name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(names)}"
    raise ModelNotFound(f"there is no model called {reference.name}", hint)
