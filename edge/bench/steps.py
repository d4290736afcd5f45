"""Timed steps on a context, as llama.cpp's own benchmarks take them: random tokens, no sampling, no engine."""

from __future__ import annotations

import random
import time
from collections.abc import Sequence

from edge.llama.batch import Batch
from edge.llama.context import Context


class Steps:
    """Measures one context. Sequence 0 is the one that works alone; with ``n_seq_max`` more can decode beside it.

    The clocks run around llama_decode until its logits are there, which is where llama-bench has them. A context
    manager. One thread at a time, and always the same: see ``edge.api.Engine``.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.prefix: list[int] = []
        self._state: bytearray | None = None
        self._batch = Batch(context.n_batch)
        self._dice = random.Random(0)

    def tokens(self, count: int) -> list[int]:
        return [self._dice.randrange(self.context.model.n_vocab) for _ in range(count)]

    @property
    def depth(self) -> int:
        return len(self.prefix)

    def fill(self, depth: int, width: int = 1) -> None:
        """Let each of ``width`` sequences hold ``depth`` random tokens, the same ones; untimed."""
        self.context.memory_clear()
        self.prefix = self.tokens(depth)
        self._feed(self.prefix, 0)
        if depth and not self.context.model.can_cut:  # as large as the cache: only where it is needed
            self._state = self.context.get_state(0)
        for sequence in range(1, width if depth else 1):
            self.context.memory_cp(0, sequence)

    def prefill(self, count: int, rows: int | None = None) -> float:
        """Seconds to compute a prompt of ``count`` tokens behind the prefix, at most ``rows`` of them at once."""
        tokens = self.tokens(count)
        started = time.perf_counter()
        self._feed(tokens, self.depth, rows)
        seconds = time.perf_counter() - started
        self.rewind(0)
        return seconds

    def decode(self, count: int, width: int = 1) -> float:
        """Seconds of ``count`` steps, each with one token of ``width`` sequences behind the prefix."""
        tokens = self.tokens(count * width)
        started = time.perf_counter()
        for step in range(count):
            self._batch.clear()
            for sequence in range(width):
                self._batch.add(tokens[step * width + sequence], self.depth + step, sequence, True)
            self.context.decode(self._batch)
            self.context.synchronize()
        seconds = time.perf_counter() - started
        for sequence in range(width):
            self.rewind(sequence)
        return seconds

    def _feed(self, tokens: Sequence[int], start: int, rows: int | None = None) -> None:
        """Logits of the last token only, as for a prompt."""
        rows = min(rows or self.context.n_batch, self.context.n_batch)
        for first in range(0, len(tokens), rows):
            self._batch.clear()
            for index, token in enumerate(tokens[first : first + rows], first):
                self._batch.add(token, start + index, 0, index == len(tokens) - 1)
            self.context.decode(self._batch)
        self.context.synchronize()

    def rewind(self, sequence: int) -> None:
        """Back to the prefix; where the model cannot cut, by putting it back."""
        if self.depth and self._state is not None:
            self.context.set_state(sequence, self._state)
        else:
            self.context.memory_rm(sequence, self.depth)

    def close(self) -> None:
        self._batch.close()

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
