"""A request that the engine took in, for who sent it."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edge.engine.messages import Cancel
from edge.engine.sequence import Sequence
from edge.engine.types import Event, Finished, Request, Token

if TYPE_CHECKING:
    from edge.engine.engine import Engine


@dataclass(frozen=True)
class Progress:
    """How far a request is: how many wait before it, and how many tokens of its prompt are in the cache."""

    ahead: int
    done: int
    total: int


class Handle:
    """A request that was taken in. Any thread may use it."""

    def __init__(self, engine: Engine, sequence: Sequence) -> None:
        self._engine, self._sequence = engine, sequence

    def cancel(self) -> None:
        """End it, and the step that computes it, or before the next one; harmless when it has ended."""
        # Without the lock: the collector may call it in a thread that holds it.
        self._engine._inbox.put(Cancel(self._sequence))
        if self._sequence in self._engine._computing:
            self._engine.context.interrupt()

    @property
    def admitted(self) -> float:
        """When it got a slot, by ``time.monotonic``; 0.0 before."""
        return self._sequence.admitted

    def progress(self) -> Progress:
        """As of now, or of a moment ago."""
        sequence = self._sequence
        waiting = list(self._engine._waiting)
        ahead = waiting.index(sequence) if sequence in waiting else 0
        return Progress(ahead, min(sequence.n_past, sequence.n_prompt), sequence.n_prompt)


class Ticket:
    """A request that was taken in. Iterate over it for its tokens and, last, how it finished."""

    def __init__(self, engine: Engine, request: Request) -> None:
        self.request = request
        self.finished: Finished | None = None
        self._events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self.cancel = engine.start(request, self._events.put).cancel

    def __iter__(self) -> Iterator[Event]:
        while self.finished is None:
            event = self._events.get()
            if isinstance(event, Finished):
                self.finished = event
            yield event

    def result(self) -> tuple[list[Token], Finished]:
        """All tokens, and how it finished. Raises the error that ended it."""
        tokens = [event for event in self if isinstance(event, Token)]
        assert self.finished is not None
        if self.finished.error is not None:
            raise self.finished.error
        return tokens, self.finished
