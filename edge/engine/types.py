"""What goes into the engine and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np

from convert.errors import EdgeError
from edge.llama.sampler import Sampling

FinishReason = Literal["stop", "length", "cancelled", "error"]
GREATEST_BIAS = 3e38  # more is infinite in C, and infinities make probabilities that are no numbers


class RequestError(EdgeError):
    """The request can never be answered: it is empty, or longer than the context."""


class ContextLengthError(RequestError):
    """The prompt has more tokens than a request may have. ``n_prompt``, ``n_ctx``: both numbers."""

    def __init__(self, n_prompt: int, n_ctx: int) -> None:
        super().__init__(
            f"the prompt has {n_prompt} tokens, the context {n_ctx}", "send less text or raise the context length"
        )
        self.n_prompt, self.n_ctx = n_prompt, n_ctx


class EngineError(EdgeError):
    """The engine is closed, or its model failed."""


class Constraint(Protocol):
    """What the next token may be; see ``edge.constrain``."""

    def mask(self, logits: np.ndarray) -> None:
        """Forbid tokens in place: float32 [n_vocab]."""
        ...

    def accept(self, token: int) -> None:
        """Go on by a token that was drawn or forced. Raises EdgeError if it is not allowed."""
        ...

    def forced(self) -> list[int]:
        """Tokens that must come next, in order."""
        ...


@dataclass(frozen=True)
class Request:
    """One prompt to continue, as token ids.

    ``max_tokens`` None: until the context is full. ``stop_tokens`` end the answer beside the model's own end tokens,
    which ``ignore_eos`` forbids. ``logit_bias`` is added to tokens' logits. ``logprobs``: how many likeliest tokens
    to report at each step. A ``side`` request (a title, a summary) gives way to conversations. ``client``: who asks;
    clients get slots in turn.

    Raises RequestError for what cannot be; the engine's thread, and with it all requests, would fail by it.
    """

    tokens: tuple[int, ...]
    sampling: Sampling = field(default_factory=Sampling)
    max_tokens: int | None = None
    stop_tokens: frozenset[int] = frozenset()
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    ignore_eos: bool = False
    logprobs: int | None = None
    side: bool = False
    constraint: Constraint | None = None
    client: str = ""

    def __post_init__(self) -> None:
        if not self.tokens:
            raise RequestError("the prompt is empty")
        for name, value, least in (("max_tokens", self.max_tokens, 1), ("logprobs", self.logprobs, 0)):
            if value is not None and (type(value) is not int or value < least):
                raise RequestError(f"{name} is a whole number, {least} or more, got {value!r}")
        if not isinstance(self.logit_bias, Mapping):
            raise RequestError(f"logit_bias maps tokens to numbers, got {self.logit_bias!r}")
        for bias in self.logit_bias.values():
            if type(bias) not in (int, float) or not bias <= GREATEST_BIAS:
                raise RequestError(f"logit_bias is of finite numbers and minus infinity, got {bias!r}")
        if unlike := {*map(type, (*self.tokens, *self.stop_tokens, *self.logit_bias))} - {int}:
            raise RequestError(f"tokens are whole numbers, got {min(kind.__name__ for kind in unlike)}")


@dataclass(frozen=True)
class TokenLogprob:
    """Natural logarithms of probabilities before any sampler changed them; ``top`` the likeliest tokens first."""

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(slots=True)  # frozen ones take three times as long to make
class Token:
    """A generated token. ``data``: the bytes that it stands for, perhaps part of a character; none for a control
    token."""

    token: int
    logprob: TokenLogprob | None = None
    data: bytes = b""


@dataclass
class Timings:
    """What a request cost, in tokens and seconds. ``queue`` ends when its prefill begins, ``prefill`` with the first
    token, ``decode`` with the last one. ``cached_tokens`` of the prompt were in the cache already."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    generated_tokens: int = 0
    queue: float = 0.0
    prefill: float = 0.0
    decode: float = 0.0

    @property
    def first_token(self) -> float:
        """Seconds from the request to its first token."""
        return self.queue + self.prefill

    @property
    def prefill_rate(self) -> float:
        """Computed prompt tokens a second."""
        return rate(self.prompt_tokens - self.cached_tokens, self.prefill)

    @property
    def decode_rate(self) -> float:
        """Generated tokens a second, after the first, which the prefill gave."""
        return rate(self.generated_tokens - 1, self.decode)


@dataclass(frozen=True)
class Finished:
    """The last event of a request."""

    reason: FinishReason
    timings: Timings
    error: EdgeError | None = None


Event = Token | Finished


def rate(count: int, seconds: float) -> float:
    return count / seconds if count > 0 and seconds > 0 else 0.0
