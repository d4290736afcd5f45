"""Slots: the sequences of the cache, and whose tokens each of them holds. Decides; touches no cache."""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Sequence as Tokens
from dataclasses import dataclass, field
from itertools import pairwise

from edge.engine.sequence import Sequence

GROUP = 4  # rows; llama.cpp's repacked matrix products work on multiples of it
WIDEST_GAP = 4  # slots


@dataclass
class Slot:
    """``tokens`` are resident at positions 0, 1, …; ``owner`` is the request at work in it; ``used`` a step number."""

    index: int
    tokens: list[int] = field(default_factory=list)
    owner: Sequence | None = None
    side: bool = False
    used: int = 0


@dataclass(frozen=True)
class SlotState:
    """``state``: ``free``, ``reads`` a prompt, or ``writes``; ``tokens``: how many it holds."""

    state: str
    tokens: int


def state_of(slot: Slot) -> SlotState:
    owner = slot.owner  # another thread may take it away
    if owner is None:
        return SlotState("free", len(slot.tokens))
    return SlotState("writes" if owner.decoding else "reads", len(slot.tokens))


@dataclass(frozen=True)
class Seat:
    """Where a request begins: ``slot`` with ``reused`` tokens that ``source`` holds, which may be the same slot."""

    slot: Slot
    source: Slot
    reused: int


def common_prefix(a: Tokens[int], b: Tokens[int]) -> int:
    """How many tokens two lists begin with alike."""
    shortest = min(len(a), len(b))
    low, high = 0, shortest  # slices compare at C's speed
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def find_seat(
    slots: list[Slot], tokens: list[int], *, side: bool, reuse: bool = True, cuts: bool = True
) -> Seat | None:
    """A free slot for a request, with the longest resident prefix of any slot; None when every slot has an owner.

    The last token is always computed: its logits are wanted. A request that goes on from all that a slot holds does so
    there; else the prefix is copied, and what the other slot holds stays, unless there is no second free slot. A side
    request takes an empty slot or another side request's before a conversation's. Without ``cuts`` the model cannot
    forget the end of a sequence, and only whole ones are of use.
    """
    free = [slot for slot in slots if slot.owner is None]
    if not free:
        return None
    oldest = oldest_of(free, slots, side)
    wanted = tokens[:-1]

    def usable(slot: Slot) -> int:
        common = common_prefix(slot.tokens, wanted) if reuse else 0
        return common if cuts or common == len(slot.tokens) else 0

    lengths = {slot.index: usable(slot) for slot in slots}
    source = max(slots, key=lambda slot: (lengths[slot.index], slot.owner is None, slot.used))
    reused = lengths[source.index]
    if not reused:
        return Seat(oldest, oldest, 0)
    goes_on = reused == len(source.tokens) and not (side and len(free) > 1)
    in_place = source.owner is None and (source is oldest or goes_on)
    return Seat(source if in_place else oldest, source, reused)


def oldest_of(free: list[Slot], slots: list[Slot], side: bool) -> Slot:
    """Whose tokens are worth the least: none, a side request's to another one, or what was not used for long.

    Of the older half the one beside a slot at work, or the first: what is at work together should be neighbours, as
    ``fillers`` tells.
    """

    def worth(slot: Slot) -> tuple[bool, bool]:
        return bool(slot.tokens) and not (side and slot.side), bool(slot.tokens)

    least = min(map(worth, free))
    alike = sorted((slot for slot in free if worth(slot) == least), key=lambda slot: slot.used)
    older = alike[: (len(alike) + 1) // 2] if least[1] else alike
    at_work = {slot.index for slot in slots if slot.owner is not None}
    if not at_work:
        return min(older, key=lambda slot: slot.index)
    beside = [slot for slot in older if {slot.index - 1, slot.index + 1} & at_work]
    return (beside or older)[0]


def fillers(used: Iterable[int], slots: list[Slot], cells: int, *, cuts: bool) -> list[int]:
    """Slots to take along in a decode step of the ``used`` ones, each by a row that is forgotten at once.

    llama.cpp computes rows together only if the numbers of their sequences follow one another: a gap costs one more
    pass over all weights, and a few more rows cost little. And four rows are quicker than three by an eighth: products
    with repacked matrices take rows in groups (``GROUP``), and what is left over one by one.

    Each slot has ``cells``. Without ``cuts`` the model forgets nothing or all, and only empty slots can be taken.
    """

    def can_be(slot: Slot) -> bool:
        return len(slot.tokens) < cells and (cuts or not slot.tokens)

    used = sorted(used)
    found: list[int] = []
    for before, after in pairwise(used):
        gap = slots[before + 1 : after]
        if len(gap) <= WIDEST_GAP and all(map(can_be, gap)):
            found += [slot.index for slot in gap]
    if (len(used) + len(found)) % GROUP == GROUP - 1:
        found += [slot.index for slot in (*slots[used[-1] + 1 :][:1], *slots[: used[0]][-1:]) if can_be(slot)][:1]
    return found
