"""Read and write ``models.lock``: TOML with one file a line, in one order, so that a difference shows what changed.

Every value is checked: a lock may be damaged, and its names become paths.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path, PurePosixPath
from typing import Any

from convert.durable import write_text
from convert.levels import LEVELS
from edge.lock import CONFIG, Lock, LockedFile, LockedModel, LockError, Output, Source

VERSION = 1
MAX_BYTES = 16 << 20  # of a lock; the shipped one has 20 kB
HUBS = ("huggingface", "modelscope")
SUFFIXES = (".safetensors", ".json", ".jinja", ".model", ".tiktoken", ".txt", ".gguf")  # no code, no pickle
DEVICES = {"con", "prn", "aux", "nul"} | {f"{port}{number}" for port in ("com", "lpt") for number in range(10)}


def shipped_path() -> Path:
    """The lock that came with the program, in the package when installed, above it in a source tree; or ``EDGE_LOCK``,

    with which who ships devices pins models of their own.
    """
    if chosen := os.environ.get("EDGE_LOCK"):
        return Path(chosen)
    package = Path(__file__).resolve().parent
    installed = package / "models.lock"
    return installed if installed.is_file() else package.parent / "models.lock"


def read_lock(path: Path, *, missing_ok: bool = False) -> Lock:
    """The models of the lock at ``path``; none if there is no file and that is allowed. Raises LockError."""
    hint = "mend it, or delete it to start afresh"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise LockError(f"{path} is too big for a lock", hint)
        content = tomllib.loads(path.read_bytes().decode("utf-8"))
        models = _lock(content)
    except FileNotFoundError as error:
        if missing_ok:
            return {}
        hint = "EDGE_LOCK names it" if os.environ.get("EDGE_LOCK") else "install the program again, or restore the file"
        raise LockError(f"there is no lock at {path}", hint) from error
    except OSError as error:
        raise LockError(f"cannot read {path}: {error.strerror}", "mend its rights") from error
    except (ValueError, RecursionError) as error:
        raise LockError(f"the lock {path} is damaged: {error}", hint) from error
    return models


def check_file_name(name: Any) -> str:
    """``name`` if it may be written below a checkpoint's folder on every system. Raises ValueError."""
    if not isinstance(name, str) or len(name) > 200 or not all(_safe(part) for part in name.split("/")):
        raise ValueError(f"{str(name)[:200]!r} cannot be a file's name here")
    if PurePosixPath(name).suffix not in SUFFIXES:
        raise ValueError(f"{name!r} is none of the kinds that are ever fetched ({' '.join(SUFFIXES)})")
    return name


def check_name(name: Any) -> str:
    """``name`` if it can be a locked model's name, which becomes a folder's. Raises ValueError."""
    if not isinstance(name, str) or len(name) > 100 or not _safe(name) or name[0] == "_" or name != name.lower():
        raise ValueError(f"{str(name)[:100]!r} cannot be a model's name")
    return name


def _safe(part: str) -> bool:
    """Whether this part of a path is an ordinary name on Linux, macOS and Windows."""
    ordinary = re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", part) and ".." not in part and not part.endswith(".")
    return bool(ordinary) and part.split(".")[0].lower() not in DEVICES


def _like(pattern: str, means: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if not isinstance(value, str) or not re.fullmatch(pattern, value) or ".." in value:
            raise ValueError(f"{str(value)[:100]!r} is not {means}")
        return value

    return check


def fits(check: Callable[[Any], str], value: Any) -> str | None:
    """``value`` if the lock could hold it, else None."""
    try:
        return check(value)
    except ValueError:
        return None


def _one_of(*allowed: str) -> Callable[[Any], str]:
    def check(value: Any) -> str:
        if value not in allowed:
            raise ValueError(f"{str(value)[:100]!r} is none of {', '.join(allowed)}")
        return value

    return check


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 50:
        raise ValueError(f"{str(value)[:100]!r} is not a count")
    return value


def _config(value: Any) -> dict[str, int | bool]:
    checks = {key: _count if key != "tie_word_embeddings" else _flag for key in CONFIG}
    return _checked(value, checks)


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{str(value)[:100]!r} is not true or false")
    return value


def _rows(kind: type, checks: Mapping[str, Callable], key: Callable[[Any], Any]) -> Callable[[Any], tuple]:
    """A check for an array of tables, no two of which have the same ``key``."""

    def check(value: Any) -> tuple:
        if not isinstance(value, list):
            raise ValueError("not a list")
        rows = tuple(_record(kind, checks, row) for row in value)
        seen = set()
        for row in rows:
            if key(row) in seen:
                raise ValueError(f"{key(row)!r} is there twice")
            seen.add(key(row))
        return rows

    return check


def _checked(table: Any, checks: Mapping[str, Callable]) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise ValueError("not a table")
    values = {}
    for key, value in table.items():
        if key not in checks:
            raise ValueError(f"{key[:100]!r} is not known here")
        try:
            values[key] = checks[key](value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
    return values


def _record(kind: type, checks: Mapping[str, Callable], table: Any, **given: Any) -> Any:
    values = _checked(table, checks)
    try:
        return kind(**given, **values)
    except TypeError as error:
        raise ValueError(f"something is missing beside {', '.join(values) or 'nothing'}") from error


LICENCE = _WORDS = _like(r"[ -~]{1,200}", "a line of plain text")
SHA256 = _like(r"[0-9a-f]{64}", "a SHA-256 (64 small hex digits)")
REVISION = _like(r"[A-Za-z0-9_][A-Za-z0-9._/-]{0,199}", "a revision")
# Without two hyphens in a row, as at Hugging Face: they stand for the slash in the names made of them.
_PART = r"[A-Za-z0-9](?:-?[A-Za-z0-9._]){0,95}"
check_repo = _like(f"{_PART}/{_PART}", "a repository (org/repo)")
_SOURCE = {
    "hub": _one_of(*HUBS),
    "repo": check_repo,
    "revision": REVISION,
}
_FILE = {"name": check_file_name, "size": _count, "sha256": SHA256}
_OUTPUT = {"level": _one_of(*LEVELS), "converter": _WORDS, "cpu": _WORDS, "library": _WORDS, "sha256": SHA256}
_MODEL = {
    "architecture": _like(r"[A-Za-z0-9_]{1,100}", "an architecture"),
    "licence": LICENCE,
    "context_length": _count,
    "config": _config,
    "sources": _rows(Source, _SOURCE, lambda source: source.place),
    "complete": _flag,
    "files": _rows(LockedFile, _FILE, lambda file: file.name.lower()),  # one file where case does not count
    "outputs": _rows(Output, _OUTPUT, lambda output: output.made_by),
}


def _lock(content: dict[str, Any]) -> dict[str, LockedModel]:
    if content.get("version") != VERSION:
        raise ValueError(f"its version is {str(content.get('version'))[:100]!r}, this program reads {VERSION}")
    models = content.get("models", {})
    if not isinstance(models, dict) or content.keys() - {"version", "models"}:
        raise ValueError("only a version and models belong in it")
    read = {}
    for name, table in models.items():
        try:
            read[name] = _record(LockedModel, _MODEL, table, name=check_name(name))
        except ValueError as error:
            raise ValueError(f"{name[:100]}: {error}") from error
    return read


# --- writing


def write_lock(path: Path, lock: Lock) -> None:
    """Put ``lock`` at ``path``, whole or not at all; comments at the top of an older file stay. Raises LockError."""
    text = lock_text(lock)
    try:
        _lock(tomllib.loads(text))  # what could not be read again is not written
    except ValueError as error:
        raise LockError(f"this does not belong in a lock: {error}") from error
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, _top_comments(path) + text)
    except OSError as error:
        raise LockError(
            f"cannot write {path}: {error.strerror}", "free some space, or mend the folder's rights"
        ) from error


def _top_comments(path: Path) -> str:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, UnicodeDecodeError):
        return ""
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(f"{line}\n" for line in lines[:end])


def lock_text(lock: Lock) -> str:
    """The one way to write a lock: models by name, then files and outputs by theirs; sources as they are tried."""
    lines = [f"version = {VERSION}"]
    for name, model in sorted(lock.items()):
        lines += ["", f"[models.{_value(name)}]"]
        for key in ("architecture", "licence", "context_length"):
            if getattr(model, key) is not None:
                lines.append(f"{key} = {_value(getattr(model, key))}")
        lines += [f"config.{key} = {_value(model.config[key])}" for key in CONFIG if key in model.config]
        lines += _array("sources", model.sources)
        lines += ["complete = true"] if model.complete else []
        lines += _array("files", sorted(model.files, key=lambda file: file.name))
        lines += _array("outputs", sorted(model.outputs, key=lambda output: output.made_by))
    return "\n".join(lines) + "\n"


def _array(key: str, rows: Iterable[Any]) -> list[str]:
    def line(row: Any) -> str:
        return ", ".join(f"{name} = {_value(value)}" for name, value in asdict(row).items() if value is not None)

    lines = [f"    {{ {line(row)} }}," for row in rows]
    return [f"{key} = [", *lines, "]"] if lines else []


def _value(value: str | int | bool) -> str:
    """One value as TOML. Its strings are printable ASCII, as the checks above demand."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
