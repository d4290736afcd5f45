"""What a hub double serves: repositories with revisions, and files in memory or on disk."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

CHUNK = 1 << 20
LFS_PATTERNS = ("*.safetensors", "*.bin", "*.gguf", "*.tiktoken", "*.model")


@dataclass(frozen=True)
class StoredFile:
    """One file of a revision. `lfs`: the repository's git holds only a pointer to it."""

    content: bytes | Path
    lfs: bool = False

    @property
    def size(self) -> int:
        return len(self.content) if isinstance(self.content, bytes) else self.content.stat().st_size

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the content, in hexadecimal; Git LFS calls it the file's oid."""
        digest = hashlib.sha256()
        for chunk in self.read(0, self.size):
            digest.update(chunk)
        return digest.hexdigest()

    @property
    def pointer(self) -> bytes:
        """The text that git stores instead of an LFS file."""
        return f"version https://git-lfs.github.com/spec/v1\noid sha256:{self.sha256}\nsize {self.size}\n".encode()

    @cached_property
    def blob_id(self) -> str:
        """Git's SHA-1 of what git stores: the content, or the pointer of an LFS file."""
        stored = self.pointer if self.lfs else b"".join(self.read(0, self.size))
        return hashlib.sha1(b"blob %d\0" % len(stored) + stored).hexdigest()

    def read(self, start: int, stop: int) -> Iterator[bytes]:
        """The bytes from `start` to before `stop`, in chunks of at most 1 MiB."""
        with io.BytesIO(self.content) if isinstance(self.content, bytes) else self.content.open("rb") as file:
            file.seek(start)
            while start < stop and (chunk := file.read(min(CHUNK, stop - start))):
                start += len(chunk)
                yield chunk


@dataclass
class Repository:
    """`name` is `org/name`; `revisions` are the files by path of each commit; `head` is the default branch's commit.

    Taking a commit out of `revisions` makes it vanish from every double that serves this repository.
    """

    name: str
    revisions: dict[str, dict[str, StoredFile]]
    head: str
    licence: str = "apache-2.0"
    gated: bool = False

    def commit(self, revision: str, branch: str) -> str | None:
        """The commit that a revision means, where the hub calls its default branch `branch`."""
        commit = self.head if revision == branch else revision
        return commit if commit in self.revisions else None


def repository(
    name: str, files: Mapping[str, bytes | Path], licence: str = "apache-2.0", gated: bool = False
) -> Repository:
    """A repository of one commit, whose SHA-1 depends on the name and the files' paths and sizes."""
    stored = {
        path: StoredFile(content, any(fnmatchcase(path, pattern) for pattern in LFS_PATTERNS))
        for path, content in sorted(files.items())
    }
    commit = hashlib.sha1(repr((name, [(path, file.size) for path, file in stored.items()])).encode()).hexdigest()
    return Repository(name, {commit: stored}, commit, licence, gated)


def repository_of(name: str, folder: Path, licence: str = "apache-2.0", gated: bool = False) -> Repository:
    """The files of a folder, read from disk while they are served."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return repository(name, files, licence, gated)


def level(files: Mapping[str, StoredFile], folder: str, recursive: bool) -> tuple[list[str], list[str]]:
    """The paths of folders and of files inside `folder` ("": the top): all of them, or its own level only."""
    prefix = f"{folder}/" if folder else ""
    inside = [path for path in files if path.startswith(prefix)]
    folders = {path[:i] for path in inside for i in range(len(prefix), len(path)) if path[i] == "/"}

    def shown(path: str) -> bool:
        return recursive or "/" not in path.removeprefix(prefix)

    return sorted(filter(shown, folders)), list(filter(shown, inside))
