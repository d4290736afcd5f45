"""The events of a stream, whatever its answers are: chats or texts."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from edge.answer import Delta, Result
from edge.server.errors import fault_of
from edge.server.job import Job
from edge.server.serving import Serving
from edge.wire.answers import Head, event, timings_json, usage
from edge.wire.logprobs import Drawn

Json = dict[str, Any]


async def events_of(
    job: Job,
    top: Head,
    serving: Serving,
    *,
    first: Sequence[Json],
    tell: Callable[[int, Delta, list[Drawn]], Json | None],
    last: Callable[[int, Result], Json],
    prompts: int | None,
) -> AsyncIterator[bytes]:
    """``first``: choices before anything is written; ``tell``: what a delta of an answer says, None for nothing;
    ``last``: how an answer ended. ``prompts``: how many there were, to tell their usage; None to leave it out.

    After an error nothing looks like success.
    """
    told = set[int]()
    for choice in first:
        yield event(top.chunk([choice]))
    try:
        while not job.done:
            for index, delta, tokens in await job.read():
                if (choice := tell(index, delta, tokens)) is not None:
                    yield event(top.chunk([choice]))
            for index, reader in enumerate(job.readers):
                if reader.result is not None and index not in told:
                    told.add(index)
                    ended = last(index, reader.result)
                    yield event(top.chunk([ended], timings=timings_json(reader.result.timings)))
    except Exception as error:
        serving.note(error)
        yield event(fault_of(error).body())
        return
    if prompts is not None:
        timings = [result.timings for result in job.results]
        yield event(top.chunk([], usage=usage(timings, prompts), timings=timings_json(timings[0])))
    yield event("[DONE]")
