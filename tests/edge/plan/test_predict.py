"""Tokens/s as a sum of parts, each from a rate of the machine."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.cost import Product, attention_flops, kv_bytes, products
from edge.plan.predict import (
    HIDDEN_PASSES,
    INNER_PASSES,
    SCORE_PASSES,
    SMALL_OPS,
    STEP_OPS,
    decode_seconds,
    prefill_seconds,
)
from edge.shapes import level_tensors
from tests.edge.plan.sample import KNOWN, RATES, locked_shape

SHAPE = locked_shape("qwen2.5-7b")  # 28 layers of 3584, feed-forward 18944, 28 heads, vocabulary 152064
WORK = products(level_tensors(SHAPE, "Q4_K_M"), SHAPE)
FREE = replace(RATES, small_op=0.0, small_product=0.0, value=0.0)  # nothing but the products costs time


def test_decoding_reads_each_type_at_its_own_rate() -> None:
    work = [Product("Q4_K", 4096, 4096, 2, 1.0), Product("Q6_K", 4096, 1024, 1, 1.0)]
    rates = replace(FREE, read={"Q4_K": 1e9, "Q6_K": 2e9, "F16": 3e9})
    expected = 2 * 4096 * 4096 / 256 * 144 / 1e9 + 4096 * 1024 / 256 * 210 / 2e9
    assert decode_seconds(work, SHAPE, rates) == pytest.approx(expected)


def test_decoding_reads_of_experts_those_that_a_token_uses() -> None:
    work = [Product("Q8_0", 768, 2048, 48 * 128, 8 / 128)]
    expected = 48 * 8 * 768 * 2048 / 32 * 34 / RATES.read["Q8_0"]
    assert decode_seconds(work, SHAPE, FREE) == pytest.approx(expected)


def test_decoding_reads_the_cache_and_pays_for_small_operations() -> None:
    assert decode_seconds([], SHAPE, FREE) == 0
    assert decode_seconds([], SHAPE, RATES) == pytest.approx((28 * SMALL_OPS + STEP_OPS) * RATES.small_op)
    rates = replace(FREE, read={"F16": 5e9})
    assert decode_seconds([], SHAPE, rates, 1000) == pytest.approx(kv_bytes(SHAPE, 1000) / 5e9)


def test_each_product_costs_time_however_small() -> None:
    """Most of a tiny model's step is that: by bytes alone it was planned half as slow again on one machine, twice as
    quick on another."""
    work = [Product("Q4_K", 256, 8, 28, 1.0), Product("Q8_0", 256, 8, 28 * 128, 8 / 128)]
    rates = replace(FREE, read=dict.fromkeys(RATES.read, 1e30), small_product=1e-6)
    assert decode_seconds(work, SHAPE, rates) == pytest.approx((28 + 28 * 8) * 1e-6)


def test_a_prompt_is_two_operations_a_weight_and_attention() -> None:
    work = [Product("Q4_K", 4096, 4096, 2, 1.0), Product("Q6_K", 4096, 1024, 1, 0.5)]
    rates = replace(FREE, multiply={"Q4_K": 1e11, "Q6_K": 2e11, "F16": 3e11})
    each = 2 * 2 * 4096 * 4096 / 1e11 + 4096 * 1024 / 2e11 + attention_flops(SHAPE, 100) / 3e11
    assert prefill_seconds(work, SHAPE, rates, 100) == pytest.approx(100 * each)


def test_a_prompt_leaves_out_the_output_matrix() -> None:
    """Only its last token needs it; every other matrix counts."""
    output = Product("Q6_K", 3584, 152064, 1, 1.0)
    assert output in WORK
    inner = [one for one in WORK if one != output]
    assert prefill_seconds(WORK, SHAPE, RATES, 512) == prefill_seconds(inner, SHAPE, RATES, 512)
    assert prefill_seconds(inner[1:], SHAPE, RATES, 512) < prefill_seconds(inner, SHAPE, RATES, 512)


def test_a_prompt_goes_over_its_values_many_times() -> None:
    rates = replace(RATES, multiply={"F16": float("inf")})
    values = HIDDEN_PASSES * 3584 + INNER_PASSES * 18944 + SCORE_PASSES * 28 * 100
    assert prefill_seconds([], SHAPE, rates, 100) == pytest.approx(100 * 28 * values * RATES.value)


def test_the_inner_values_of_experts_are_those_of_the_ones_in_use() -> None:
    shape = locked_shape("qwen3-30b-a3b")  # 48 layers of 2048, 8 experts of 768, 32 heads
    rates = replace(RATES, multiply={"F16": float("inf")})
    values = HIDDEN_PASSES * 2048 + INNER_PASSES * 8 * 768 + SCORE_PASSES * 32 * 10
    assert prefill_seconds([], shape, rates, 10) == pytest.approx(10 * 48 * values * RATES.value)


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(KNOWN), st.integers(0, 100_000), st.integers(0, 100_000))
def test_more_tokens_take_longer(name: str, one: int, other: int) -> None:
    less, more = sorted((one, other))
    shape = locked_shape(name)
    work = products(level_tensors(shape, "Q4_0"), shape)
    assert 0 < decode_seconds(work, shape, RATES, less) <= decode_seconds(work, shape, RATES, more)
    reading, longer = (prefill_seconds(work, shape, RATES, tokens) for tokens in (less, more))
    assert reading * more <= longer * less * (1 + 1e-9), "no token of a longer prompt is cheaper"


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(KNOWN), st.floats(1.0, 100.0))
def test_a_quicker_machine_is_quicker(name: str, factor: float) -> None:
    shape = locked_shape(name)
    work = products(level_tensors(shape, "Q4_K_M"), shape)
    quick = replace(
        RATES,
        read={kind: factor * rate for kind, rate in RATES.read.items()},
        multiply={kind: factor * rate for kind, rate in RATES.multiply.items()},
    )
    assert decode_seconds(work, shape, quick, 500) <= decode_seconds(work, shape, RATES, 500)
    assert decode_seconds(work, shape, quick, 500) >= decode_seconds(work, shape, RATES, 500) / factor * (1 - 1e-9)
    assert prefill_seconds(work, shape, quick, 500) <= prefill_seconds(work, shape, RATES, 500)
