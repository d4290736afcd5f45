"""What a level needs and whether that fits, on made-up machines."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.levels import LEVELS
from edge.cost import compute_bytes, file_bytes, kv_bytes, products, weight_bytes, work_bytes
from edge.llama.context import CELL_BLOCK, cells_for
from edge.memory import context_bytes, longest_context
from edge.plan.levels import (
    CHECKED_TOKENS,
    PROGRAM,
    QUESTION,
    READ_AND_WRITE,
    RESERVE,
    VOCABULARY_TOKEN,
    LevelPlan,
    Room,
    Verdict,
    convert_seconds,
    plan_level,
    program_bytes,
    verdict,
)
from edge.plan.predict import decode_seconds, first_token_seconds, prefill_seconds
from edge.plan.probe import Rates
from edge.shapes import ModelShape, level_tensors
from tests.edge.plan.sample import GB, KINDS, KNOWN, RATES, ROOM, locked_shape

SHAPE = locked_shape("qwen2.5-7b")
COARSER = ("F16", "Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q3_K_M", "Q2_K")
BETTER: list[Verdict] = ["does not fit", "tight", "fits"]


def planned(level: str, shape: ModelShape = SHAPE, room: Room = ROOM, rates: Rates = RATES, **more: Any) -> LevelPlan:
    return plan_level(level, shape, level_tensors(shape, level), rates, room, **{"ctx": 4096, **more})


# --- one level


def test_every_figure_of_a_level() -> None:
    tensors = level_tensors(SHAPE, "Q4_K_M")
    found, work = planned("Q4_K_M", download=15 * GB), products(tensors, SHAPE)
    reading = prefill_seconds(work, SHAPE, RATES, QUESTION)
    cells = 4096 + 256  # as the engine takes them
    assert found.level == "Q4_K_M" and not found.here
    assert found.file == file_bytes(SHAPE, "Q4_K_M")
    assert found.bits_per_weight == 8 * weight_bytes(tensors) / SHAPE.parameters
    assert found.weights == weight_bytes(tensors)
    assert found.cache == kv_bytes(SHAPE, cells)
    flash = compute_bytes(SHAPE, cells, flash_attn=True) + work_bytes(SHAPE, cells, flash_attn=True)
    assert found.compute == flash
    assert found.memory == found.weights + found.cache + found.compute + program_bytes(SHAPE)
    assert found.verdict == "fits"
    assert found.decode == 1 / decode_seconds(work, SHAPE, RATES)
    assert found.prefill == QUESTION / reading
    assert found.first_token == first_token_seconds(work, SHAPE, RATES, QUESTION)
    assert reading < found.first_token < reading + decode_seconds(work, SHAPE, RATES)
    left = ROOM.available - found.weights - program_bytes(SHAPE)
    assert found.longest_context == longest_context(SHAPE, left, flash_attn=True)
    assert (found.download, found.disk, found.disk_is_short) == (15 * GB, 15 * GB + found.file, False)
    checking = CHECKED_TOKENS * reading / QUESTION
    assert found.convert == convert_seconds(SHAPE, tensors, RATES, 4) + checking


def test_what_is_known_of_qwen_7b() -> None:
    """4.68 GB as published, 2 x 28 x 4 x 128 halves a token."""
    found = planned("Q4_K_M")
    assert found.file == pytest.approx(4.68 * GB, rel=0.005)
    assert found.cache == 4352 * 2 * 28 * 4 * 128 * 2
    assert found.bits_per_weight == pytest.approx(4.91, abs=0.01)
    assert 5 * GB < found.memory < 6 * GB


def test_a_file_that_is_here_costs_nothing_more() -> None:
    found = planned("Q4_K_M", download=15 * GB, file=4_700_000_001)
    assert found.here and found.file == 4_700_000_001
    assert (found.download, found.disk, found.convert, found.disk_is_short) == (0, 0, 0.0, False)
    assert planned("Q4_K_M", room=replace(ROOM, disk=0), file=1).disk_is_short is False


@pytest.mark.parametrize(("free", "short"), [(None, False), (0, True), (-1, True), (1, False)])
def test_the_disk_holds_download_and_file(free: int | None, short: bool) -> None:
    """1: just enough; -1: a byte less."""
    needed = 15 * GB + file_bytes(SHAPE, "Q8_0")
    disk = {None: None, 0: 0, -1: needed - 1, 1: needed}[free]
    found = planned("Q8_0", room=replace(ROOM, disk=disk), download=15 * GB)
    assert (found.disk, found.disk_is_short) == (needed, short)


def test_layers_that_predict_are_in_the_file_and_not_in_memory() -> None:
    shape = locked_shape("glm-4.5-air")
    found = planned("Q4_0", shape)
    assert found.weights < 0.98 * weight_bytes(level_tensors(shape, "Q4_0")) < found.file


def test_flash_attention_needs_less_beside_the_cache() -> None:
    tensors = level_tensors(SHAPE, "Q8_0")
    plain, flash = (plan_level("Q8_0", SHAPE, tensors, RATES, ROOM, ctx=32768, flash_attn=on) for on in (False, True))
    assert flash.compute < plain.compute / 5 and flash.cache == plain.cache
    assert flash.longest_context >= plain.longest_context


def test_the_program_and_two_copies_of_the_vocabulary() -> None:
    assert program_bytes(SHAPE) == PROGRAM + 152064 * VOCABULARY_TOKEN


@pytest.mark.parametrize("name", KINDS)
def test_finer_levels_are_larger_and_slower(name: str) -> None:
    """Where every type is read at the same rate."""
    plans = [planned(level, locked_shape(name), download=GB) for level in COARSER]
    for figure in ("file", "bits_per_weight", "weights", "memory", "disk"):
        values = [getattr(plan, figure) for plan in plans]
        assert values == sorted(set(values), reverse=True), figure
    rates = [plan.decode for plan in plans]
    assert rates == sorted(set(rates))
    contexts = [plan.longest_context for plan in plans]
    assert contexts == sorted(contexts)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("name", ["qwen3.5-0.8b", "glm-4.7-flash"])
def test_every_level_can_be_planned(name: str, level: str) -> None:
    found = planned(level, locked_shape(name))
    for figure in ("decode", "prefill", "first_token", "convert", "bits_per_weight"):
        assert 0 < getattr(found, figure) < math.inf, figure


# --- does it fit


ROOMS = Room(total=1000 + RESERVE, available=600 + RESERVE, disk=None, threads=1)


@pytest.mark.parametrize(
    ("needed", "room", "expected"),
    [
        (600, ROOMS, "fits"),
        (601, ROOMS, "tight"),  # other programs have to go
        (1000, ROOMS, "tight"),
        (1001, ROOMS, "tight"),  # available holds it, though less than the reserve is left
        (600 + RESERVE, ROOMS, "tight"),
        (1001 + RESERVE, ROOMS, "does not fit"),
        (501, Room(1000, 500, None, 1), "does not fit"),
        (500, Room(1000, 500, None, 1), "tight"),
    ],
)
def test_verdicts(needed: int, room: Room, expected: Verdict) -> None:
    assert verdict(needed, room) == expected


SIZES = st.integers(0, 4 * RESERVE)


@settings(deadline=None)
@given(needed=SIZES, total=SIZES, available=SIZES, more=SIZES, less=SIZES)
def test_more_memory_never_worsens_a_verdict(needed: int, total: int, available: int, more: int, less: int) -> None:
    room = Room(total, min(total, available), None, 1)
    now = BETTER.index(verdict(needed, room))
    assert BETTER.index(verdict(needed, replace(room, total=total + more))) >= now
    assert BETTER.index(verdict(needed, replace(room, total=total + more, available=room.available + more))) >= now
    assert BETTER.index(verdict(max(0, needed - less), room)) >= now


@settings(max_examples=20, deadline=None)
@given(
    name=st.sampled_from(KNOWN),
    available=st.integers(0, 64 * GB),
    more=st.integers(0, 64 * GB),
    ctx=st.integers(8, 8192),
)
def test_more_memory_never_worsens_a_plan(name: str, available: int, more: int, ctx: int) -> None:
    shape = locked_shape(name)
    before, after = (
        planned("Q4_0", shape, Room(2 * free, free, None, 4), ctx=min(ctx, shape.context_length))
        for free in (available, available + more)
    )
    assert BETTER.index(before.verdict) <= BETTER.index(after.verdict)
    assert before.longest_context <= after.longest_context
    assert before.memory == after.memory


@settings(max_examples=40, deadline=None)
@given(name=st.sampled_from(KNOWN), one=st.integers(8, 300_000), other=st.integers(8, 300_000))
def test_a_longer_context_needs_as_much_or_more(name: str, one: int, other: int) -> None:
    shape, (short, long) = locked_shape(name), sorted((one, other))
    for flash_attn in (False, True):
        less, more = (
            context_bytes(shape, short, flash_attn=flash_attn),
            context_bytes(shape, long, flash_attn=flash_attn),
        )
        assert less[0] <= more[0] and less[1] <= more[1]


# --- the longest context


def fits(shape: ModelShape, ctx: int, free: int, flash_attn: bool) -> bool:
    return sum(context_bytes(shape, ctx, flash_attn=flash_attn)) <= free


@settings(max_examples=100, deadline=None)
@given(
    name=st.sampled_from(KNOWN),
    trained=st.integers(0, 40_000),
    free=st.integers(-GB, 20 * GB),
    flash_attn=st.booleans(),
)
def test_the_longest_context_is_the_last_that_fits(name: str, trained: int, free: int, flash_attn: bool) -> None:
    """A model trained for 200 or 1,000 tokens, no whole number of blocks, was promised all of them without memory for
    the last."""
    shape = replace(locked_shape(name), context_length=trained)
    found = longest_context(shape, free, flash_attn=flash_attn)
    assert 0 <= found <= trained and (found % CELL_BLOCK == 0 or found == trained)
    assert found == 0 or fits(shape, found, free, flash_attn)
    if found < trained:
        assert not fits(shape, min(trained, found + CELL_BLOCK), free, flash_attn)


@pytest.mark.parametrize("trained", [200, 256, 1000, 1024])
def test_a_context_that_is_just_too_large(trained: int) -> None:
    shape = replace(SHAPE, context_length=trained)
    needed = sum(context_bytes(shape, trained, flash_attn=False))
    assert longest_context(shape, needed, flash_attn=False) == trained
    assert longest_context(shape, needed - 1, flash_attn=False) == (trained - 1) // CELL_BLOCK * CELL_BLOCK
    assert longest_context(shape, 0, flash_attn=False) == longest_context(shape, -1, flash_attn=False) == 0


def test_contexts_are_computed_over_the_cells_that_the_engine_takes() -> None:
    assert context_bytes(SHAPE, 300, flash_attn=True) == context_bytes(SHAPE, 512, flash_attn=True)
    assert context_bytes(SHAPE, 4096, flash_attn=True)[0] == kv_bytes(SHAPE, cells_for(4096)) == kv_bytes(SHAPE, 4352)


# --- converting


def test_converting_is_quantizing_on_all_threads_and_moving_bytes() -> None:
    tensors = level_tensors(SHAPE, "Q8_0")
    moved = (2 * SHAPE.parameters + weight_bytes(tensors)) / READ_AND_WRITE
    quantized = sum(math.prod(one.shape) for one in tensors if one.qtype == "Q8_0")
    rates = replace(RATES, quantize={"Q8_0": 1e8})
    for threads in (1, 4):
        expected = quantized / 1e8 / threads + moved
        assert convert_seconds(SHAPE, iter(tensors), rates, threads) == pytest.approx(expected)
    assert convert_seconds(SHAPE, tensors, replace(RATES, quantize={}), 4) == pytest.approx(moved)
