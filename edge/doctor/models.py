"""The state of the models that are here, by headers, sizes and reports: no weight is read."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path

from convert import gguf_file
from convert.errors import EdgeError
from convert.gguf_file import GgufError
from edge import store
from edge.conversion import gate_text
from edge.doctor.check import Check
from edge.gguf_sane import check_sane
from edge.lock import Lock
from edge.receipt import read_receipt
from edge.reference import EMBEDDED
from edge.store import StoredModel
from edge.text import size_text
from edge.user_lock import known_models

MOST = 20  # lines of models
WORST_FIRST = {"bad": 0, "warn": 1, "ok": 2}


def model_checks(models: Path) -> list[Check]:
    """A line for each file and each checkpoint of the models folder; of more than MOST the worst, and a count."""
    lock_line: list[Check] = []
    known: Lock = {}
    try:
        known = known_models(models)
    except (EdgeError, OSError) as error:
        lock_line = [failure("models.lock", error)]
    try:
        lines = [stored(model, models, known) for model in store.all_models(models)]
        lines += [fetched(models, name, nbytes) for name, nbytes in store.checkpoints(models).items()]
    except (EdgeError, OSError) as error:
        return [*lock_line, failure("models", error)]
    return [*lock_line, *(shortened(lines) or [Check("models", "ok", "none yet; edge convert MODEL makes one")])]


def failure(name: str, error: EdgeError | OSError) -> Check:
    if isinstance(error, EdgeError):
        return Check(name, "bad", error.message, error.hint)
    return Check(name, "bad", f"cannot read {error.filename}: {error.strerror}", "mend its rights, or the disk")


def shortened(lines: list[Check]) -> list[Check]:
    if len(lines) <= MOST:
        return lines
    lines = sorted(lines, key=lambda line: WORST_FIRST[line.status])
    rest = lines[MOST:]
    words = {"bad": "bad", "warn": "to look at", "ok": "ok"}
    counted = Counter(line.status for line in rest)
    text = ", ".join(f"{counted[status]} {word}" for status, word in words.items() if counted[status])
    return [*lines[:MOST], Check("models", rest[0].status, f"{len(rest)} more: {text}")]


# --- converted files


def stored(model: StoredModel, models: Path, known: Lock) -> Check:
    """Whether the file is whole, what llama.cpp can run, and was checked."""
    name = f"model {model.name}:{model.level}"
    again = how_to_make(model, models, known)
    mend = again or f"edge rm {model.name}:{model.level}{option(models)}"
    kept = store.kept_report(model.path).get("bytes")
    if type(kept) is int and kept != model.nbytes:
        return Check(name, "bad", f"{model.nbytes} bytes, but {kept} were written", mend)
    try:
        check_sane(gguf_file.read(model.path))
    except GgufError as error:
        return Check(name, "bad", error.message.removeprefix(f"{model.path.name}: "), mend)
    verdict = gate_text(model.report)
    found = f"{size_text(model.nbytes)}, gate {verdict}"
    if verdict == "passed":
        return Check(name, "ok", found)
    if "needs" in verdict:
        return Check(name, "warn", found, "convert it where so much memory is free")
    return Check(name, "warn", found if model.report else f"{found}: it was not converted here", again)


def how_to_make(model: StoredModel, models: Path, known: Lock) -> str:
    """The command that converts to this file again; empty where nothing tells what it was made from."""
    level = f"--level {model.level}{option(models)}"
    if model.name in EMBEDDED or model.name in known:
        return f"edge convert {model.name} {level}"
    source = store.kept_report(model.path).get("checkpoint")
    if isinstance(source, str) and (Path(source) / "config.json").is_file():
        return f"edge convert {shlex.quote(source)} --name {model.name} {level}"
    return ""


def option(models: Path) -> str:
    """What a command needs to find this folder."""
    return "" if models == store.models_dir() else f" --models-dir {shlex.quote(str(models))}"


# --- fetched checkpoints


def fetched(models: Path, name: str, nbytes: int) -> Check:
    """Whether all files that a conversion needs are there, as they were when they were hashed."""
    line, size = f"model {name}:checkpoint", size_text(nbytes)
    folder = store.checkpoint_path(models, name)
    receipt = read_receipt(folder, name)
    changed = [file for file, then in receipt.files.items() if not then.still(folder / file)]
    wrong = [file for file in changed if size_of(folder / file) != receipt.files[file].size]
    if not receipt.complete:
        return Check(line, "warn", f"{size}, not whole", f"edge pull {name}{option(models)}")
    if wrong:
        found = f"{size}; missing or of another size: {', '.join(wrong[:3])}{' ...' if len(wrong) > 3 else ''}"
        return Check(line, "bad", found, f"edge verify {name} --repair{option(models)}")
    if changed:
        found = f"{size}, whole, but moved or changed since it was hashed"
        return Check(line, "warn", found, f"edge verify {name}{option(models)}")
    return Check(line, "ok", f"{size}, whole")


def size_of(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None
