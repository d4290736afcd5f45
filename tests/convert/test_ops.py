"""Picks and changes against plain reshapes and transpositions of numbered data."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest

from convert import ops

COLUMNS = 3
LINEAR = [
    {"k_heads": keys, "v_heads": values, "k_dim": k_dim, "v_dim": v_dim}
    for keys, values, k_dim, v_dim in (
        (2, 4, 5, 5),
        (2, 6, 4, 4),
        (3, 3, 2, 2),
        (1, 4, 3, 3),
        (1, 1, 2, 2),
        (4, 8, 3, 7),
    )
]


def numbered(*shape: int) -> np.ndarray:
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def picked(runs: ops.Runs, stored: np.ndarray) -> np.ndarray:
    rows = stored.reshape(-1, stored.shape[-1])
    assert all(first >= 0 and count > 0 and first + count <= len(rows) for first, count in runs)
    return np.concatenate([rows[first : first + count] for first, count in runs])


def tiled(heads: np.ndarray, sizes: dict[str, int]) -> np.ndarray:
    """[value heads, ...] as llama.cpp has them: value head r of every key head, then r + 1 of every key head."""
    keys = sizes["k_heads"]
    grouped = heads.reshape(keys, sizes["v_heads"] // keys, *heads.shape[1:])
    return grouped.swapaxes(0, 1).reshape(heads.shape)


def test_joined_keeps_the_rows_in_fewer_runs() -> None:
    assert ops.joined([(0, 2), (2, 3), (7, 1), (8, 1), (5, 2)]) == [(0, 5), (7, 2), (5, 2)]
    assert ops.joined(iter([(4, 1)])) == [(4, 1)]
    assert ops.joined([]) == []


@pytest.mark.parametrize(("experts", "moe"), [(1, 1), (3, 2), (5, 4)])
def test_gate_and_up_are_the_halves_of_every_expert(experts: int, moe: int) -> None:
    stored, sizes = numbered(experts, 2 * moe, COLUMNS), {"experts": experts, "moe": moe}
    for pick, half in ((ops.gate_halves, stored[:, :moe]), (ops.up_halves, stored[:, moe:])):
        np.testing.assert_array_equal(picked(pick(sizes), stored), half.reshape(-1, COLUMNS))


@pytest.mark.parametrize(("heads", "nope", "v_head"), [(1, 2, 3), (4, 3, 2), (3, 2, 2)])
def test_keys_and_values_of_latent_attention(heads: int, nope: int, v_head: int) -> None:
    stored = numbered(heads, nope + v_head, COLUMNS)
    sizes = {"heads": heads, "nope": nope, "v_head": v_head}
    for pick, part in ((ops.key_part, stored[:, :nope]), (ops.value_part, stored[:, nope:])):
        np.testing.assert_array_equal(picked(pick(sizes), stored), part.reshape(-1, COLUMNS))


@pytest.mark.parametrize("sizes", LINEAR, ids=str)
def test_value_heads_are_tiled(sizes: dict[str, int]) -> None:
    values, v_dim = sizes["v_heads"], sizes["v_dim"]
    stored = numbered(values, v_dim, COLUMNS)
    expected = tiled(stored, sizes).reshape(-1, COLUMNS)
    np.testing.assert_array_equal(picked(ops.tiled_heads(sizes), stored), expected)

    stored = numbered(values, COLUMNS)
    np.testing.assert_array_equal(picked(ops.tiled_single_rows(sizes), stored), tiled(stored, sizes))

    stored = numbered(values)
    np.testing.assert_array_equal(ops.tile_elements(stored[None], sizes)[0], tiled(stored, sizes))

    stored = numbered(COLUMNS, values, v_dim)
    expected = np.stack([tiled(row, sizes).reshape(-1) for row in stored])
    np.testing.assert_array_equal(ops.tile_columns(stored.reshape(COLUMNS, -1), sizes), expected)


@pytest.mark.parametrize("sizes", LINEAR, ids=str)
def test_queries_and_keys_stay_where_value_heads_are_tiled(sizes: dict[str, int]) -> None:
    before = 2 * sizes["k_heads"] * sizes["k_dim"]
    stored = numbered(before + sizes["v_heads"] * sizes["v_dim"], COLUMNS)
    heads = tiled(stored[before:].reshape(sizes["v_heads"], sizes["v_dim"], COLUMNS), sizes)
    expected = np.concatenate([stored[:before], heads.reshape(-1, COLUMNS)])
    runs = ops.keys_then_tiled_heads(sizes)
    np.testing.assert_array_equal(picked(runs, stored), expected)
    if sizes["k_heads"] == sizes["v_heads"]:
        assert runs == [(0, len(stored))]


@pytest.mark.parametrize("sizes", LINEAR, ids=str)
def test_groups_of_qkvz_are_taken_apart(sizes: dict[str, int]) -> None:
    keys, k_dim = sizes["k_heads"], sizes["k_dim"]
    values = sizes["v_heads"] // keys * sizes["v_dim"]
    stored = numbered(keys, 2 * k_dim + 2 * values, COLUMNS)
    q, k, v, z = np.split(stored, [k_dim, 2 * k_dim, 2 * k_dim + values], axis=1)
    expected = np.concatenate([part.reshape(-1, COLUMNS) for part in (q, k, v)])
    np.testing.assert_array_equal(picked(ops.grouped_qkv(sizes), stored), expected)
    np.testing.assert_array_equal(picked(ops.grouped_z(sizes), stored), z.reshape(-1, COLUMNS))
    assert ops.qkvz_group(sizes) == (stored.shape[1], k_dim, values)


def test_plus_one_stays_float32() -> None:
    found = ops.plus_one(np.array([[-1, 0, 2.0**-30]], np.float32), {})
    assert found.dtype == np.float32 and found.tolist() == [[0, 1, 1]]


def test_minus_exp_is_the_nearest_float32() -> None:
    values = np.linspace(-12, 6, 4001, dtype=np.float32)[None]
    found = ops.minus_exp(values, {})
    exact = -np.exp(values.astype(np.longdouble))
    assert found.dtype == np.float32
    for neighbour in (np.nextafter(found, np.float32(0)), np.nextafter(found, np.float32(-np.inf))):
        assert (abs(found - exact) <= abs(neighbour - exact)).all()


def test_changes_come_one_after_the_other() -> None:
    sizes = LINEAR[0]
    stored = numbered(sizes["v_heads"])[None] / 8
    changed = ops.in_order(ops.minus_exp, ops.tile_elements)(stored, sizes)
    np.testing.assert_array_equal(changed, ops.minus_exp(stored, sizes)[:, [0, 2, 1, 3]])


@pytest.mark.parametrize("change", [ops.plus_one, ops.minus_exp, ops.tile_columns], ids=lambda change: change.__name__)
def test_a_change_works_row_by_row(change: ops.Change) -> None:
    """Slabs may begin at any row."""
    sizes = {"k_heads": 2, "v_heads": 6, "v_dim": 2}
    stored = numbered(7, 12) / 32
    whole = change(stored, sizes)
    for rows in (1, 3):
        parts = [change(stored[first : first + rows], sizes) for first in range(0, 7, rows)]
        np.testing.assert_array_equal(np.concatenate(parts), whole)


PICKS: list[Callable[..., ops.Runs]] = [ops.tiled_heads, ops.tiled_single_rows, ops.keys_then_tiled_heads]


@pytest.mark.parametrize("pick", PICKS, ids=lambda pick: pick.__name__)
@pytest.mark.parametrize("sizes", LINEAR, ids=str)
def test_no_two_runs_could_be_one(pick: Callable[..., ops.Runs], sizes: dict[str, int]) -> None:
    runs = pick(sizes)
    assert all(sum(one) != other[0] for one, other in pairwise(runs))
