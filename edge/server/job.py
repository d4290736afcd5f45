"""The answers to one HTTP request, from the gate to the last token."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from edge.answer import Delta, Reader, Result
from edge.prepare import Prepared
from edge.server.errors import TooLate
from edge.server.serving import Serving
from edge.stream import Answers
from edge.wire.logprobs import Aligner, Drawn, tokens_of


class Job:
    """``close`` it when nobody reads on; what has not ended is cancelled."""

    def __init__(
        self, serving: Serving, answers: Answers, leave: Callable[[], None], until: float, with_tokens: bool
    ) -> None:
        self._serving, self._answers, self._leave = serving, answers, leave
        self._deadline = asyncio.get_running_loop().call_at(until, self._expire)
        self._closed = False
        token_bytes = serving.engine.model.token_bytes
        self._aligners = [Aligner(token_bytes) for _ in answers.readers] if with_tokens else []
        self._seen = [0] * len(answers.readers)

    @classmethod
    async def begin(
        cls, serving: Serving, prepare: Callable[[int], Prepared], count: int, *, with_tokens: bool = False
    ) -> Job:
        """``prepare`` gives the request of each answer, and raises what is wrong with it. Raises Busy, Loading."""
        engine = serving.engine
        until = asyncio.get_running_loop().time() + serving.config.timeout
        with ExitStack() as stack:
            stack.enter_context(serving.gate.enter(count))
            # A long conversation takes a while to render and to tokenize.
            prepared = await asyncio.to_thread(lambda: [prepare(choice) for choice in range(count)])
            answers = engine.astart(prepared)
            return cls(serving, answers, stack.pop_all().close, until, with_tokens)

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
        return drawn

    @property
    def done(self) -> bool:
        return self._answers.done

    @property
    def readers(self) -> Sequence[Reader]:
        return self._answers.readers

    @property
    def results(self) -> list[Result]:
        return self._answers.results

    def news(self) -> bytes:
        """A comment for who waits: their place in the queue, or how much of the prompt is read."""
        if any(reader.tokens for reader in self.readers):
            return b":\n\n"
        progress = self._answers.progress()
        if progress.ahead or not progress.done:
            return f": queue {progress.ahead}\n\n".encode()
        return f": prefill {progress.done}/{progress.total}\n\n".encode()

    def close(self) -> None:
        """Harmless when repeated."""
        if self._closed:
            return
        self._closed = True
        self._deadline.cancel()
        self._answers.cancel()
        self._leave()
        for result in self.results:
            self._serving.metrics.saw(result.timings)
