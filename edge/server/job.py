"""The answers to one HTTP request, from the gate to the last token."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from edge.answer import Delta, Reader, Result
from edge.prepare import Prepared
from edge.sentence import whole_sentences
from edge.server.closing import Closing
from edge.server.errors import TooLate
from edge.server.serving import Serving
from edge.stream import Answers
from edge.wire.logprobs import Aligner, Drawn, tokens_of, up_to


class Job:
    """``close`` it when nobody reads on; what has not ended is cancelled."""

    def __init__(
        self,
        serving: Serving,
        answers: Answers,
        leave: Callable[[], None],
        until: float,
        with_tokens: bool,
        streams: bool,
    ) -> None:
        self._serving, self._answers, self._leave, self._streams = serving, answers, leave, streams
        seconds = serving.config.soft_deadline
        self._closing = None if seconds is None else Closing(answers, seconds)
        self._deadline = asyncio.get_running_loop().call_at(until, self._expire)
        self._closed = False
        token_bytes = serving.engine.model.token_bytes
        self._aligners = [Aligner(token_bytes) for _ in answers.readers] if with_tokens else []
        self._seen = [0] * len(answers.readers)

    @classmethod
    async def begin(
        cls, serving: Serving, prepare: Callable[[int], Prepared], count: int, *, with_tokens: bool, streams: bool
    ) -> Job:
        """``prepare`` gives the request of each answer, and raises what is wrong with it. ``streams``: what came is
        told at once, and cannot be taken back. Raises Busy, Loading."""
        engine = serving.engine
        until = asyncio.get_running_loop().time() + serving.config.timeout
        with ExitStack() as stack:
            stack.enter_context(serving.gate.enter(count))
            # A long conversation takes a while to render and to tokenize.
            prepared = await asyncio.to_thread(lambda: [prepare(choice) for choice in range(count)])
            answers = engine.astart(prepared)
            return cls(serving, answers, stack.pop_all().close, until, with_tokens, streams)

    def _expire(self) -> None:
        """What is there by now is the answer."""
        if any(reader.tokens for reader in self.readers):
            self._answers.cancel()
        else:
            self._answers.fail(TooLate())

    async def read(self) -> list[tuple[int, Delta, list[Drawn]]]:
        """What came since, perhaps nothing: the number of the answer, the delta, and, ``with_tokens``, the tokens of
        its text. Raises TooLate, and what ended an answer."""
        deltas = await self._answers.read()
        if self._closing is not None:
            self._closing.look()
        for index, aligner in enumerate(self._aligners):
            reader, seen = self.readers[index], self._seen[index]
            aligner.add(reader.tokens[seen:], reader.logprobs[seen:])
            self._seen[index] = len(reader.tokens)
        return [(index, one, tokens_of(one, self._aligners[index]) if self._aligners else []) for index, one in deltas]

    async def finish(self) -> list[list[Drawn]]:
        """Wait for the ``results``. The tokens of each one's text, ``with_tokens``."""
        drawn: list[list[Drawn]] = [[] for _ in self.readers]
        while not self.done:
            for index, _, tokens in await self.read():
                drawn[index] += tokens
        for index, (whole, told) in enumerate(zip(self._answers.results, self.results, strict=True)):
            if told is not whole:
                drawn[index] = up_to(told.text, drawn[index])
        return drawn

    @property
    def done(self) -> bool:
        return self._answers.done

    @property
    def readers(self) -> Sequence[Reader]:
        return self._answers.readers

    @property
    def results(self) -> list[Result]:
        """Of those that have ended."""
        return [self._tidy(index, one.result) for index, one in enumerate(self.readers) if one.result is not None]

    def _tidy(self, index: int, result: Result) -> Result:
        """Where an answer was cut in the middle of a sentence, and nobody has read it yet, without that one."""
        late = self._closing is not None and index in self._closing.late
        if not late or self._streams or result.finish_reason != "cancelled" or result.unfinished:
            return result
        return dataclasses.replace(result, text=whole_sentences(result.text))

    def news(self) -> bytes:
        """A comment for who waits: their place in the queue, or how much of the prompt is read."""
        if any(reader.tokens for reader in self.readers):
            return b":\n\n"
        progress = self._answers.progress()
        if not self._answers.admitted(0):
            return f": queue {progress.ahead}\n\n".encode()
        return f": prefill {progress.done}/{progress.total}\n\n".encode()

    def close(self) -> None:
        """Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        self._deadline.cancel()
        if self._closing is not None:
            self._closing.close()
        self._answers.cancel()
        self._leave()
        for result in self.results:
            self._serving.metrics.saw(result.timings)
