"""MODEL on a command line -> what it means: a GGUF file, a checkpoint folder, or a name with perhaps a level."""

from __future__ import annotations

import difflib
import os
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from convert.levels import parse_level
from edge import store
from edge.errors import ModelNotFound

EMBEDDED = ("tiny-qwen", "tiny-glm")


@dataclass(frozen=True)
class Reference:
    """Exactly one of ``gguf`` (a file), ``checkpoint`` (a folder) is set, or neither for a name in the store.

    ``name`` is what the model is, or would be, called in the store; ``level`` the one asked for, if any.
    """

    text: str
    name: str
    level: str | None = None
    gguf: Path | None = None
    checkpoint: Path | None = None


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
    if looks_like_path(text):
        what = "is not a checkpoint: it has no config.json" if path.is_dir() else "does not exist"
        raise ModelNotFound(f"{text} {what}", "give a name, a checkpoint folder or a .gguf file")
    name, _, level = text.partition(":")
    store.check_name(name)
    wanted = parse_level(level).name if level else None
    if name in EMBEDDED:
        return Reference(text, name, wanted, checkpoint=Path(str(files("edge.models") / name)))
    return Reference(text, name, wanted)


def looks_like_path(text: str) -> bool:
    separators = [os.sep, "/", *([os.altsep] if os.altsep else [])]
    return any(sep in text for sep in separators) or text.startswith((".", "~")) or Path(text).is_dir()


def find(reference: Reference, models: Path) -> store.StoredModel | None:
    """The stored file that the reference means, or None when it has not been converted yet.

    A file made from a checkpoint that has changed since does not count.
    """
    stored = store.levels_of(models, reference.name)
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
    have = store.levels_of(models, reference.name)
    if have and reference.level:
        levels = ", ".join(model.level for model in have)
        raise ModelNotFound(f"{reference.name} is not there at {reference.level}", f"there is {levels}")
    names = sorted({model.name for model in store.all_models(models)} | set(EMBEDDED))
    near = difflib.get_close_matches(reference.name, names, n=1)
    hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(names)}"
    raise ModelNotFound(f"there is no model called {reference.name}", hint)
