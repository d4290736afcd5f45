"""A request on its way: its tokens, how many of them are in the cache, when what happened."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from edge.engine.types import Event, Request, Timings


@dataclass(eq=False)
class Sequence:
    """``tokens`` are the prompt's and the generated ones; the first ``n_past`` of them are in the cache of ``slot``.

    The rest is pending: a long piece of the prompt at first, then the one token drawn last (more, where a grammar
    forces them). The logits of the last pending token give the next one.
    ``deliver`` hands an event to who asked; the engine's thread calls it, so it must not block.
    """

    request: Request
    deliver: Callable[[Event], object]
    tokens: list[int] = field(default_factory=list)
    n_prompt: int = field(init=False)
    n_past: int = 0
    slot: int | None = None
    cached: int = 0
    submitted: float = field(default_factory=time.monotonic)
    admitted: float = 0.0
    first_token: float = 0.0
    last_token: float = 0.0

    def __post_init__(self) -> None:
        self.tokens = self.tokens or list(self.request.tokens)
        self.n_prompt = len(self.request.tokens)

    @property
    def n_generated(self) -> int:
        return len(self.tokens) - self.n_prompt

    @property
    def n_pending(self) -> int:
        return len(self.tokens) - self.n_past

    @property
    def decoding(self) -> bool:
        """Whether its whole prompt is in the cache, and no more is pending than one step of decoding takes."""
        return self.n_generated > 0 and self.n_pending <= MOST_FORCED

    def timings(self) -> Timings:
        started, first, last = self.admitted or self.submitted, self.first_token, self.last_token
        return Timings(
            prompt_tokens=self.n_prompt,
            cached_tokens=self.cached,
            generated_tokens=self.n_generated,
            queue=started - self.submitted,
            prefill=max(0.0, first - started) if first else 0.0,
            decode=last - first,
        )


MOST_FORCED = 16  # pending tokens of an answer that are decoded at once; more are taken in chunks, like a prompt
