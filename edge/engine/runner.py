"""Carries a plan out: fills the batch, decodes, samples. The only part of the engine that calls C."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from convert.errors import EdgeError
from edge.engine.scheduler import Work
from edge.engine.sequence import Sequence
from edge.engine.slots import Seat, Slot, fillers
from edge.engine.types import EngineError, Request, Token, TokenLogprob
from edge.llama.batch import Batch
from edge.llama.context import Context
from edge.llama.model import Model
from edge.llama.sampler import Sampler

FILLER = 0  # a token; what comes of it is not looked at


@dataclass(slots=True)
class Drawn:
    """The token that a request's last row gave, and those that its grammar then leaves no choice about; or what kept
    it from being drawn."""

    sequence: Sequence
    token: Token | None
    forced: list[Token] = field(default_factory=list)
    error: EdgeError | None = None


class Runner:
    """One context and its batch, with a sampler for each request at work."""

    def __init__(self, model: Model, context: Context) -> None:
        self.model, self.context = model, context
        self._batch = Batch(context.n_batch)
        self._samplers: dict[Sequence, Sampler] = {}

    def begin(self, sequence: Sequence, seat: Seat) -> int:
        """Put what is reused into the request's slot; returns how many tokens that are."""
        slot, source, reused = seat.slot, seat.source, seat.reused
        if slot is not source:
            self.context.memory_rm(slot.index)
            if reused:
                self.context.memory_cp(source.index, slot.index)
                if reused < len(source.tokens):
                    self.context.memory_rm(slot.index, reused)
        elif reused < len(slot.tokens):
            self.context.memory_rm(slot.index, reused)
        if self.context.memory_last(slot.index) != reused - 1:  # this model's memory cannot be cut there after all
            self.context.memory_rm(slot.index)
            reused = 0
        if sequence not in self._samplers:
            self._samplers[sequence] = make_sampler(self.model, sequence.request)
        return reused

    def run(self, work: list[Work], slots: list[Slot]) -> list[Drawn]:
        """One step. Afterwards each request's pending tokens are fewer by its count, and those whose last row was
        computed have a new token drawn, which is not among their tokens yet. Raises DecodeError."""
        batch, rows = self._batch, []
        batch.clear()
        by_slot = {one.sequence.slot: one for one in work if one.sequence.slot is not None}
        filled = fillers(by_slot, slots, self.context.n_ctx_seq, cuts=self.model.can_cut) if work[0].decodes else []
        for index in sorted([*by_slot, *filled]):
            one = by_slot.get(index)
            if one is None:
                batch.add(FILLER, len(slots[index].tokens), index)
                continue
            sequence = one.sequence
            last = sequence.n_past + one.count
            row = -1
            for position in range(sequence.n_past, last):
                wanted = one.completes and position == last - 1
                row = batch.add(sequence.tokens[position], position, index, wanted)
            if one.completes:
                rows.append((sequence, row))
        self.context.decode(batch)
        for index in filled:
            self.context.memory_rm(index, len(slots[index].tokens))
        for index, one in by_slot.items():
            sequence = one.sequence
            computed = sequence.tokens[sequence.n_past : sequence.n_past + one.count]
            slots[index].tokens.extend(computed)
            sequence.n_past += one.count
        return [self._try_draw(sequence, row) for sequence, row in rows]

    def undo(self, work: list[Work], slots: list[Slot]) -> None:
        """Forget what a step that was stopped has left in the cache."""
        sequences = {one.sequence.slot: one.sequence for one in work}
        for slot in slots:
            if self.context.memory_last(slot.index) == len(slot.tokens) - 1:
                continue
            if self.model.can_cut and self.context.memory_rm(slot.index, len(slot.tokens)):
                continue
            self.context.memory_rm(slot.index)
            slot.tokens.clear()
            if (sequence := sequences.get(slot.index)) is not None:
                sequence.n_past = 0

    def _try_draw(self, sequence: Sequence, row: int) -> Drawn:
        """A grammar that fails is one request's misfortune."""
        try:
            return self._draw(sequence, row)
        except EdgeError as error:
            return Drawn(sequence, None, error=error)
        except Exception as error:
            return Drawn(sequence, None, error=EngineError(f"no token can be drawn: {error!r}"))

    def _draw(self, sequence: Sequence, row: int) -> Drawn:
        request = sequence.request
        logits = None
        if request.logprobs is not None or request.constraint is not None or not sequence.n_generated:
            logits = self.context.logits(row)
        if logits is not None and not sequence.n_generated and not np.isfinite(logits).all():
            raise EngineError(
                f"{self.model.path.name} is broken: it computes values that are not numbers",
                "convert or download it again",
            )
        raw = logits.copy() if logits is not None and request.logprobs is not None else None
        if logits is not None and request.constraint is not None:
            request.constraint.mask(logits)
        token = self._samplers[sequence].sample(self.context, row)
        forced: list[int] = []
        if request.constraint is not None:
            request.constraint.accept(token)
            forced = request.constraint.forced()
            for one in forced:
                request.constraint.accept(one)
                self._samplers[sequence].accept(one)
        found = None if raw is None else logprob(raw, token, request.logprobs or 0)
        data = self.model.token_bytes
        return Drawn(sequence, Token(token, found, data(token)), [Token(one, None, data(one)) for one in forced])

    def end(self, sequence: Sequence) -> None:
        """Free the request's sampler; what its slot holds stays."""
        if sampler := self._samplers.pop(sequence, None):
            sampler.close()

    def close(self) -> None:
        for sequence in list(self._samplers):
            self.end(sequence)
        self._batch.close()


def make_sampler(model: Model, request: Request) -> Sampler:
    bias = dict.fromkeys(model.end_tokens, float("-inf")) if request.ignore_eos else {}
    return Sampler(model, request.sampling, request.tokens, bias={**request.logit_bias, **bias})


def logprob(logits: np.ndarray, token: int, top: int) -> TokenLogprob:
    """From raw logits, float32 [n_vocab]: log softmax of ``token`` and of the ``top`` likeliest."""
    shifted = logits.astype(np.float64) - logits.max()
    values = shifted - np.log(np.exp(shifted).sum())
    top = min(top, len(values))
    best = np.argpartition(values, -top)[-top:] if top > 0 else np.arange(0)
    order = best[np.argsort(-values[best], kind="stable")]
    return TokenLogprob(float(values[token]), tuple((int(one), float(values[one])) for one in order))
