"""One sequence, one answer: prefill a prompt, then draw token after token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from convert.errors import EdgeError
from edge.chat.template import ChatTemplate
from edge.llama.batch import Batch
from edge.llama.context import Context
from edge.llama.model import Model
from edge.llama.sampler import Sampler, Sampling
from edge.text import Utf8Stream

FinishReason = Literal["stop", "length", "cancelled"]


class PromptError(EdgeError):
    """The prompt is empty or does not fit into the context."""


class BrokenModelError(EdgeError):
    """The model computes numbers that are not numbers."""


@dataclass
class Timings:
    """What a generation cost, and why it ended.

    The prefill clock runs from the first decode call to the first drawn token; the decode clock from
    there to the last drawn token. Time that the consumer of the pieces takes counts for neither.
    """

    prompt_tokens: int = 0
    prefill_seconds: float = 0.0
    generated_tokens: int = 0
    decode_seconds: float = 0.0
    finish_reason: FinishReason = "stop"

    @property
    def prefill_rate(self) -> float:
        """Prompt tokens a second."""
        return _rate(self.prompt_tokens, self.prefill_seconds)

    @property
    def decode_rate(self) -> float:
        """Generated tokens a second, after the first, which the prefill gave."""
        return _rate(self.generated_tokens - 1, self.decode_seconds)


@dataclass(frozen=True)
class Piece:
    """One drawn token and the text it completes, often none. The last piece may have only text."""

    token: int | None
    text: str


@dataclass
class Generation:
    """Iterate over it for the pieces; ``timings`` is complete when the iteration has ended."""

    pieces: Iterator[Piece]
    timings: Timings = field(default_factory=Timings)

    def __iter__(self) -> Iterator[Piece]:
        return self.pieces

    def text(self) -> str:
        """Run to the end and return all text."""
        return "".join(piece.text for piece in self.pieces)


def prompt_tokens(
    model: Model,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Any] | None = None,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> list[int]:
    """Messages -> token ids by the model's chat template; only the template can make control tokens.

    Raises ``TemplateError``.
    """
    segments = ChatTemplate.from_metadata(model.metadata).render_segments(
        messages, model.control_texts, tools=tools, add_generation_prompt=add_generation_prompt, **variables
    )
    return [token for segment in segments for token in model.tokenize(segment.text, parse_special=segment.is_markup)]


def generate(
    model: Model,
    context: Context,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    max_tokens: int | None = None,
    cancelled: Callable[[], bool] = lambda: False,
) -> Generation:
    """Answer ``prompt`` (token ids) in sequence 0 of ``context``, which is emptied first.

    Ends with ``stop`` at a token that the model marks as the end (it is not in the text, nor counted),
    with ``length`` after ``max_tokens`` or when the context is full, with ``cancelled`` when
    ``cancelled()``, asked before every decode call, says so.

    Raises ``PromptError`` at once if the prompt does not fit; while iterating ``BrokenModelError``,
    ``DecodeError``.
    """
    if not prompt:
        raise PromptError("the prompt is empty")
    if len(prompt) >= context.n_ctx_seq:
        raise PromptError(
            f"the prompt has {len(prompt)} tokens, the context {context.n_ctx_seq}",
            "send less text or raise the context length",
        )
    room = context.n_ctx_seq - len(prompt)
    timings = Timings(prompt_tokens=len(prompt))
    limit = room if max_tokens is None else min(max_tokens, room)
    return Generation(_run(model, context, list(prompt), sampling, limit, cancelled, timings), timings)


def _run(
    model: Model,
    context: Context,
    prompt: list[int],
    sampling: Sampling,
    limit: int,
    cancelled: Callable[[], bool],
    timings: Timings,
) -> Iterator[Piece]:
    text = Utf8Stream()
    if limit < 1:
        timings.finish_reason = "length"
        return
    with Batch(context.n_batch) as batch, Sampler(model, sampling, prompt) as sampler:
        context.memory_rm(0)
        start = time.perf_counter()
        if not _prefill(context, batch, prompt, cancelled):
            timings.finish_reason = "cancelled"
            return
        if not np.isfinite(context.logits(len(batch) - 1)).all():
            raise BrokenModelError(
                f"{model.path.name} computes values that are not numbers", "convert or download it again"
            )
        token = sampler.sample(context, len(batch) - 1)
        timings.prefill_seconds = time.perf_counter() - start
        while True:
            if model.is_eog(token):
                timings.finish_reason = "stop"
                break
            timings.generated_tokens += 1
            yield Piece(token, text.feed(model.token_bytes(token)))
            if timings.generated_tokens == limit:
                timings.finish_reason = "length"
                break
            if cancelled():
                timings.finish_reason = "cancelled"
                break
            start = time.perf_counter()
            batch.clear()
            batch.add(token, len(prompt) + timings.generated_tokens - 1, want_logits=True)
            context.decode(batch)
            token = sampler.sample(context, 0)
            timings.decode_seconds += time.perf_counter() - start
    if rest := text.finish():
        yield Piece(None, rest)


def _prefill(context: Context, batch: Batch, prompt: list[int], cancelled: Callable[[], bool]) -> bool:
    """Decode the prompt batch by batch, with logits for its last token; False if cancelled."""
    for start in range(0, len(prompt), context.n_batch):
        if cancelled():
            return False
        batch.clear()
        for pos, token in enumerate(prompt[start : start + context.n_batch], start):
            batch.add(token, pos, want_logits=pos == len(prompt) - 1)
        context.decode(batch)
    return True


def _rate(count: int, seconds: float) -> float:
    return count / seconds if count > 0 and seconds > 0 else 0.0
