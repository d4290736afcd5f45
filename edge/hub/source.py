"""What a source of model files offers, whichever hub or folder it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from edge import lock
from edge.errors import HubError


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository, ``size`` in bytes. What the source tells of its content, in hex digits: ``sha256``,
    or ``blob``, the SHA-1 by which git knows a small file."""

    name: str
    size: int
    sha256: str | None = None
    blob: str | None = None


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
        """Raises HubError saying what is wrong and what to do."""
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
