"""What the engine's thread is told."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from edge.engine.sequence import Sequence


@dataclass(frozen=True)
class Submit:
    sequence: Sequence


@dataclass(frozen=True)
class Cancel:
    sequence: Sequence


@dataclass(frozen=True)
class Call:
    """Do something else that computes, between two steps."""

    function: Callable[[], Any]
    future: Future[Any]


class Close:
    """Cancel everything and end the thread."""
