"""What a source of model files offers, whichever hub it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from edge.errors import HubError


@dataclass(frozen=True)
class RemoteFile:
    """One file of a repository. ``sha256`` where the source tells it, in hex digits."""

    name: str
    size: int
    sha256: str | None = None


@dataclass(frozen=True)
class Listing:
    """A repository at ``revision``, which names its content for ever where the source has such names."""

    revision: str
    files: tuple[RemoteFile, ...]
    licence: str | None = None


@dataclass(frozen=True)
class Request:
    """Where to ask for a file, and with which headers; they must not go to another host."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict)


class Source(Protocol):
    """``where`` names it to people: ``huggingface.co Qwen/Qwen2.5-7B-Instruct``."""

    @property
    def where(self) -> str: ...

    def listing(self) -> Listing:
        """Raises HubError saying what is wrong and what to do."""
        ...

    def request(self, name: str) -> Request: ...


class SourceFailed(HubError):
    """This source cannot serve the file, now or at all; another one may."""
