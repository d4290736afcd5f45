"""What was fetched into a checkpoint's folder: a file whose size and time have not changed need not be hashed again."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from convert.durable import write_text
from edge.lock import LockedFile

NAME = ".edge-pull.json"


@dataclass(frozen=True)
class Fetched:
    """A file as it was when its hash was right; ``size`` in bytes."""

    size: int
    mtime_ns: int
    sha256: str

    def still(self, path: Path) -> bool:
        try:
            stat = path.stat()
        except OSError:
            return False
        return (stat.st_size, stat.st_mtime_ns) == (self.size, self.mtime_ns)


@dataclass(frozen=True)
class Receipt:
    """``complete``: everything that a conversion needs was fetched."""

    files: Mapping[str, Fetched] = field(default_factory=dict)
    complete: bool = False

    def holds(self, folder: Path) -> bool:
        """Whether all that a conversion needs is there, unchanged."""
        return self.complete and all(fetched.still(folder / name) for name, fetched in self.files.items())

    def agrees(self, locked: Iterable[LockedFile], *, unknown_ok: bool = False) -> bool:
        """Whether every file that is there is locked with its hash; ``unknown_ok``: or not locked at all."""
        hashes = {file.name: file.sha256 for file in locked}
        return all(
            hashes.get(name, fetched.sha256 if unknown_ok else None) == fetched.sha256
            for name, fetched in self.files.items()
        )


def read_receipt(folder: Path) -> Receipt:
    """Empty when there is none, or it is damaged: then the files are hashed again."""
    try:
        content = json.loads((folder / NAME).read_text(encoding="utf-8"))
        files = {str(name): Fetched(**fetched) for name, fetched in content["files"].items()}
        known = all(re.fullmatch("[0-9a-f]{64}", fetched.sha256) for fetched in files.values())
        return Receipt(files, content["complete"] is True) if known else Receipt()
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return Receipt()


def write_receipt(folder: Path, receipt: Receipt) -> None:
    files = {name: asdict(fetched) for name, fetched in sorted(receipt.files.items())}
    write_text(folder / NAME, json.dumps({"complete": receipt.complete, "files": files}, indent=1) + "\n")


def fetched_now(path: Path, sha256: str) -> Fetched:
    """The entry of a file whose hash was found right just now."""
    stat = path.stat()
    return Fetched(stat.st_size, stat.st_mtime_ns, sha256)
