"""Config values that several families refuse or take: rules for their ``honoured``."""

from __future__ import annotations

import re
from typing import Any

from convert.honoured import Honoured, is_flag, is_neutral, is_one, is_true
from convert.hparams import HParams

FULL_ATTENTION = "llama.cpp computes full attention for this architecture"


def window_is_idle(hparams: HParams) -> bool:
    """Whether the sliding window, if any, is at least as wide as the context."""
    window = hparams.get("sliding_window")
    return window is None or window >= hparams["max_position_embeddings"]


# Without these keys transformers would slide over 4096 tokens where a config asks for sliding at all.
WINDOW_DEFAULTS = {"use_sliding_window": False, "sliding_window": 4096, "max_window_layers": 28}
NEVER_SLIDES = Honoured(
    "use_sliding_window",
    lambda v, h: not v or window_is_idle(h) or h["max_window_layers"] >= h["num_hidden_layers"],
    FULL_ATTENTION,
)
IDLE_WINDOW = Honoured("sliding_window", lambda _, h: window_is_idle(h), FULL_ATTENTION)
WHOLE_HEADS = Honoured("partial_rotary_factor", is_one, "llama.cpp rotates whole heads for this architecture")
FULL_HEADS = (
    Honoured(
        "head_dim",
        lambda v, h: v * h["num_attention_heads"] == h["hidden_size"],
        "llama.cpp needs head_dim x num_attention_heads = hidden_size for this architecture",
    ),
    WHOLE_HEADS,
)
NO_BIAS = Honoured("attention_bias", is_neutral, "llama.cpp has no attention biases for this architecture")
EXPERTS_IN_ALL_LAYERS = (
    Honoured("num_local_experts", lambda v, h: v == h["num_experts"], "it disagrees with num_experts"),
    Honoured("num_experts_per_tok", lambda v, h: v <= h["num_experts"], "no more experts can be used than there are"),
    Honoured("decoder_sparse_step", is_one, "llama.cpp needs experts in every layer of this architecture"),
    Honoured("mlp_only_layers", is_neutral, "llama.cpp needs experts in every layer of this architecture"),
)
BIAS_FLAG = Honoured("attention_bias", is_flag, "it must be true or false")
NORMALISED = Honoured("norm_topk_prob", is_true, "llama.cpp always normalises the chosen experts' weights")


def own_code(module: str, classes: str) -> Honoured:
    """Of a repository's own Python nothing is run; of its makers' classes it is known what they compute.

    A fine-tune names their repository before ``--``.
    """
    known = re.compile(
        rf"((THUDM|zai-org|ZhipuAI|Qwen)/[\w.-]+--)?(modeling|configuration|tokenization)_{module}\.{classes}\w+"
    )
    return Honoured(
        "auto_map",
        lambda v, _: all(known.fullmatch(name) for entry in v.values() for name in listed(entry) if name),
        "the model brings its own code, which is never run",
    )


def listed(entry: Any) -> list[Any]:
    return entry if isinstance(entry, list) else [entry]


def kv_channels(divisor: int) -> Honoured:
    """ChatGLM's and the first Qwen's word for the size of a head, which must be a multiple of ``divisor``."""
    return Honoured(
        "kv_channels",
        lambda v, h: v * h["num_attention_heads"] == h["hidden_size"] and v % divisor == 0,
        "llama.cpp needs kv_channels x num_attention_heads = hidden_size for this architecture",
    )
