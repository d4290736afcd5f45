"""Whether the files of a model are the locked ones, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge import store
from edge.errors import StoreError
from edge.hashing import sha256_of
from edge.lock import LockedModel, Output

State = Literal["ok", "missing", "damaged", "not locked"]


@dataclass(frozen=True)
class Finding:
    """One file; ``wanted`` and ``found`` are SHA-256 in hex digits, where they are known."""

    path: Path
    name: str
    state: State
    wanted: str | None = None
    found: str | None = None

    @property
    def text(self) -> str:
        if self.state == "damaged":
            return f"{self.name}: damaged: SHA-256 is {self.found}, not {self.wanted}"
        return f"{self.name}: {self.state}"


@dataclass(frozen=True)
class Check:
    """A file to hash: ``wanted`` is what is right; several for an output that may have been made in several ways."""

    path: Path
    name: str
    wanted: frozenset[str]


def checkpoint_checks(model: LockedModel, folder: Path) -> list[Check]:
    """The locked files of a checkpoint, in ``folder``."""
    return [Check(folder / file.name, file.name, frozenset((file.sha256,))) for file in model.files]


def stored_checks(model: LockedModel, models: Path) -> list[Check]:
    """The converted files of the store, each against the report beside it."""
    stored = [one.path for one in store.levels_of(models, model.name)]
    hashes = {path: store.kept_report(path).get("sha256") for path in stored}  # also of a file that was cut short
    return [Check(path, path.name, frozenset((sha,) if isinstance(sha, str) else ())) for path, sha in hashes.items()]


def gguf_checks(model: LockedModel, folder: Path) -> list[Check]:
    """The GGUF files of ``folder``, each against every output of its level that the lock has."""

    def wanted(path: Path) -> frozenset[str]:
        return frozenset(out.sha256 for out in model.outputs if path.stem.endswith(f"-{out.level}"))

    return [Check(path, path.name, wanted(path)) for path in sorted(folder.glob("*.gguf"))]


def verify(checks: Iterable[Check], on_progress: Callable[[str, int, int], None]) -> list[Finding]:
    """Hash every file, whatever its size and time say. Raises StoreError where one cannot be read."""
    checks = list(checks)
    sizes = {check.path: check.path.stat().st_size for check in checks if check.path.is_file()}
    done, total, findings = 0, sum(sizes.values()), []
    for check in checks:

        def progress(nbytes: int, name: str = check.name) -> None:
            nonlocal done
            done += nbytes
            on_progress(f"checking {name}", done, total)

        one = next(iter(check.wanted)) if len(check.wanted) == 1 else None
        if check.path not in sizes:
            findings.append(Finding(check.path, check.name, "missing", one))
            continue
        try:
            found = sha256_of(check.path, progress)
        except OSError as error:
            raise StoreError(f"cannot read {check.path}: {error.strerror}", "mend its rights, or the disk") from error
        state: State = "ok" if found in check.wanted else "damaged" if check.wanted else "not locked"
        findings.append(Finding(check.path, check.name, state, one, found))
    return findings


def compare(locked: Iterable[Output], made: Iterable[Output]) -> list[tuple[Output, Output | None]]:
    """Each of ``made`` beside the locked output of the same recipe, if there is one."""
    by_recipe = {output.made_by: output for output in locked}
    return [(output, by_recipe.get(output.made_by)) for output in made]
