"""A folder as a source: a USB stick, another program's cache, what a browser saved."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

from edge.errors import HubError
from edge.hashing import sha256_of
from edge.hub.source import Body, Listing, RemoteFile, SourceFailed
from edge.lock_file import check_file_name, fits, read_lock

BLOCK = 1 << 20
LOCK = "models.lock"


class Folder:
    """Files below ``path``. One of them is taken by its name, else by its content: browsers rename files."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._hashes: dict[str, str] = {}

    @property
    def where(self) -> str:
        return f"folder {self.path}"

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """Path with slashes -> bytes."""
        if not self.path.is_dir():
            raise HubError(
                f"there is no folder {self.path}",
                "--source wants huggingface, modelscope, or a folder that has the files",
            )
        files = (path for path in sorted(self.path.rglob("*")) if path.is_file())
        return {path.relative_to(self.path).as_posix(): path.stat().st_size for path in files}

    def listing(self) -> Listing:
        """The files that may be fetched, with the hashes of a ``models.lock`` that lies beside them."""
        try:
            models = read_lock(self.path / LOCK, missing_ok=True)
            hashes = {(file.name, file.size): file.sha256 for model in models.values() for file in model.files}
            sizes = {name: size for name, size in self._sizes.items() if fits(check_file_name, name)}
        except OSError as error:
            raise HubError(f"{self.where} cannot be read: {error.strerror}", "mend its rights") from error
        return Listing(tuple(RemoteFile(name, size, hashes.get((name, size))) for name, size in sizes.items()))

    def _find(self, file: RemoteFile) -> str | None:
        """The file by its name, below the name of a folder if need be; else the one whose SHA-256 is right."""
        same = [name for name, size in self._sizes.items() if size == file.size]
        named = [name for name in same if name == file.name or name.endswith(f"/{file.name}")]
        if named or file.sha256 is None:
            return min(named, key=len, default=None)
        return next((name for name in same if self._sha256(name) == file.sha256), None)

    def _sha256(self, name: str) -> str:
        if name not in self._hashes:
            self._hashes[name] = sha256_of(self.path / name)
        return self._hashes[name]

    @contextmanager
    def open(self, file: RemoteFile, start: int, end: int) -> Iterator[Body]:
        try:
            name = self._find(file)
            if name is None:
                raise SourceFailed(f"{self.where} has no {file.name} of {file.size} bytes", "try another source")
            with (self.path / name).open("rb") as handle:
                handle.seek(start)
                pieces = (handle.read(min(BLOCK, end - at)) for at in range(start, end, BLOCK))
                yield Body(start, pieces)
        except OSError as error:
            raise SourceFailed(f"{self.where}: {file.name}: {error.strerror}", "try another source") from error
