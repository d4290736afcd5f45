"""What a context takes beside the weights, and the longest one that fits. Bytes; pure."""

from __future__ import annotations

from edge.cost import compute_bytes, kv_bytes, work_bytes
from edge.llama.context import CELL_BLOCK, cells_for
from edge.shapes import ModelShape


def context_bytes(
    shape: ModelShape, ctx: int, *, flash_attn: bool, slots: int = 1, kv_type: str = "f16"
) -> tuple[int, int]:
    """Of the cache for ``slots`` sequences of ``ctx`` tokens, and of what a step needs over it once it is full."""
    cells = cells_for(ctx) * slots
    compute = compute_bytes(
        shape, cells, flash_attn=flash_attn, outputs=slots, kv_type=kv_type, sequences=slots
    ) + work_bytes(shape, cells, flash_attn=flash_attn, sequences=slots)
    return kv_bytes(shape, cells, kv_type, slots), compute


def longest_context(shape: ModelShape, free: int, *, flash_attn: bool, slots: int = 1, kv_type: str = "f16") -> int:
    """Tokens of the longest context that fits into ``free`` bytes, at most as many as the model was trained for.

    In blocks of cells, found by halving; and a block less, where ``cells_for`` takes one more than is needed.
    """
    low, high = 0, -(-shape.context_length // CELL_BLOCK)
    while low < high:
        middle = (low + high + 1) // 2
        needed = context_bytes(shape, middle * CELL_BLOCK, flash_attn=flash_attn, slots=slots, kv_type=kv_type)
        if sum(needed) <= free:
            low = middle
        else:
            high = middle - 1
    return min(low * CELL_BLOCK, shape.context_length)
