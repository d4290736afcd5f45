"""Qwen3 mixtures of experts (30B-A3B, 235B-A22B, Coder) and fine-tunes: ``Qwen3MoeForCausalLM``."""

from __future__ import annotations

from convert.architecture import Architecture
from convert.architectures.blocks import (
    ATTENTION,
    ENDS,
    EXPERTS,
    FUSED_NAMES,
    QK_NORM,
    ROUTER,
    TWO_NORMS,
    dims,
    find_fused,
)
from convert.honoured import (
    EXPERTS_IN_ALL_LAYERS,
    FULL_ATTENTION,
    NO_BIAS,
    WHOLE_HEADS,
    WINDOW_DEFAULTS,
    Honoured,
    window_is_idle,
)
from convert.hparams import HParams, common_metadata
from convert.metadata import KV


def metadata(hparams: HParams) -> list[KV]:
    return [KV("qwen3moe.expert_feed_forward_length", "u32", hparams["moe_intermediate_size"])]


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
    derived=find_fused,
    renames=FUSED_NAMES,
    sizes=("num_experts", "num_experts_per_tok", "moe_intermediate_size"),
    tensors=(*ENDS, *TWO_NORMS, *ATTENTION, *QK_NORM, *ROUTER, *EXPERTS),
    honoured=(
        Honoured("norm_topk_prob", lambda v, _: v is True, "llama.cpp always normalises the chosen experts' weights"),
        *EXPERTS_IN_ALL_LAYERS,
        # Here max_window_layers keeps no layer from sliding.
        Honoured("use_sliding_window", lambda v, h: not v or window_is_idle(h), FULL_ATTENTION),
        NO_BIAS,
        WHOLE_HEADS,
    ),
    common=common_metadata,
    metadata=metadata,
)
