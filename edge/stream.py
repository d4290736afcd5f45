"""Answers on their way, for who waits in a thread and for who waits in asyncio."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from collections.abc import Callable, Iterator, Sequence

from convert.errors import EdgeError
from edge.answer import Delta, Reader, Result
from edge.engine import handle as core
from edge.engine.types import Event, rate

PATIENCE = 0.2  # seconds; Windows notices Ctrl-C only between two waits


class Stream:
    """An answer as it comes: iterate for its deltas, then read ``result``. Leaving the loop early cancels it, and so
    does forgetting it."""

    def __init__(self, reader: Reader, events: queue.SimpleQueue[Event], source: object = None) -> None:
        """``source``: what is to live as long as the answer is awaited."""
        self._reader, self._events, self._source = reader, events, source
        self.cancel = reader.cancel
        """End the answer before the next step; any thread may call it."""

    def __iter__(self) -> Iterator[Delta]:
        try:
            while self._reader.result is None:
                if self._reader.error is not None:  # once more, to who asks again
                    raise self._reader.error
                with contextlib.suppress(queue.Empty):
                    yield from self._reader.feed(self._events.get(timeout=PATIENCE))
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._reader.result is None:
            self.cancel()

    __del__ = _leave

    @property
    def result(self) -> Result:
        """The whole answer; waits for its end. Raises the error that ended it."""
        for _ in self:
            pass
        assert self._reader.result is not None
        return self._reader.result


class Answers:
    """Several answers as they come, for one task of asyncio: ``read`` until all are ``done``. Who stops reading
    cancels them."""

    def __init__(
        self, readers: Sequence[Reader], handles: Sequence[core.Handle], events: asyncio.Queue[tuple[int, Event] | None]
    ) -> None:
        """``events``: each with the number of its reader, or None where ``fail`` was called."""
        self.readers, self._handles, self._events = readers, handles, events
        self._error: EdgeError | None = None

    async def read(self) -> list[tuple[int, Delta]]:
        """What came since, each with the number of its answer: at least one event of the engine, which may add nothing.
        May be cancelled and repeated. Raises the error that ended one of the requests."""
        if self._error is not None:
            raise self._error
        deltas = self._feed(await self._events.get())
        while not self._events.empty():
            try:
                deltas += self._feed(self._events.get_nowait())
            except EdgeError as error:
                if not deltas:
                    raise
                self._error = error  # once what came before it is told
                break
        return deltas

    def fail(self, error: EdgeError) -> None:
        """Cancel them, and have ``read`` raise ``error`` now."""
        self._error = error
        self.cancel()
        self._events.put_nowait(None)

    def _feed(self, numbered: tuple[int, Event] | None) -> list[tuple[int, Delta]]:
        if numbered is None:
            assert self._error is not None
            raise self._error
        index, event = numbered
        return [(index, delta) for delta in self.readers[index].feed(event)]

    @property
    def done(self) -> bool:
        return all(reader.result for reader in self.readers)

    @property
    def results(self) -> list[Result]:
        """Of those that have ended."""
        return [reader.result for reader in self.readers if reader.result is not None]

    def cancel(self) -> None:
        """End them before the next step; harmless when they have ended."""
        for handle in self._handles:
            handle.cancel()

    def admitted(self, index: int) -> float:
        """When the request of an answer got a slot, by ``time.monotonic``; 0.0 before."""
        return self._handles[index].admitted

    def progress(self) -> core.Progress:
        """Of the first one."""
        return self._handles[0].progress()


def read_all(
    readers: Sequence[Reader], events: queue.SimpleQueue[tuple[int, Event]], *, progress: bool
) -> list[Result]:
    """Read ``events``, each with the number of its reader, as they come: a stop string ends one answer while others go
    on. ``progress``: behind a bar with tokens/s in and out."""
    results: dict[int, Result] = {}
    with bar_of(len(readers)) if progress else contextlib.nullcontext(lambda result: None) as advance:
        while len(results) < len(readers):
            with contextlib.suppress(queue.Empty):
                index, event = events.get(timeout=PATIENCE)
                readers[index].feed(event)
                if (result := readers[index].result) is not None:
                    results[index] = result
                    advance(result)
    return [results[index] for index in range(len(readers))]


@contextlib.contextmanager
def bar_of(total: int) -> Iterator[Callable[[Result], None]]:
    """A bar on standard error, where that is a terminal: call it with each result."""
    from rich.console import Console  # a server has no use for it, and imports it for long
    from rich.progress import Progress

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("", total=total)
        started, read, written = bar.get_time(), 0, 0

        def advance(result: Result) -> None:
            nonlocal read, written
            read += result.timings.prompt_tokens
            written += result.timings.generated_tokens
            seconds = bar.get_time() - started
            speed = f"{rate(read, seconds):.0f} tokens/s in, {rate(written, seconds):.0f} out"
            bar.update(task, advance=1, description=speed)

        yield advance
