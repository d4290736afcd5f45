"""What a quant level keeps of a model, against a finer level of it: perplexity, KL divergence, the same best token.

Both bundled texts are read by the model's own tokenizer, ``QUALITY_TOKENS`` tokens of each; each text begins in an
empty cache, and every token but the last predicts the next. Each file is loaded in a child process of its own
(``edge.bench.quality_child``), one after another. The reference's logits wait in a file as float32: 621 MB for two
texts of 512 tokens with the 151,936 tokens of Qwen2.5.

Not the figures of llama.cpp's ``llama-perplexity``, though the formulas are the same. That cuts a long text into
windows (of 512 tokens by default), puts bos in front if the vocabulary asks for it, and scores the second half of
each, so that at least 256 tokens go before; here the first tokens count too, and perplexity comes out higher. For KL
divergence it keeps the reference in 16 bits, and leaves out tokens that the reference gives less than e^-16; here
nothing is left out. Compare levels with one another, not with its tables.
"""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import EdgeError
from convert.levels import LEVELS
from edge import machine
from edge.bench.child import run_child

LANGUAGES = ("en", "zh")
QUALITY_TOKENS = 512  # of each text
LEAST_TOKENS = 64  # of each text, below which the result would be chance
DISK_LEFT = 500_000_000  # bytes that stay free beside the scratch file
FLOAT32 = 4  # bytes
ROUNDING = 1e-9  # a mean KL divergence above minus this is zero

OnProgress = Callable[[str, int, int], None]  # level, rows done of it, rows in all
Found = dict[str, float | str]


def measure_quality(
    files: Mapping[str, Path],
    reference: str,
    scratch: Path,
    *,
    threads: int,
    flash_attn: bool | None,
    kv_type: str = "f16",
    gpu_layers: int = 0,
    on_progress: OnProgress,
) -> dict[str, Found]:
    """``files``: level -> GGUF; ``reference``: the level that the others are compared with, itself among ``files``.

    For each level: ``perplexity_en``, ``perplexity_zh``; in nats a token ``kl`` over both texts with its standard
    error ``kl_error``, ``kl_en``, ``kl_zh``; ``top1``, the share of rows with the reference's most likely token, with
    ``top1_error``; ``tokens``, the rows compared, fewer where the disk is small; ``reference``. The standard errors
    are those of independent rows, as llama-perplexity has them; rows of one text are not quite.

    ``scratch`` is an existing folder on a disk, not in memory. Nothing is left there. ``flash_attn`` is what the
    engine would use, None for llama.cpp's choice. Raises EdgeError naming the file: it is damaged, of another
    vocabulary, or gives logits that are no numbers; or there is no room in ``scratch``.
    """
    if reference not in files:
        raise ValueError(f"{reference} is not among {', '.join(files)}")
    results: dict[str, Found] = {}
    with tempfile.TemporaryDirectory(prefix="edge-quality-", dir=scratch) as folder:
        settings = {"threads": threads, "flash_attn": flash_attn, "kv_type": kv_type, "gpu_layers": gpu_layers}
        settings["free"] = machine.disk_free(Path(folder))
        for level in (reference, *(level for level in files if level != reference)):
            mode = "reference" if level == reference else "level"
            arguments = [mode, str(files[level]), folder, json.dumps(settings)]

            def tell(message: dict[str, Any], level: str = level) -> None:
                if "progress" in message:
                    on_progress(level, *message["progress"])

            doing = f"{files[level].name}: measuring its quality"
            found = run_child("edge.bench.quality_child", arguments, doing, tell)
            results[level] = {**found, "reference": reference}
    return {level: results[level] for level in files}


def reference_level(levels: Iterable[str]) -> str:
    """The finest of ``levels``, in the order of ``convert.levels``; names that it does not know come last."""
    order = list(LEVELS)
    return min(levels, key=lambda level: order.index(level) if level in order else len(order))


# --- what parent and child share. Pure.


def tokens_that_fit(free: int | None, n_vocab: int) -> int:
    """How many tokens of each text to take, where ``free`` bytes may be written; None if that is unknown.

    Raises EdgeError if they would be too few.
    """
    if free is None:
        return QUALITY_TOKENS
    each = len(LANGUAGES) * n_vocab * FLOAT32
    tokens = min(QUALITY_TOKENS, (free - DISK_LEFT) // each)
    if tokens < LEAST_TOKENS:
        needed = DISK_LEFT + LEAST_TOKENS * each
        raise EdgeError(
            f"comparing levels needs {needed / 1e9:.1f} GB of free disk, there are {free / 1e9:.1f} GB",
            "free some space, or set TMPDIR to a folder on a larger disk",
        )
    return tokens


def summary(
    losses: Mapping[str, Sequence[float]], divergences: Mapping[str, Sequence[float]], same: Sequence[bool]
) -> dict[str, float]:
    """The result of one level. By language and row: ``losses`` of the true next token and ``divergences`` from the
    reference, both in nats; ``same``: whether a row's best token is the reference's, over both texts."""
    found = {f"perplexity_{language}": math.exp(np.mean(values)) for language, values in losses.items()}
    found |= {f"kl_{language}": without_rounding(float(np.mean(values))) for language, values in divergences.items()}
    kl, kl_error = mean_and_error([value for values in divergences.values() for value in values])
    top1, top1_error = mean_and_error(same)
    return found | {
        "kl": without_rounding(kl),
        "kl_error": kl_error,
        "top1": top1,
        "top1_error": top1_error,
        "tokens": len(same),
    }


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error: the sample's standard deviation / sqrt(n)."""
    sample = np.asarray(values, np.float64)
    return float(sample.mean()), float(sample.std(ddof=1)) / math.sqrt(len(sample))


def without_rounding(kl: float) -> float:
    """A divergence is never negative; one that is clearly so stays visible."""
    return 0.0 if -ROUNDING < kl < 0 else kl
