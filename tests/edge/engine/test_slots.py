from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge.engine.sequence import Sequence
from edge.engine.slots import Slot, common_prefix, fillers, find_seat
from edge.engine.types import Request

TOKENS = st.lists(st.integers(0, 2), max_size=12)  # few letters: common prefixes are frequent
PROMPTS = st.lists(st.integers(0, 2), min_size=1, max_size=12)


def busy() -> Sequence:
    return Sequence(Request((1,)), [1])


def slot(index: int, *tokens: int, owned: bool = False, side: bool = False, used: int = 0) -> Slot:
    return Slot(index, list(tokens), busy() if owned else None, side, used)


@st.composite
def slot_lists(draw: st.DrawFn) -> list[Slot]:
    return [
        slot(index, *draw(TOKENS), owned=draw(st.booleans()), side=draw(st.booleans()), used=draw(st.integers(0, 5)))
        for index in range(draw(st.integers(1, 5)))
    ]


@given(TOKENS, TOKENS)
def test_the_common_prefix_is_common_and_the_longest(a: list[int], b: list[int]) -> None:
    length = common_prefix(a, b)
    assert a[:length] == b[:length]
    assert length == min(len(a), len(b)) or a[length] != b[length]
    assert length == common_prefix(b, a) == common_prefix(tuple(a), tuple(b))


@given(slot_lists(), PROMPTS, st.booleans(), st.booleans(), st.booleans())
def test_a_seat_is_free_and_what_it_reuses_is_there(
    slots: list[Slot], tokens: list[int], side: bool, reuse: bool, cuts: bool
) -> None:
    seat = find_seat(slots, tokens, side=side, reuse=reuse, cuts=cuts)
    if seat is None:
        assert all(one.owner for one in slots)
        return
    assert any(one.owner is None for one in slots) and seat.slot.owner is None
    assert seat.source.tokens[: seat.reused] == tokens[: seat.reused]
    best = max(common_prefix(one.tokens, tokens) for one in slots)
    assert seat.reused <= min(best, len(tokens) - 1), "the last token is always computed"
    if not reuse:
        assert seat.reused == 0
    elif cuts:
        assert seat.reused == min(best, len(tokens) - 1)
    elif seat.reused:
        assert seat.reused == len(seat.source.tokens), "a memory that cannot be cut is used whole"


@given(slot_lists(), PROMPTS)
def test_a_side_request_takes_a_conversation_only_when_nothing_else_is_free(
    slots: list[Slot], tokens: list[int]
) -> None:
    seat = find_seat(slots, tokens, side=True)
    others = [one for one in slots if one.owner is None and (one.side or not one.tokens)]
    if seat is not None and others:
        assert seat.slot.side or not seat.slot.tokens


@given(slot_lists(), PROMPTS)
def test_an_empty_slot_goes_before_one_that_holds_something_else(slots: list[Slot], tokens: list[int]) -> None:
    seat = find_seat(slots, tokens, side=False)
    if seat is not None and any(one.owner is None and not one.tokens for one in slots):
        lost = seat.slot.tokens[seat.reused if seat.slot is seat.source else 0 :]
        assert not lost


def test_a_conversation_goes_on_in_its_slot() -> None:
    slots = [slot(0), slot(1, 5, 6, 7, used=3), slot(2, 9, used=1)]
    seat = find_seat(slots, [5, 6, 7, 8], side=False)
    assert seat is not None and (seat.slot.index, seat.source.index, seat.reused) == (1, 1, 3)


def test_a_branch_is_copied_to_a_slot_of_its_own() -> None:
    slots = [slot(0, 5, 6, 7, used=3), slot(1, 9, used=1)]
    seat = find_seat(slots, [5, 6, 1, 2], side=False)
    assert seat is not None and (seat.slot.index, seat.source.index, seat.reused) == (1, 0, 2)


def test_a_branch_cuts_its_source_where_no_other_slot_is_free() -> None:
    slots = [slot(0, 5, 6, 7, used=3), slot(1, 9, owned=True)]
    seat = find_seat(slots, [5, 6, 1, 2], side=False)
    assert seat is not None and (seat.slot.index, seat.source.index, seat.reused) == (0, 0, 2)


def test_the_prefix_of_a_request_at_work_is_copied() -> None:
    slots = [slot(0, 5, 6, 7, owned=True), slot(1)]
    seat = find_seat(slots, [5, 6, 7, 8], side=False)
    assert seat is not None and (seat.slot.index, seat.source.index, seat.reused) == (1, 0, 3)


def test_a_side_request_leaves_the_conversation_that_it_reads() -> None:
    slots = [slot(0, 5, 6, 7), slot(1, 8, side=True)]
    seat = find_seat(slots, [5, 6, 7, 8], side=True)
    assert seat is not None and (seat.slot.index, seat.source.index, seat.reused) == (1, 0, 3)


def test_the_slot_used_longest_ago_goes_first() -> None:
    seat = find_seat([slot(0, 1, used=5), slot(1, 2, used=3), slot(2, 3, used=4)], [7, 8], side=False)
    assert seat is not None and (seat.slot.index, seat.reused) == (1, 0)


def test_who_works_together_sits_together() -> None:
    """Two clients sat in the first and the last slot every other time, and the two between were computed with them."""
    slots = [slot(index, index, used=[4, 5, 6, 3][index]) for index in range(4)]
    seats = []
    for turn in range(4):
        for step in (0, 1):
            seat = find_seat(slots, [9, 9], side=False)
            assert seat is not None
            seat.slot.owner, seat.slot.used = busy(), 10 + 2 * turn + step
            seats.append(seat.slot.index)
        for one in slots:
            one.owner = None
    assert seats == [0, 1, 2, 3, 0, 1, 2, 3]


def test_slots_between_are_taken_along() -> None:
    slots = [slot(0, 1), slot(1, 1, 2), slot(2), slot(3, 1), *(slot(index) for index in range(4, 12))]
    assert fillers([3, 0], slots, 10, cuts=True) == [1, 2]
    assert fillers([0, 1], slots, 10, cuts=True) == fillers([0], slots, 10, cuts=True) == []
    assert fillers([0, 3], slots, 10, cuts=False) == [], "half a gap is of no use"
    assert fillers([0, 3], slots, 2, cuts=True) == [], "slot 1 is full"
    assert fillers([3, 9], slots, 10, cuts=True) == [], "so many rows cost more than a pass"


def test_four_rows_are_quicker_than_three() -> None:
    slots = [slot(0, 1), slot(1, 1, 2), slot(2), slot(3, 1)]
    assert fillers([0, 1, 2], slots, 10, cuts=True) == [3]
    assert fillers([1, 2, 3], slots, 10, cuts=True) == [0]
    assert fillers([1, 3], slots, 10, cuts=True) == [2, 0]
    assert fillers([1, 3], slots, 10, cuts=False) == [2], "an empty slot can be emptied again"
    assert fillers([0, 1, 2], slots[:3], 10, cuts=True) == fillers([0, 1, 2, 3], slots, 10, cuts=True) == []
