"""Which tokens of which requests make up the next step. Pure: no cache, no clock."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from edge.engine.sequence import Sequence
from edge.engine.slots import GROUP, common_prefix

DEPTH = 1024  # tokens in the cache before the row; of one depth are those with the same multiple
SIZES = tuple(sorted({GROUP << power for power in range(16)} | {3 * GROUP << power for power in range(16)}))
UNKNOWN_ROW = 0.02  # seconds
AIM = 0.85  # of the seconds that a step may take: the next one may be slower than those before
WIDER_IS_FAIRER = 1.05  # so much slower may all together be before they take turns
HOPE = 0.75  # of the time of a row in less company
FLASH = 64  # rows from which flash attention on the CPU is quick; nobody is kept waiting who would not wait anyway
WORTH_WAITING = 32  # tokens of a prompt that another request is about to compute


@dataclass(slots=True)
class Work:
    """The next ``count`` pending tokens of one request."""

    sequence: Sequence
    count: int

    @property
    def decodes(self) -> bool:
        return self.sequence.decoding

    @property
    def completes(self) -> bool:
        """Whether its last row is the last pending token, whose logits are wanted."""
        return self.count == self.sequence.n_pending


@dataclass
class Pace:
    """How long steps take on this machine, as measured so far: moving averages in seconds.

    A row of a prompt costs less in company and more behind a long prefix, so ``prefill`` is kept by size and depth:
    rows, rounded down to one of SIZES, and thousands of tokens.
    """

    prefill: dict[tuple[int, int], float] = field(default_factory=dict)  # a row
    decode: dict[int, float] = field(default_factory=dict)  # a step of so many decode rows alone

    def saw_decode(self, rows: int, seconds: float) -> None:
        self.decode[rows] = mix(self.decode.get(rows, seconds), seconds)

    def saw_prefill(self, rows: int, seconds: float, depth: int = 0) -> None:
        """Learn from rows of prompts, the first of which had ``depth`` tokens in the cache."""
        if rows >= GROUP:
            key = (max(size for size in SIZES if size <= rows), depth // DEPTH)
            row = max(seconds, 1e-6) / rows
            self.prefill[key] = mix(self.prefill.get(key, row), row)

    def decode_step(self, rows: int) -> float:
        """A step of ``rows`` decode rows; from the nearest width known, 0 when none is."""
        if not rows or not self.decode:
            return 0.0
        return self.decode[min(self.decode, key=lambda known: abs(known - rows))]

    def width(self, decoding: int) -> int:
        """How many of ``decoding`` sequences to put into a step: all, or the knee of this model on this machine, past
        which more of them at once give fewer tokens a second. A width that was never seen is tried."""
        if decoding <= GROUP:
            return decoding
        widths = [decoding, *(GROUP << power for power in range(8) if GROUP << power < decoding)]
        return max(widths, key=lambda width: self.rate(width) * (1 if width < decoding else WIDER_IS_FAIRER))

    def rate(self, width: int) -> float:
        """Tokens a second of decoding so many sequences; infinite where unknown."""
        return width / max(self.decode[width], 1e-9) if width in self.decode else math.inf

    def row(self, size: int, depth: int) -> float:
        """A row among ``size`` at a depth; of a size not met yet, by the next smaller one and hopefully."""
        known = [key for key in self.prefill if key[0] <= size and key[1] <= depth // DEPTH]
        if not known:
            return UNKNOWN_ROW
        nearest = max(known)
        return self.prefill[nearest] * (1.0 if nearest[0] == size else HOPE)

    def prefill_rows(self, decode_rows: int, seconds: float, depth: int = 0, most: int = 512) -> int:
        """How many rows of prompts, one of SIZES, to put beside ``decode_rows`` into a step of ``seconds``.

        llama.cpp's flash attention on the CPU needs 64 rows to be quick, behind a long prefix five times as quick: a
        step may take twice as long where a row then takes less than half.
        """
        room = AIM * seconds - self.decode_step(decode_rows)
        sizes = [size for size in SIZES if size <= most] or [GROUP]
        fits = max([size for size in sizes if size * self.row(size, depth) <= room], default=GROUP)
        quick = self.row(fits, depth) / 2
        quicker = [
            size for size in sizes if self.row(size, depth) < min(quick, 2 * room / size) and self.measured(size, depth)
        ]
        return min(quicker, default=fits)

    def measured(self, size: int, depth: int) -> bool:
        return (size, depth // DEPTH) in self.prefill

    def forget_slow(self, seconds: float) -> None:
        """Give sizes that took longer than a step another try: it may have been the machine's bad moment."""
        self.prefill = {key: row for key, row in self.prefill.items() if key[0] * row <= seconds}


def mix(old: float, new: float) -> float:
    return 0.7 * old + 0.3 * new


@dataclass(frozen=True)
class Limits:
    """``rows`` of a batch, ``width`` of decoding. ``step``: the seconds that a step may take while somebody waits for
    the next token; ``alone``: while nobody does (both None: no limit).

    ``ctx``: the tokens that one request may have, prompt and answer (None: as many as the cache).

    ``chunk``: every prompt is computed in chunks of exactly this many tokens, each alone in its step, and each request
    decodes alone, whatever ``width`` says: what a request gets then depends on no other one. llama.cpp rounds otherwise
    for one row than for several: attention splits a long cache among the threads for one row only, and repacked
    matrices have other products for rows in fours.
    """

    rows: int
    width: int
    step: float | None = 0.25
    alone: float | None = 2.0
    chunk: int | None = None
    ctx: int | None = None


def by_turns(waiting: Iterable[Sequence], active: Iterable[Sequence], served: Mapping[str, int]) -> list[Sequence]:
    """Who gets the next slot: conversations before side requests; then who has the fewest requests at work or ahead of
    this one; then whose turn was longest ago, by ``served``, the step of each client's last; then who came first."""
    count = Counter(sequence.request.client for sequence in active)
    ranked = []
    for sequence in waiting:
        client = sequence.request.client
        ranked.append((sequence.request.side, count[client], served.get(client, -1), sequence))
        count[client] += 1
    return [sequence for *_, sequence in sorted(ranked, key=lambda one: one[:3])]


def plan(active: list[Sequence], pace: Pace, limits: Limits, turn: int = 0, brief: bool = False) -> list[Work]:
    """One token of each decoding request, in turns where they are more than ``width``; then pieces of prompts, the
    oldest first. Empty when nobody has anything to compute. ``brief``: a short step in any case."""
    # Neighbours take turns together: see slots.fillers.
    decoding = sorted((sequence for sequence in active if sequence.decoding), key=lambda one: one.slot or 0)
    prefilling = [sequence for sequence in active if not sequence.decoding]
    if limits.chunk is not None:
        if prefilling and (turn % 2 == 0 or not decoding):
            first = prefilling[0]
            return [Work(first, min(limits.chunk - first.n_past % limits.chunk, first.n_pending))]
        return decodes(decoding, 1, limits.rows, turn // 2 if prefilling else turn)
    work = decodes(decoding, pace.width(min(limits.width, len(decoding))), limits.rows, turn)
    if not prefilling:
        return work
    rows = sum(one.count for one in work)
    room = limits.rows - rows
    alone = not (work or brief)
    seconds = limits.alone if alone else limits.step
    if seconds is not None:
        fits = pace.prefill_rows(rows, seconds, prefilling[0].n_past, limits.rows)
        room = min(room, max(fits, FLASH) if alone else fits)
        if alone:
            room = even(sum(sequence.n_pending for sequence in prefilling), room)
    for sequence in prefilling:
        count = min(room, sequence.n_pending)
        if count < sequence.n_pending:
            count -= count % GROUP
        if count <= 0:
            break
        work.append(Work(sequence, count))
        room -= count
    return work


def even(total: int, most: int) -> int:
    """Rows of a step, so that ``total`` rows in steps of at most ``most`` leave no small rest: it would be slow."""
    steps = -(-total // most)
    return min(most, -(-total // (steps * GROUP)) * GROUP)


def split(work: list[Work]) -> list[list[Work]]:
    """A step's decode rows, and its rows of prompts; only those that are there."""
    decoding = [one for one in work if one.decodes]
    return [part for part in (decoding, work[len(decoding) :]) if part]


def decodes(decoding: list[Sequence], width: int, rows: int, turn: int) -> list[Work]:
    """The pending tokens of those whose turn it is: one of each, and of the forced ones as many as a batch of ``rows``
    takes."""
    chosen = rotated(decoding, min(width, rows), turn)
    spare, work = rows - len(chosen), []
    for sequence in chosen:
        count = min(sequence.n_pending, 1 + spare)
        spare -= count - 1
        work.append(Work(sequence, count))
    return work


def rotated(decoding: list[Sequence], width: int, turn: int) -> list[Sequence]:
    """At most ``width`` of them, each as often as any other."""
    if len(decoding) <= width:
        return decoding
    start = turn * width % len(decoding)
    return (decoding + decoding)[start : start + width]


def should_wait(tokens: list[int], active: Iterable[Sequence], resident: int) -> bool:
    """Whether a request at work is about to compute more of ``tokens``' beginning than the ``resident`` ones."""
    for other in active:
        if other.n_past < other.n_prompt:
            common = common_prefix(other.tokens, tokens[:-1])
            if common >= max(other.n_past, resident) + WORTH_WAITING:
                return True
    return False
