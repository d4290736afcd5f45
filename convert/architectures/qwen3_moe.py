"""Qwen3 mixtures of experts (30B-A3B, 235B-A22B, Coder) and fine-tunes: ``Qwen3MoeForCausalLM``."""

from __future__ import annotations

from convert.architecture import Architecture
from convert.architectures.blocks import (
    ATTENTION,
    ENDS,
    EXPERTS,
    FUSED_NAMES,
    QK_NORM,
    QWEN_END,
    ROUTER,
    TWO_NORMS,
    dims,
    expert_metadata,
    find_fused,
)
from convert.architectures.rules import (
    EXPERTS_IN_ALL_LAYERS,
    FULL_ATTENTION,
    NO_BIAS,
    NORMALISED,
    WHOLE_HEADS,
    WINDOW_DEFAULTS,
    window_is_idle,
)
from convert.honoured import Honoured
from convert.hparams import HParams
from convert.metadata import KV


def metadata(hparams: HParams) -> list[KV]:
    return expert_metadata("qwen3moe", hparams)


QWEN3_MOE = Architecture(
    hf_names=("Qwen3MoeForCausalLM",),
    name="qwen3moe",
    aliases={"num_local_experts": "num_experts"},
    defaults={
        **WINDOW_DEFAULTS,
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "moe_intermediate_size": 768,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "norm_topk_prob": False,
    },
    dims=dims,
    special_tokens=QWEN_END,
    derived=find_fused,
    renames=FUSED_NAMES,
    sizes=("num_experts", "num_experts_per_tok", "moe_intermediate_size"),
    tensors=(*ENDS, *TWO_NORMS, *ATTENTION, *QK_NORM, *ROUTER, *EXPERTS),
    honoured=(
        NORMALISED,
        *EXPERTS_IN_ALL_LAYERS,
        # Here max_window_layers keeps no layer from sliding.
        Honoured("use_sliding_window", lambda v, h: not v or window_is_idle(h), FULL_ATTENTION),
        NO_BIAS,
        WHOLE_HEADS,
    ),
    metadata=metadata,
)
