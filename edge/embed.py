"""Vectors of texts: hidden states of a model, pooled over the text."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Sequence

import numpy as np

from edge.api import Engine
from edge.engine.types import ContextLengthError, RequestError
from edge.llama.batch import Batch
from edge.llama.context import Context

ROWS = 128  # of one decode, at most
LONGEST = 0.2  # seconds of one; the engine's own steps wait as long
LAST_TOKEN = 3  # llama.cpp's number of that pooling, which embedding models of the Qwen family ask for


class Embedder:
    """Computes on the engine's thread, between its steps. Its own context is made at first use.

    Pooling is what the file says (the last token), or the mean of all tokens. One text at a time.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._rows = 8
        self._busy = asyncio.Lock()

    @functools.cached_property
    def _context(self) -> Context:
        context = self._engine.context
        return Context(
            self._engine.model,
            self._engine.ctx,
            n_batch=ROWS,
            n_ubatch=ROWS,
            n_outputs_max=ROWS,
            threads=context.threads,
            threads_batch=context.threads_batch,
            embeddings=True,
        )

    @functools.cached_property
    def _batch(self) -> Batch:
        return Batch(ROWS)

    async def vector(self, tokens: Sequence[int]) -> np.ndarray:
        """Float32 [n_embd], of length 1. Raises RequestError."""
        model = self._engine.model
        if not tokens:
            raise RequestError("there is nothing to embed")
        if len(tokens) > self._engine.ctx:
            raise ContextLengthError(len(tokens), self._engine.ctx)
        if not all(0 <= token < model.n_vocab for token in tokens):
            raise RequestError(
                f"tokens are 0 to {model.n_vocab - 1} here", "they may be another tokenizer's: send the text"
            )
        total, done = np.zeros(model.n_embd, np.float64), 0
        last_only = model.metadata.get(f"{model.arch}.pooling_type") == LAST_TOKEN
        async with self._busy:
            while done < len(tokens):
                rows = self._rows
                states = await asyncio.wrap_future(
                    self._engine.call(functools.partial(self._step, list(tokens[done : done + rows]), done))
                )
                total = states[-1].astype(np.float64) if last_only else total + states.sum(axis=0, dtype=np.float64)
                done += rows
        return (total / max(float(np.linalg.norm(total)), 1e-12)).astype(np.float32)

    def _step(self, tokens: Sequence[int], start: int) -> np.ndarray:
        """The hidden states of the next tokens of a text: float32 [rows, n_embd]. In the engine's thread."""
        began = time.monotonic()
        if start == 0:
            self._context.memory_clear()
        self._batch.clear()
        for index, token in enumerate(tokens):
            self._batch.add(token, start + index, 0, True)
        self._context.decode(self._batch)
        states = np.stack([self._context.embedding(row) for row in range(len(tokens))])
        seconds = max(time.monotonic() - began, 1e-6)
        if len(tokens) == self._rows:
            self._rows = min(ROWS, max(4, int(self._rows * min(2.0, LONGEST / seconds))))
        return states

    def close(self) -> None:
        """Free what was made. The engine is closed, or nobody computes any more."""
        for name in ("_batch", "_context"):
            if (made := self.__dict__.pop(name, None)) is not None:
                made.close()
