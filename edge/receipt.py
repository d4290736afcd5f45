"""What was fetched into a checkpoint's folder: a file whose size and time have not changed need not be hashed again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from convert.durable import write_text
from edge.lock import LockedFile
from edge.lock_file import SHA256, check_file_name, fits

NAME = ".edge-pull.json"


@dataclass(frozen=True)
class Fetched:
    """A file as it was when its hash was right; ``size`` in bytes.

    A copy of the file keeps its size and may keep the first time, but not the second.
    """

    size: int
    mtime_ns: int
    ctime_ns: int
    sha256: str

    def still(self, path: Path) -> bool:
        try:
            stat = path.stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns) == (self.size, self.mtime_ns, self.ctime_ns)


@dataclass(frozen=True)
class Receipt:
    """``complete``: everything that a conversion of ``model`` needs was fetched."""

    model: str
    files: Mapping[str, Fetched] = field(default_factory=dict)
    complete: bool = False

    def holds(self, folder: Path) -> bool:
        """Whether all that a conversion needs is there, unchanged."""
        known = self.complete and "config.json" in self.files
        return known and all(fetched.still(folder / name) for name, fetched in self.files.items())

    def agrees(self, locked: Iterable[LockedFile], *, unknown_ok: bool = False) -> bool:
        """Whether every file that is there is locked with its hash; ``unknown_ok``: or not locked at all."""
        hashes = {file.name: file.sha256 for file in locked}
        return all(
            hashes.get(name, fetched.sha256 if unknown_ok else None) == fetched.sha256
            for name, fetched in self.files.items()
        )


def read_receipt(folder: Path, model: str) -> Receipt:
    """Empty when there is none, it is damaged, or another model's: then the files are hashed again."""
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
        files = {check_file_name(name): Fetched(**fetched) for name, fetched in content["files"].items()}
        if content["model"] == model and all(map(sound, files.values())):
            return Receipt(model, files, content["complete"] is True)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        pass
    return Receipt(model)


def sound(fetched: Fetched) -> bool:
    times = (fetched.size, fetched.mtime_ns, fetched.ctime_ns)
    return all(type(number) is int for number in times) and fits(SHA256, fetched.sha256) is not None


def write_receipt(folder: Path, receipt: Receipt) -> None:
    files = {name: asdict(fetched) for name, fetched in sorted(receipt.files.items())}
    write_text(
        folder / NAME,
        json.dumps({"model": receipt.model, "complete": receipt.complete, "files": files}, indent=1) + "\n",
    )


def fetched_now(path: Path, sha256: str) -> Fetched:
    """The entry of a file whose hash was found right just now."""
    stat = path.stat()
    return Fetched(stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns, sha256)
