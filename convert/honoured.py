"""Config values for which llama.cpp's graph computes what transformers does; every other value is refused.

A wrong value here would not fail: it would give a file that loads, answers, and is a different model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from convert.errors import UnsupportedError
from convert.hparams import HParams


@dataclass(frozen=True)
class Honoured:
    """``accepts(value, hparams)`` tells whether llama.cpp computes this value of ``key``; None is always accepted."""

    key: str
    accepts: Callable[[Any, HParams], bool]
    because: str


def is_neutral(value: Any, _: HParams) -> bool:
    return value in (False, 0, "") or value == [] or value == {}


def is_flag(value: Any, _: HParams) -> bool:
    return isinstance(value, bool)


def is_true(value: Any, _: HParams) -> bool:
    return value is True


def is_one(value: Any, _: HParams) -> bool:
    return value == 1


def only_full_attention(value: Any, _: HParams) -> bool:
    return isinstance(value, list) and all(kind == "full_attention" for kind in value)


def runs_no_own_model_code(value: Any, _: HParams) -> bool:
    return isinstance(value, dict) and not any(str(key).startswith("AutoModel") for key in value)


ANOTHER_CLASS = "this architecture has no such thing: config.json may belong to another model"

COMMON = (
    Honoured("hidden_act", lambda v, _: v in ("silu", "swish"), "llama.cpp computes silu for this architecture"),
    Honoured("is_causal", lambda v, _: v is True, "llama.cpp computes causal attention for this architecture"),
    Honoured("layer_types", only_full_attention, "llama.cpp computes full attention in every layer of it"),
    Honoured("auto_map", runs_no_own_model_code, "the model brings its own code, which is never run"),
    Honoured("tie_word_embeddings", is_flag, "it must be true or false"),
)
# Keys of other families; one that has such a key itself says what it takes.
FOREIGN = (
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


def refuse_unhonoured(
    family: tuple[Honoured, ...],
    known: Iterable[str],
    hparams: HParams,
    words: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Raises UnsupportedError naming the first key whose value llama.cpp would compute differently.

    A family's own rules for a key stand in place of the common one; ``known`` are further keys that it has itself.
    ``words``: standard key -> what this config calls it.
    """
    own = {rule.key for rule in family}
    common = (rule for rule in COMMON if rule.key not in own)
    foreign = (rule for rule in FOREIGN if rule.key not in own.union(known))
    for rule in (*common, *foreign, *family):
        value = hparams.get(rule.key)
        if value is not None and not is_accepted(rule, value, hparams):
            key = words.get(rule.key, rule.key)
            raise UnsupportedError(
                f"config.json has {key} = {str(value)[:80]}; {rule.because}", "a GGUF of it would be another model"
            )


def is_accepted(rule: Honoured, value: Any, hparams: HParams) -> bool:
    try:
        return rule.accepts(value, hparams)
    except (TypeError, AttributeError, ZeroDivisionError):  # a value of another kind altogether
        return False
