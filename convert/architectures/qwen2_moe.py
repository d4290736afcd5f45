"""Qwen1.5-MoE-A2.7B, Qwen2-57B-A14B and fine-tunes: ``Qwen2MoeForCausalLM``."""

from __future__ import annotations

from convert.architecture import Architecture
from convert.architectures.blocks import (
    ATTENTION,
    ENDS,
    EXPERTS,
    FUSED_NAMES,
    QKV_BIAS,
    QWEN_END,
    ROUTER,
    SHARED_EXPERT,
    TWO_NORMS,
    dims,
    expert_metadata,
    find_fused,
    when,
)
from convert.architectures.rules import (
    EXPERTS_IN_ALL_LAYERS,
    FULL_ATTENTION,
    FULL_HEADS,
    WINDOW_DEFAULTS,
    window_is_idle,
)
from convert.honoured import Honoured, is_flag, is_neutral
from convert.hparams import HParams
from convert.metadata import KV


def has_qkv_bias(hparams: HParams) -> bool:
    return hparams["qkv_bias"]


def metadata(hparams: HParams) -> list[KV]:
    return expert_metadata("qwen2moe", hparams)


QWEN2_MOE = Architecture(
    hf_names=("Qwen2MoeForCausalLM",),
    name="qwen2moe",
    defaults={
        **WINDOW_DEFAULTS,
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "num_key_value_heads": 16,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "moe_intermediate_size": 1408,
        "shared_expert_intermediate_size": 5632,
        "num_experts": 60,
        "num_experts_per_tok": 4,
        "norm_topk_prob": False,
        "qkv_bias": True,
    },
    dims=dims,
    special_tokens=QWEN_END,
    derived=find_fused,
    renames=FUSED_NAMES,
    sizes=("num_experts", "num_experts_per_tok", "moe_intermediate_size", "shared_expert_intermediate_size"),
    tensors=(
        *ENDS,
        *TWO_NORMS,
        *ATTENTION,
        *when(has_qkv_bias, *QKV_BIAS),
        *ROUTER,
        *EXPERTS,
        *SHARED_EXPERT,
    ),
    honoured=(
        Honoured("norm_topk_prob", is_neutral, "llama.cpp never normalises the experts' weights here"),
        Honoured("qkv_bias", is_flag, "it must be true or false"),
        Honoured("attention_bias", is_neutral, "qkv_bias says it for this architecture"),
        Honoured("tie_word_embeddings", is_neutral, "llama.cpp needs an output matrix here"),
        *EXPERTS_IN_ALL_LAYERS,
        # Here the layers below max_window_layers slide as well, and only those.
        Honoured(
            "use_sliding_window",
            lambda v, h: not v or window_is_idle(h) or h["max_window_layers"] <= 0,
            FULL_ATTENTION,
        ),
        *FULL_HEADS,
    ),
    metadata=metadata,
)
