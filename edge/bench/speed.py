"""How fast one model file is on this machine. The measuring happens in a child process (``edge.bench.speed_child``)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

PROMPT, ANSWER = 512, 128  # tokens of llama-bench's two tests
WIDE_ANSWER = 32  # steps of several sequences at once
USUAL_CONTEXT = 4096  # tokens; with it the memory is measured
STEP_WORK = 6  # rows of a prompt that take about as long as a decode step
ENGINE_WORK = PROMPT + STEP_WORK * ANSWER
MARGIN = 64  # tokens that there is room for beyond those that are measured
NEARLY = 0.95  # of the most tokens/s
CLOCKS = {
    "load": "from before the file is opened until its first token is computed, with a context of 4,096 tokens; "
    "quick only where the system has the file in memory already",
    "peak_memory": "the most that the process held so far, weights included, after a prompt of 512 tokens in a context "
    "of 4,096",
    "pp512": "around llama_decode for a prompt of 512 random tokens, until the last one's logits are there",
    "tg128": "around 128 llama_decode of one random token each, until its logits are there; nothing is sampled",
    "widths": "the same for 32 steps with a token of each of several sequences; tokens/s of all together",
    "decode": "through the engine: from the first token to the 129th, sampled as the model's makers advise",
    "ttft": "through the engine: from handing in a prompt of 512 tokens until the first token is drawn; warmed up",
    "@": "the same behind so many tokens that are in the cache already",
    "knee": f"the fewest sequences at once with {100 * NEARLY:.0f} % of the most tokens/s of any number",
    "bandwidth_share": "bytes of weights read for a token x tg128 / what numpy reads from memory with as many threads",
    "flops_share": "operations of products with weights for a token of a prompt x pp512 / what numpy's float32 matrix "
    "product does",
    "sustained": "as tg128, again and again from an empty cache; a point for every ten seconds",
    "lasting": "the median of the points in the last quarter of the time",
    "perplexity": "of the next token, over up to 512 tokens of each bundled text, from an empty cache",
    "kl": "the mean over those tokens of the KL divergence from the finest level here, in nats",
    "top1": "the share of those tokens for which both levels would say the same next",
}


@dataclass(frozen=True)
class Options:
    """What to measure, and with which settings. ``depths`` begin with 0, ``widths`` with 1; ``minutes`` of decoding on
    end, 0 for none; ``tuned``: whether ``edge tune`` found the settings."""

    threads: int
    threads_batch: int
    flash_attn: bool | None
    rows: int = 512
    kv_type: str = "f16"
    gpu_layers: int = 0
    depths: tuple[int, ...] = (0, 4096)
    widths: tuple[int, ...] = (1, 2, 4, 8)
    repeats: int = 3
    minutes: float = 0.0
    tuned: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def from_json(value: Mapping[str, Any]) -> Options:
    return Options(**{**value, "depths": tuple(value["depths"]), "widths": tuple(value["widths"])})


def key(name: str, depth: int) -> str:
    """What a measurement is called in the result."""
    return f"{name}@{depth}" if depth else name


def longest(depth: int) -> int:
    """Tokens that a sequence has room for while it is measured behind ``depth`` of them."""
    return depth + PROMPT + ANSWER + MARGIN


def work(width: int) -> int:
    """What a round of measuring costs, in rows of a prompt; for the progress alone."""
    wide = (STEP_WORK + width) * WIDE_ANSWER
    return wide + (PROMPT + STEP_WORK * ANSWER if width == 1 else 0)


def knee(rates: Mapping[int, float]) -> int:
    """The narrowest width with nearly the most tokens/s. ``rates``: width -> tokens/s of all together."""
    return min(_worth(rates))


def widest(rates: Mapping[int, float]) -> int:
    """The widest such: beyond it, more answers at once come slower together than fewer."""
    return max(_worth(rates))


def _worth(rates: Mapping[int, float]) -> list[int]:
    best = max(rates.values())
    return [width for width, rate in rates.items() if rate >= NEARLY * best]
