"""What happens to a stored tensor on its way into the GGUF, beyond a new name. Pure functions, two kinds.

A ``Pick`` says which rows of a stored tensor an output takes, as runs ``(first row, rows)`` in the output's order;
a row is what the last dimension holds. A ``Change`` works on float32 values [rows, columns] and keeps their shape,
row by row, so that a tensor can pass in slabs. ``sizes`` holds the numbers a family's ``dims`` names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

Sizes = Mapping[str, int]
Runs = list[tuple[int, int]]
Values = NDArray[np.float32]
Pick = Callable[[Sizes], Runs]
Change = Callable[[Values, Sizes], Values]


def joined(runs: Iterable[tuple[int, int]]) -> Runs:
    """The same rows in fewer runs: one that begins where the last ended continues it."""
    out: Runs = []
    for first, count in runs:
        if out and sum(out[-1]) == first:
            out[-1] = (out[-1][0], out[-1][1] + count)
        else:
            out.append((first, count))
    return out


# --- experts stored in one tensor -----------------------------------------------------------------------------------


def gate_halves(sizes: Sizes) -> Runs:
    """Of gate_up [experts, 2 moe, hidden]: the first half of every expert."""
    moe = sizes["moe"]
    return [(2 * moe * expert, moe) for expert in range(sizes["experts"])]


def up_halves(sizes: Sizes) -> Runs:
    """Of gate_up [experts, 2 moe, hidden]: the second half of every expert."""
    return [(first + count, count) for first, count in gate_halves(sizes)]


# --- multi-head latent attention ------------------------------------------------------------------------------------


def key_part(sizes: Sizes) -> Runs:
    """Of kv_b [heads (nope + v_head), kv_rank]: each head's key rows."""
    step = sizes["nope"] + sizes["v_head"]
    return [(head * step, sizes["nope"]) for head in range(sizes["heads"])]


def value_part(sizes: Sizes) -> Runs:
    """Of kv_b [heads (nope + v_head), kv_rank]: each head's value rows."""
    return [(first + count, sizes["v_head"]) for first, count in key_part(sizes)]


# --- linear attention (gated delta net) -----------------------------------------------------------------------------
# Checkpoints keep the value heads that share a key head together: k0v0 k0v1 k1v0 k1v1. llama.cpp repeats the key
# heads as a whole, so Qwen3.5's value heads are stored there as k0v0 k1v0 k0v1 k1v1 ("tiled").


def tiled(sizes: Sizes, size: int) -> list[int]:
    """First elements of the value heads, each of ``size`` elements, in tiled order."""
    keys, shared = sizes["k_heads"], sizes["v_heads"] // sizes["k_heads"]
    return [(key * shared + place) * size for place in range(shared) for key in range(keys)]


def tiled_heads(sizes: Sizes) -> Runs:
    """Of [value heads x v_dim, ...]: the heads in tiled order."""
    return joined((first, sizes["v_dim"]) for first in tiled(sizes, sizes["v_dim"]))


def tiled_single_rows(sizes: Sizes) -> Runs:
    """Of [value heads, hidden]: one row a head, in tiled order."""
    return joined((first, 1) for first in tiled(sizes, 1))


def keys_then_tiled_heads(sizes: Sizes) -> Runs:
    """Of [queries, keys, value heads x v_dim; ...]: only the value heads change places."""
    before = 2 * sizes["k_heads"] * sizes["k_dim"]
    return joined([(0, before), *((before + first, count) for first, count in tiled_heads(sizes))])


def tile_elements(values: Values, sizes: Sizes) -> Values:
    """Of [1, value heads]: in tiled order."""
    return values[:, tiled(sizes, 1)]


def tile_columns(values: Values, sizes: Sizes) -> Values:
    """Of [rows, value heads x v_dim]: the heads in tiled order."""
    heads = values.reshape(len(values), sizes["v_heads"], sizes["v_dim"])
    return heads[:, tiled(sizes, 1)].reshape(values.shape)


def grouped_qkv(sizes: Sizes) -> Runs:
    """Of qkvz, [q k v z] a key head: all queries, then all keys, then all values."""
    group, k_dim, values = qkvz_group(sizes)
    firsts = [key * group for key in range(sizes["k_heads"])]
    return [
        *((first, k_dim) for first in firsts),
        *((first + k_dim, k_dim) for first in firsts),
        *((first + 2 * k_dim, values) for first in firsts),
    ]


def grouped_z(sizes: Sizes) -> Runs:
    """Of qkvz, [q k v z] a key head: all gates z."""
    group, k_dim, values = qkvz_group(sizes)
    return [(key * group + 2 * k_dim + values, values) for key in range(sizes["k_heads"])]


def qkvz_group(sizes: Sizes) -> tuple[int, int, int]:
    """Rows of one key head's group, of its queries (and keys), of its values (and gates)."""
    values = sizes["v_heads"] // sizes["k_heads"] * sizes["v_dim"]
    return 2 * sizes["k_dim"] + 2 * values, sizes["k_dim"], values


# --- values ---------------------------------------------------------------------------------------------------------


def plus_one(values: Values, sizes: Sizes) -> Values:
    """Norm weights stored around zero; llama.cpp multiplies by what is stored."""
    return values + np.float32(1)


def minus_exp(values: Values, sizes: Sizes) -> Values:
    """The decay -exp(A_log), rounded correctly."""
    return -np.exp(values.astype(np.float64)).astype(np.float32)


def in_order(*changes: Change) -> Change:
    """One change after the other."""

    def change(values: Values, sizes: Any) -> Values:
        for step in changes:
            values = step(values, sizes)
        return values

    return change
