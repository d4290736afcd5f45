"""Config values for which llama.cpp's graph computes what transformers does; every other value is refused.

A wrong value here would not fail: it would give a file that loads, answers, and is a different model.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from convert.errors import UnsupportedError

HParams = Mapping[str, Any]


@dataclass(frozen=True)
class Honoured:
    """``accepts(value, hparams)`` tells whether llama.cpp computes this value of ``key``; None is always accepted."""

    key: str
    accepts: Callable[[Any, HParams], bool]
    because: str


def is_neutral(value: Any, _: HParams) -> bool:
    return value in (False, 0, "") or value == [] or value == {}


def is_true(value: Any, _: HParams) -> bool:
    return value is True


def names_only(known: re.Pattern[str], auto_map: Any) -> bool:
    """Whether every class of an ``auto_map`` is a known one."""
    return all(known.fullmatch(name) for entry in auto_map.values() for name in listed(entry) if name)


def listed(entry: Any) -> list[Any]:
    return entry if isinstance(entry, list) else [entry]


def is_one(value: Any, _: HParams) -> bool:
    return value == 1


def only_full_attention(value: Any, _: HParams) -> bool:
    return isinstance(value, list) and all(kind == "full_attention" for kind in value)


def runs_no_own_model_code(value: Any, _: HParams) -> bool:
    return isinstance(value, dict) and not any(str(key).startswith("AutoModel") for key in value)


FULL_ATTENTION = "llama.cpp computes full attention for this architecture"


def is_flag(value: Any, _: HParams) -> bool:
    return isinstance(value, bool)


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
    Honoured("num_experts", lambda v, _: v > 0, "the architecture is a mixture of experts"),
    Honoured("num_local_experts", lambda v, h: v == h["num_experts"], "it disagrees with num_experts"),
    Honoured("num_experts_per_tok", lambda v, h: v <= h["num_experts"], "no more experts can be used than there are"),
    Honoured("decoder_sparse_step", is_one, "llama.cpp needs experts in every layer of this architecture"),
    Honoured("mlp_only_layers", is_neutral, "llama.cpp needs experts in every layer of this architecture"),
)
SHARED = Honoured("shared_expert_intermediate_size", lambda v, _: v > 0, "there is one shared expert")
BIAS_FLAG = Honoured("attention_bias", is_flag, "it must be true or false")
ANOTHER_CLASS = "this architecture has no such thing: config.json may belong to another model"

COMMON = (
    Honoured("hidden_act", lambda v, _: v in ("silu", "swish"), "llama.cpp computes silu for this architecture"),
    Honoured("is_causal", lambda v, _: v is True, "llama.cpp computes causal attention for this architecture"),
    Honoured("layer_types", only_full_attention, "llama.cpp computes full attention in every layer of it"),
    Honoured("auto_map", runs_no_own_model_code, "the model brings its own code, which is never run"),
    Honoured("tie_word_embeddings", is_flag, "it must be true or false"),
    *(
        Honoured(key, is_neutral, ANOTHER_CLASS)
        for key in (
            "per_layer_config",
            "num_experts",
            "num_local_experts",
            "n_routed_experts",
            "num_experts_per_tok",
            "attn_logit_softcapping",
            "final_logit_softcapping",
            "query_pre_attn_scalar",
            "qk_layernorm",
            "use_qk_norm",
            "rope_interleave",
            "rope_interleaved",
            "no_rope_layers",
            "clip_qkv",
            "n_shared_experts",
            "shared_expert_intermediate_size",
            "text_config",
            "vision_config",
        )
    ),
    *(
        Honoured(key, is_one, ANOTHER_CLASS)
        for key in (
            "n_group",
            "topk_group",
            "routed_scaling_factor",
            "logit_scale",
            "logits_scaling",
            "embedding_multiplier",
            "residual_multiplier",
            "attention_multiplier",
        )
    ),
)


def refuse_unhonoured(family: tuple[Honoured, ...], hparams: HParams) -> None:
    """Raises UnsupportedError naming the first key whose value llama.cpp would compute differently.

    A family's own rules for a key stand in place of the common one.
    """
    own = {rule.key for rule in family}
    for rule in (*(rule for rule in COMMON if rule.key not in own), *family):
        value = hparams.get(rule.key)
        if value is not None and not is_accepted(rule, value, hparams):
            raise UnsupportedError(f"config.json has {rule.key} = {str(value)[:80]}; {rule.because}")


def is_accepted(rule: Honoured, value: Any, hparams: HParams) -> bool:
    try:
        return rule.accepts(value, hparams)
    except (TypeError, AttributeError, ZeroDivisionError):  # a value of another kind altogether
        return False
