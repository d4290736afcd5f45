from __future__ import annotations

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.engine.scheduler import FLASH, GROUP, SIZES, WORTH_WAITING, Limits, Pace, Work, even, plan, should_wait
from edge.engine.sequence import MOST_FORCED, Sequence
from edge.engine.types import Request


def prefilling(prompt: int, done: int = 0, first: int = 0) -> Sequence:
    tokens = list(range(first, first + prompt))
    return Sequence(Request(tuple(tokens)), tokens, n_past=done)


def decoding(prompt: int = 5, generated: int = 1, pending: int = 1) -> Sequence:
    sequence = prefilling(prompt)
    sequence.tokens.extend([7] * generated)
    sequence.n_past = len(sequence.tokens) - pending
    return sequence


PROMPT = st.integers(1, 600).flatmap(lambda n: st.builds(prefilling, st.just(n), st.integers(0, n - 1)))
DECODE = st.builds(decoding)
ACTIVE = st.lists(st.one_of(PROMPT, DECODE), max_size=12)
LIMITS = st.builds(Limits, rows=st.integers(16, 512), width=st.integers(1, 12), step=st.floats(0.05, 2))
PACE = st.builds(
    Pace,
    prefill=st.dictionaries(
        st.tuples(st.sampled_from(SIZES[:12]), st.integers(0, 2)), st.floats(1e-4, 0.05), max_size=6
    ),
    decode=st.dictionaries(st.integers(1, 12), st.floats(1e-3, 0.3), max_size=4),
)


def rows(work: list[Work]) -> int:
    return sum(one.count for one in work)


@given(ACTIVE, PACE, LIMITS, st.integers(0, 1000), st.booleans())
def test_a_step_keeps_its_limits(active: list[Sequence], pace: Pace, limits: Limits, turn: int, brief: bool) -> None:
    work = plan(active, pace, limits, turn, brief)
    assert rows(work) <= limits.rows
    assert all(0 < one.count <= one.sequence.n_pending for one in work)
    assert len({id(one.sequence) for one in work}) == len(work), "a request once"
    decodes = [one for one in work if one.sequence.decoding]
    prompts = [one for one in work if not one.sequence.decoding]
    assert len(decodes) == pace.width(min(limits.width, sum(one.decoding for one in active)))
    assert all(one.count % GROUP == 0 or one.completes for one in prompts)
    assert bool(work) == bool(active), "whoever is at work gets on"
    seconds = limits.step if decodes or brief else limits.alone
    assert seconds is not None
    waiting = [one for one in active if not one.decoding]
    depth = waiting[0].n_past if waiting else 0
    fits = pace.prefill_rows(rows(decodes), seconds, depth, limits.rows)
    assert rows(prompts) <= (fits if decodes or brief else max(fits, FLASH))


@given(st.integers(1, 5000), st.integers(4, 512))
def test_a_long_prompt_leaves_no_small_rest(total: int, most: int) -> None:
    rows = even(total, most)
    steps = -(-total // most)
    assert 0 < rows <= most
    assert rows * steps >= total or rows == most
    assert rows < GROUP + -(-total // steps)


@given(ACTIVE, PACE, LIMITS, st.integers(0, 1000))
def test_prompts_go_in_order_of_arrival(active: list[Sequence], pace: Pace, limits: Limits, turn: int) -> None:
    waiting = [one for one in active if not one.decoding]
    prompts = [one for one in plan(active, pace, limits, turn) if not one.sequence.decoding]
    assert [one.sequence for one in prompts] == waiting[: len(prompts)]
    cut = next((i for i, one in enumerate(prompts) if not one.completes), len(prompts))
    assert rows(prompts[cut + 1 :]) < GROUP, "a later one takes only what the oldest has no use for"


@given(st.integers(1, 40), st.integers(1, 12), st.integers(0, 1000))
def test_everyone_gets_a_turn(n: int, width: int, turn: int) -> None:
    active = [decoding() for _ in range(n)]
    limits = Limits(rows=512, width=width)
    steps = [plan(active, Pace(), limits, turn + step) for step in range(ceil(n / width))]
    assert all(len(step) == min(n, width) for step in steps)
    assert {id(one.sequence) for step in steps for one in step} == {id(one) for one in active}


@given(st.lists(st.integers(1, MOST_FORCED), min_size=1, max_size=12), st.integers(16, 64))
def test_forced_tokens_never_overfill_the_batch(pending: list[int], size: int) -> None:
    """A grammar may force several tokens for each of many requests; together they were once more than the batch."""
    active = [decoding(5, count + 1, count) for count in pending]
    assert 0 < rows(plan(active, Pace(), Limits(rows=size, width=12))) <= size


@given(ACTIVE, st.integers(1, 128), st.integers(1, 12), st.integers(0, 1000))
def test_separate_prompts_never_mix(active: list[Sequence], chunk: int, width: int, turn: int) -> None:
    """What the steps of a request look like depends on no other request."""
    work = plan(active, Pace(), Limits(rows=512, width=width, chunk=chunk), turn)
    assert bool(work) == bool(active)
    prompts = [one for one in work if not one.sequence.decoding]
    if prompts:
        (one,) = work
        end = one.sequence.n_past + one.count
        assert end % chunk == 0 or one.completes
        assert one.count <= chunk
    assert len(work) <= 1, "rows of two requests in one step round otherwise than those of one"


@given(st.integers(1, 12), st.integers(1, 8), st.integers(0, 100))
def test_everyone_gets_a_turn_beside_separate_prompts(n: int, width: int, turn: int) -> None:
    """Prompts take every other step; of two decoding requests one once had all the steps between."""
    active = [prefilling(500), *(decoding() for _ in range(n))]
    steps = [plan(active, Pace(), Limits(512, width, chunk=64), turn + step) for step in range(2 * n)]
    assert all(len(step) == 1 for step in steps)
    assert {id(one.sequence) for step in steps for one in step} == {id(one) for one in active}


@given(st.integers(1, 300), st.integers(1, 128), st.lists(DECODE, max_size=3))
def test_a_separate_prompt_is_cut_alike_in_any_company(prompt: int, chunk: int, others: list[Sequence]) -> None:
    limits = Limits(rows=512, width=8, chunk=chunk)

    def cuts(others: list[Sequence]) -> list[int]:
        own, found = prefilling(prompt), []
        for turn in range(10_000):
            for one in plan([*others, own], Pace(), limits, turn):
                if one.sequence is own:
                    found.append(one.count)
                    own.n_past += one.count
            if not own.n_pending:
                return found
        raise AssertionError("never done")

    assert cuts(others) == cuts([])


def test_many_forced_tokens_are_taken_in_chunks_like_a_prompt() -> None:
    sequence = decoding(prompt=100, generated=50, pending=150)
    assert not sequence.decoding
    (work,) = plan([sequence], Pace(), Limits(rows=64, width=4, step=None))
    assert work.count == 52 and not work.completes  # two steps of 64 rows at most


def test_the_pace_learns_what_it_sees() -> None:
    pace = Pace()
    for _ in range(60):
        pace.saw_decode(4, 0.1)
        pace.saw_prefill(100, 0.5)
    assert pace.decode_step(4) == pytest.approx(0.1)
    assert pace.row(96, 0) == pace.row(96, 1023) == pytest.approx(0.005, rel=1e-3)
    assert pace.decode_step(5) == pace.decode_step(1) == pace.decode_step(4), "the nearest that is known"
    assert pace.decode_step(0) == 0


def test_the_width_is_the_knee() -> None:
    """Past a model's knee more sequences at once give fewer tokens a second: they take turns."""
    pace = Pace()
    active = [decoding() for _ in range(8)]
    seen = []
    for turn in range(12):
        width = rows(plan(active, pace, Limits(rows=512, width=8), turn))
        pace.saw_decode(width, {4: 0.16, 8: 0.4}[width])
        seen.append(width)
    assert set(seen[:2]) == {4, 8} and set(seen[2:]) == {4}, "each was tried once"
    assert rows(plan(active[:3], pace, Limits(rows=512, width=8))) == 3
    for _ in range(40):
        pace.saw_decode(8, 0.3)
    assert rows(plan(active, pace, Limits(rows=512, width=8))) == 8
    assert rows(plan(active, pace, Limits(rows=512, width=4))) == 4


def test_chunks_grow_to_the_largest_that_fits_the_step() -> None:
    pace = Pace()
    for _ in range(8):
        rows = pace.prefill_rows(0, 0.25)
        pace.saw_prefill(rows, 0.003 * rows)
    assert rows == 64
    for _ in range(8):
        rows = pace.prefill_rows(0, 0.25, depth=5000)
        pace.saw_prefill(rows, 0.01 * rows, depth=5000)
    assert rows == 16, "deeper in the cache a row takes longer; 24 would be too near to 250 ms"
    assert pace.prefill_rows(0, 0.25) == 64


def test_chunks_stay_large_where_small_ones_are_no_quicker() -> None:
    """With flash attention on the CPU, a step of 64 rows that took a little over 250 ms gave way to ever smaller ones
    of ever dearer rows, and a prompt of 1,100 tokens took twice as long."""
    pace = Pace()
    pace.saw_prefill(64, 0.2)
    for _ in range(30):
        rows = pace.prefill_rows(0, 0.25)
        pace.saw_prefill(rows, rows * (0.0045 if rows >= 64 else 0.018))
    assert rows == 64


def test_what_was_too_slow_once_is_tried_again() -> None:
    pace = Pace()
    pace.saw_prefill(64, 2.0)
    pace.saw_prefill(8, 0.02)
    assert pace.prefill_rows(0, 0.25) < 64
    pace.forget_slow(0.25)
    assert pace.prefill_rows(0, 0.25) >= 64


def test_a_pace_of_nothing_is_still_a_pace() -> None:
    """A clock that did not move between two readings gave a division by zero."""
    pace = Pace()
    for _ in range(200):
        pace.saw_prefill(8, 0.0)
    assert pace.row(8, 0) > 0 and pace.prefill_rows(0, 0.25) >= GROUP


@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 399))
def test_waiting_for_a_prefix(common: int, done: int, resident: int) -> None:
    """Wait only for something that is on its way, and long enough to be worth it."""
    prompt = list(range(400))
    other = Sequence(Request(tuple(prompt)), list(prompt), n_past=done)
    mine = [*prompt[:common], 9999, 9998]
    assert should_wait(mine, [other], resident) == (common >= max(done, resident) + WORTH_WAITING and done < 400)


def test_nobody_waits_for_one_that_decodes() -> None:
    assert not should_wait(list(range(300)), [decoding(prompt=300)], 0)
    assert not should_wait(list(range(300)), [], 0)
