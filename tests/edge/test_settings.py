"""Who decides: the caller, else what was measured, else the defaults."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.llama.context import KV_TYPES
from edge.settings import ROWS, Settings, choose, plain_attention
from edge.tuned import Tuned

TUNED = Tuned(threads=3, threads_batch=5, flash_attn=False, rows=128, width=2)
FLASH = Tuned(threads=3, threads_batch=5, flash_attn=True, rows=64, width=8)
ON_GPU = Tuned(threads=3, threads_batch=5, flash_attn=True, rows=128, width=2, gpu_layers=20)


@pytest.mark.parametrize(
    ("given_options", "expected"),
    [
        ({}, Settings(None, None, None, 512, None)),
        ({"threads": 4}, Settings(4, 4, None, 512, None)),
        ({"threads_batch": 6}, Settings(None, 6, None, 512, None)),
        ({"threads": 4, "threads_batch": 6}, Settings(4, 6, None, 512, None)),
        ({"flash_attn": True}, Settings(None, None, True, 512, None)),
        ({"kv_type": "q8_0"}, Settings(None, None, None, 512, None)),
        ({"gpu_layers": 1}, Settings(None, None, None, 512, None)),
        ({"gpu_layers": -1, "flash_attn": False}, Settings(None, None, False, 512, None)),
    ],
)
def test_nothing_was_measured(given_options: dict[str, Any], expected: Settings) -> None:
    """None is llama.cpp's own choice, which is flash attention."""
    assert choose(None, **given_options) == expected


@pytest.mark.parametrize(
    ("tuned", "given_options", "expected"),
    [
        (TUNED, {}, Settings(3, 5, False, 128, 2)),
        (FLASH, {}, Settings(3, 5, True, 64, 8)),
        (TUNED, {"threads": 4}, Settings(4, 4, False, 128, 2)),
        (TUNED, {"threads_batch": 6}, Settings(3, 6, False, 128, 2)),
        (TUNED, {"threads": 4, "threads_batch": 6}, Settings(4, 6, False, 128, 2)),
        (TUNED, {"flash_attn": True}, Settings(3, 5, True, 128, 2)),
        (FLASH, {"flash_attn": False}, Settings(3, 5, False, 64, 8)),
        (TUNED, {"kv_type": "q8_0"}, Settings(3, 5, True, 128, 2)),
        (TUNED, {"kv_type": "q8_0", "flash_attn": False}, Settings(3, 5, False, 128, 2)),
        (TUNED, {"kv_type": "f32"}, Settings(3, 5, False, 128, 2)),
        (ON_GPU, {"gpu_layers": 20}, Settings(3, 5, True, 128, 2)),
    ],
)
def test_what_was_measured(tuned: Tuned, given_options: dict[str, Any], expected: Settings) -> None:
    assert choose(tuned, **given_options) == expected


@pytest.mark.parametrize(("tuned", "layers"), [(TUNED, 20), (TUNED, -1), (ON_GPU, 0), (ON_GPU, 19), (ON_GPU, -1)])
def test_what_was_measured_with_other_layers_on_a_gpu_does_not_count(tuned: Tuned, layers: int) -> None:
    choices: list[dict[str, Any]] = [{}, {"threads": 4}, {"flash_attn": True}, {"kv_type": "q8_0"}]
    for options in choices:
        assert choose(tuned, gpu_layers=layers, **options) == choose(None, gpu_layers=layers, **options)


COUNT = st.none() | st.integers(1, 512)


@settings(deadline=None)
@given(
    tuned=st.sampled_from([None, TUNED, FLASH, ON_GPU]),
    threads=COUNT,
    threads_batch=COUNT,
    flash_attn=st.none() | st.booleans(),
    gpu_layers=st.sampled_from([-1, 0, 20]),
    kv_type=st.sampled_from(KV_TYPES),
)
def test_the_callers_choice_always_counts(
    tuned: Tuned | None,
    threads: int | None,
    threads_batch: int | None,
    flash_attn: bool | None,
    gpu_layers: int,
    kv_type: str,
) -> None:
    found = choose(
        tuned,
        threads=threads,
        threads_batch=threads_batch,
        flash_attn=flash_attn,
        gpu_layers=gpu_layers,
        kv_type=kv_type,
    )
    assert threads is None or found.threads == threads
    assert threads is None or found.threads_batch == (threads_batch or threads)
    assert threads_batch is None or found.threads_batch == threads_batch
    assert flash_attn is None or found.flash_attn == flash_attn
    if flash_attn is None and not plain_attention(kv_type):
        assert found.flash_attn is not False, "a quantized cache needs it"
    assert 1 <= found.rows <= ROWS


def test_which_caches_can_do_without_flash_attention() -> None:
    assert [kind for kind in KV_TYPES if plain_attention(kind)] == ["f32", "f16"]
