"""Qwen3-Next-80B-A3B and fine-tunes: ``Qwen3NextForCausalLM``."""

from __future__ import annotations

from convert.architecture import Architecture, TensorRule
from convert.architectures import linear_attention as linear
from convert.architectures.blocks import (
    BLOCK,
    EXPERTS,
    FUSED_NAMES,
    LAYER,
    NEXTN_MARK,
    QWEN_END,
    ROUTER,
    SHARED_EXPERT,
    at,
    expert_metadata,
    nextn_metadata,
)
from convert.architectures.rules import EXPERTS_IN_ALL_LAYERS, NORMALISED
from convert.hparams import HParams
from convert.metadata import KV
from convert.ops import grouped_qkv, grouped_z

PROJECTIONS = at(
    linear.linear_layers,
    TensorRule(
        LAYER + "linear_attn.in_proj_qkvz.weight",
        BLOCK + "attn_qkv.weight",
        "qkvz hidden",
        out="qkv hidden",
        pick=grouped_qkv,
    ),
    TensorRule(
        LAYER + "linear_attn.in_proj_qkvz.weight",
        BLOCK + "attn_gate.weight",
        "qkvz hidden",
        out="values hidden",
        pick=grouped_z,
    ),
    TensorRule(LAYER + "linear_attn.in_proj_ba.weight", BLOCK + "ssm_ba.weight", "two_v_heads hidden"),
)


def metadata(hparams: HParams) -> list[KV]:
    return [
        *expert_metadata("qwen3next", hparams),
        *nextn_metadata("qwen3next", hparams),
        *linear.metadata("qwen3next", hparams),
    ]


QWEN3_NEXT = Architecture(
    hf_names=("Qwen3NextForCausalLM",),
    name="qwen3next",
    aliases={"num_local_experts": "num_experts"},
    defaults={
        **linear.DEFAULTS,
        "vocab_size": 151936,
        "hidden_size": 2048,
        "intermediate_size": 5632,
        "num_hidden_layers": 48,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "num_experts": 512,
        "num_experts_per_tok": 10,
        "norm_topk_prob": True,
    },
    dims=linear.dims,
    special_tokens=QWEN_END,
    derived=linear.derived,
    sizes=(
        *linear.SIZES,
        "num_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
    ),
    renames=(*FUSED_NAMES, *linear.NEXTN_NAMES),
    nextn=NEXTN_MARK,
    tensors=(
        *linear.ENDS,
        *linear.NORMS,
        *linear.FULL_ATTENTION,
        *linear.LINEAR_ATTENTION,
        *PROJECTIONS,
        *ROUTER,
        *EXPERTS,
        *SHARED_EXPERT,
        *linear.NEXTN,
    ),
    honoured=(
        *linear.HONOURED,
        *EXPERTS_IN_ALL_LAYERS,
        NORMALISED,
    ),
    metadata=metadata,
)
