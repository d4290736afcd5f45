"""Which settings a model runs with: the caller's, else those that ``edge tune`` measured, else the defaults. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from edge.tuned import Tuned

ROWS = 512  # of a batch


@dataclass(frozen=True)
class Settings:
    """Of ``edge.llama.context.Context``: None there is its own default. ``width``: None is all slots."""

    threads: int | None = None
    threads_batch: int | None = None
    flash_attn: bool | None = None
    rows: int = ROWS
    width: int | None = None


def choose(
    tuned: Tuned | None,
    *,
    threads: int | None = None,
    threads_batch: int | None = None,
    flash_attn: bool | None = None,
    gpu_layers: int = 0,
    kv_type: str = "f16",
) -> Settings:
    """The arguments are what the caller chose, None for what is left to us.

    What was measured with other layers on a GPU says nothing. Who chooses ``threads`` alone means both.
    """
    if tuned is None or tuned.gpu_layers != gpu_layers:
        flash = default_flash_attn(gpu_layers, kv_type) if flash_attn is None else flash_attn
        return Settings(threads, threads_batch or threads, flash)
    return Settings(
        threads or tuned.threads,
        threads_batch or threads or tuned.threads_batch,
        flash_attn if flash_attn is not None else (tuned.flash_attn or not plain_attention(kv_type)),
        tuned.rows,
        tuned.width,
    )


def default_flash_attn(gpu_layers: int, kv_type: str) -> bool | None:
    """None: what llama.cpp chooses, which is on. On the CPU it pays only for prompts in chunks of 64 rows or more and
    for one sequence in a cache that is almost empty; with 1,000 tokens in it a step of 8 rows takes twice as long.
    ``benchmarks/attention.py`` prints the figures.
    """
    return False if gpu_layers == 0 and plain_attention(kv_type) else None


def plain_attention(kv_type: str) -> bool:
    """Whether attention without flash attention reads such a cache; a quantized one needs it."""
    return kv_type in ("f16", "f32")
