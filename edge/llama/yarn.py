"""A context longer than the model was trained for: YaRN (Peng et al. 2023), where the model's makers document it."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from convert.errors import EdgeError


class ContextLengthError(EdgeError):
    """The context is longer than the model can be trusted with."""


@dataclass(frozen=True)
class RopeChange:
    """Stretch rotary positions over ``factor`` times ``original`` tokens, the length of the pretraining."""

    original: int
    factor: float


@dataclass(frozen=True)
class Documented:
    """Models that look like this in their metadata may be given ``longest`` tokens, by the word of their makers."""

    arch: str
    trained: int  # context_length as released
    original: int
    longest: int
    feed_forward: Collection[int] = ()  # feed_forward_length of the sizes that it is documented for; empty: all

    def covers(self, metadata: Mapping[str, Any]) -> bool:
        width = metadata.get(f"{self.arch}.feed_forward_length")  # some files have an array, one for each layer
        return (
            metadata.get("general.architecture") == self.arch
            and metadata.get(f"{self.arch}.context_length") == self.trained
            and (not self.feed_forward or (isinstance(width, int) and width in self.feed_forward))
        )


K = 1024
DOCUMENTED = (
    # Cards of Qwen2 and Qwen2.5 (also Coder) from 7B on; the smaller ones state 32,768 and no more. By size: 7B; 14B;
    # 32B; 72B, and 72B as padded for quantized releases. Qwen1.5 has the same architecture and none of these.
    Documented("qwen2", 32 * K, 32 * K, 128 * K, (18944, 13824, 27648, 29568, 29696)),
    # Cards of Qwen3 4B, 8B, 14B, 32B: "32,768 natively and 131,072 with YaRN"; the 40,960 of the config leave 8,192
    # for the answer. 0.6B and 1.7B state 32,768. The 2507 releases reach 1M by other means than YaRN.
    Documented("qwen3", 40 * K, 32 * K, 128 * K, (9728, 12288, 17408, 25600)),
    # Cards of Qwen3 30B-A3B and 235B-A22B, as above.
    Documented("qwen3moe", 40 * K, 32 * K, 128 * K),
    # Cards of Qwen3-Next and Qwen3.5: factor 4 over 262,144 and "extensible up to 1,010,000"; of the dense ones
    # 4B, 9B, 27B, not 0.8B and 2B.
    Documented("qwen3next", 256 * K, 256 * K, 1_010_000),
    Documented("qwen35", 256 * K, 256 * K, 1_010_000, (9216, 12288, 17408)),
    Documented("qwen35moe", 256 * K, 256 * K, 1_010_000),
    # GLM-4's README for the 0414 releases, all sizes: "32K -> 128K", factor 4 over 32,768.
    Documented("glm4", 32 * K, 32 * K, 128 * K),
)


def rope_for(metadata: Mapping[str, Any], n_ctx: int) -> RopeChange | None:
    """What must change for sequences of ``n_ctx`` tokens, by a GGUF's metadata; None within the trained length.

    The factor is the smallest that suffices, as the model cards advise: it applies to short texts too and costs
    them accuracy. A file that carries a scaling of its own is taken as it is, trained for its context_length.

    Raises ``ContextLengthError``.
    """
    arch = metadata.get("general.architecture")
    trained = metadata.get(f"{arch}.context_length")
    if not isinstance(trained, int) or trained < 1:
        raise ContextLengthError("the file does not say how long a context the model was trained for", "convert again")
    if n_ctx <= trained:
        return None
    beyond = f"a context of {n_ctx} tokens is more than the {trained} that the model was trained for"
    use = f"use at most {trained}"
    scaling = str(metadata.get(f"{arch}.rope.scaling.type", "none"))[:20]
    if scaling != "none":
        raise ContextLengthError(f"{beyond}, with {scaling} scaling already", use)
    known = next((row for row in DOCUMENTED if row.covers(metadata)), None)
    if known is None:
        raise ContextLengthError(f"{beyond}, and its makers document no YaRN for it", use)
    if n_ctx > known.longest:
        raise ContextLengthError(f"{beyond}; YaRN is documented up to {known.longest}", f"use at most {known.longest}")
    return RopeChange(known.original, n_ctx / known.original)
