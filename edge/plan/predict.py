"""Tokens/s of a model from what this machine's kernels reach (``edge.plan.probe``). Pure.

Decoding reads every active weight once a token, each type at its own rate, and the cache; products and the operations
between them cost time by their number too, which is most of it in a tiny model. A prompt is multiplied in chunks, whose
time is that of their operations; only its last token needs the output matrix.
"""

from __future__ import annotations

from collections.abc import Iterable

from edge.cost import Product, attention_flops, dense_width, expert_width, is_output, kv_bytes
from edge.plan.probe import Rates
from edge.shapes import ModelShape

# Fitted to what the real 0.5B and the tiny models do on an x86 machine, which benchmarks/plan.py prints.
SMALL_OPS = 16  # of a layer, beside its products: norms, rotations, copies into the cache, attention, sums
STEP_OPS = 130  # small operations that a step takes as long as, to begin and to hand over the logits
# How often a layer goes over each hidden value, each inner value of the feed-forward and each score of attention: to
# norm, rotate, add, quantize for the next product; for exponential functions, which take longer, several times.
HIDDEN_PASSES, INNER_PASSES, SCORE_PASSES = 16, 12, 6


def decode_seconds(products: Iterable[Product], shape: ModelShape, rates: Rates, depth: int = 0) -> float:
    """Of one token behind ``depth`` tokens."""
    weights = sum(one_row_seconds(one, rates) for one in products)
    cache = kv_bytes(shape, depth) / rates.read["F16"]
    return weights + cache + (shape.layers * SMALL_OPS + STEP_OPS) * rates.small_op


def prefill_seconds(products: Iterable[Product], shape: ModelShape, rates: Rates, tokens: int) -> float:
    """Of a prompt of ``tokens``. Attention computes every one with all of them, and leaves out later what lies behind
    it."""
    inner_products = [one for one in products if not is_output(one, shape)]
    weights = sum(2 * one.active_weights / rates.multiply[one.qtype] for one in inner_products)
    attention = attention_flops(shape, tokens) / rates.multiply["F16"]
    inner = max(dense_width(shape), expert_width(shape))
    values = HIDDEN_PASSES * shape.hidden + INNER_PASSES * inner + SCORE_PASSES * shape.heads * tokens
    return tokens * (weights + attention + shape.layers * values * rates.value)


def first_token_seconds(products: Iterable[Product], shape: ModelShape, rates: Rates, tokens: int) -> float:
    """From a question of ``tokens`` to the first token of its answer: the prompt, and the output matrix for its end."""
    products = list(products)
    output = sum(one_row_seconds(one, rates) for one in products if is_output(one, shape))
    return prefill_seconds(products, shape, rates, tokens) + output + STEP_OPS * rates.small_op


def one_row_seconds(product: Product, rates: Rates) -> float:
    """Of all matrices of a kind, each multiplied with one row."""
    used = product.count * product.active
    return product.active_bytes / rates.read[product.qtype] + used * rates.small_product
