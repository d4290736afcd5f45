"""What a source of model files offers, whichever hub or folder it is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from edge import lock
from edge.errors import HubError
from edge.lock_file import LICENCE, REVISION, SHA256, fits

GIT_SHA1 = re.compile(r"[0-9a-fA-F]{40}")


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository, ``size`` in bytes. What the source tells of its content, in hex digits: ``sha256``,
    or ``blob``, the SHA-1 by which git knows a small file."""

    name: str
    size: int
    sha256: str | None = None
    blob: str | None = None

    @property
    def identity(self) -> str | None:
        """What tells this content from any other; None where the source does not say."""
        return self.sha256 or self.blob


@dataclass(frozen=True)
class Listing:
    """What a repository holds. ``pin`` is where the same can be had again, None for a folder."""

    files: tuple[RemoteFile, ...]
    pin: lock.Source | None = None
    licence: str | None = None


@dataclass(frozen=True)
class Body:
    """The bytes of a file from ``first`` on, as they come."""

    first: int
    blocks: Iterator[bytes]


class Source(Protocol):
    """``where`` names it to people: ``Hugging Face Qwen/Qwen2.5-7B-Instruct``."""

    @property
    def where(self) -> str: ...

    def listing(self) -> Listing:
        """Raises Cut, and HubError saying what is wrong and what to do."""
        ...

    def open(self, file: RemoteFile, start: int, end: int) -> AbstractContextManager[Body]:
        """The bytes from ``start`` to before ``end``, or more. Raises Cut, now or in mid-body, and SourceFailed."""
        ...


class SourceFailed(HubError):
    """This source cannot serve the file, now or at all; another one may."""


class Cut(Exception):
    """The transfer broke; it can be taken up again, after ``wait`` seconds where the server said so."""

    def __init__(self, why: str, wait: float | None = None) -> None:
        super().__init__(why)
        self.wait = wait


def listed_file(where: str, name: Any, size: Any, sha256: Any = None, blob: Any = None) -> RemoteFile:
    """An entry of a hub's listing, which may hold anything. Raises HubError for one that makes no sense."""
    if not isinstance(name, str) or type(size) is not int or not 0 <= size < 1 << 50:
        raise HubError(f"{where} lists {str(name)[:60]!r} with {str(size)[:60]!r} bytes", "try another source")
    known = sha256.lower() if isinstance(sha256, str) else None
    git = blob.lower() if isinstance(blob, str) and GIT_SHA1.fullmatch(blob) else None
    return RemoteFile(name, size, fits(SHA256, known), git)


def listing(files: tuple[RemoteFile, ...], hub: str, repo: str, revision: Any = None, licence: Any = None) -> Listing:
    """A hub's listing; what it says of revision and licence is left out where no lock could hold it."""
    return Listing(files, lock.Source(hub, repo, fits(REVISION, revision)), fits(LICENCE, licence))
