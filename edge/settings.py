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

    Flash attention is left to llama.cpp, which takes it, until it was measured: on some CPUs plain attention decodes
    behind a long prefix quicker, on others not (``benchmarks/attention.py`` prints the figures).

    What was measured with other layers on a GPU says nothing. Who chooses ``threads`` alone means both.
    """
    if tuned is None or tuned.gpu_layers != gpu_layers:
        return Settings(threads, threads_batch or threads, flash_attn)
    return Settings(
        threads or tuned.threads,
        threads_batch or threads or tuned.threads_batch,
        flash_attn if flash_attn is not None else (tuned.flash_attn or not plain_attention(kv_type)),
        tuned.rows,
        tuned.width,
    )


def plain_attention(kv_type: str) -> bool:
    """Whether attention without flash attention reads such a cache; a quantized one needs it."""
    return kv_type in ("f16", "f32")
