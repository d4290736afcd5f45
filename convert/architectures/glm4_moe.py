"""GLM-4.5, 4.5-Air, 4.6, 4.7 and fine-tunes: ``Glm4MoeForCausalLM``."""

from __future__ import annotations

from convert.architecture import Architecture
from convert.architectures import blocks, glm_experts
from convert.architectures.blocks import (
    ATTENTION,
    DENSE,
    ENDS,
    NEXTN,
    NEXTN_MARK,
    QK_NORM,
    QKV_BIAS,
    at,
    layer,
    next_layers,
    when,
)
from convert.architectures.rules import BIAS_FLAG
from convert.honoured import Honoured, is_flag
from convert.hparams import HParams, layer_count, number
from convert.metadata import KV
from convert.rope import rotated


def dims(hparams: HParams) -> dict[str, int]:
    sizes = blocks.dims(hparams)
    return sizes | {"shared": sizes["moe"] * hparams["n_shared_experts"]}


def derived(hparams: HParams, names: frozenset[str]) -> HParams:
    dense = layer_count(hparams, "first_k_dense_replace")
    return {"moe_layers": range(dense, hparams["block_count"]), **glm_experts.expert_groups(hparams)}


def has_qk_norm(hparams: HParams) -> bool:
    return hparams["use_qk_norm"]


def metadata(hparams: HParams) -> list[KV]:
    return [
        KV("glm4moe.rope.dimension_count", "u32", rotated(hparams)),
        KV("glm4moe.expert_feed_forward_length", "u32", hparams["moe_intermediate_size"]),
        KV("glm4moe.expert_shared_count", "u32", hparams["n_shared_experts"]),
        KV("glm4moe.leading_dense_block_count", "u32", hparams["first_k_dense_replace"]),
        KV("glm4moe.expert_gating_func", "u32", glm_experts.SIGMOID),
        KV("glm4moe.expert_weights_scale", "f32", number(hparams, "routed_scaling_factor")),
        KV("glm4moe.expert_weights_norm", "bool", hparams["norm_topk_prob"]),
        KV("glm4moe.nextn_predict_layers", "u32", len(next_layers(hparams))),
    ]


NORMS = layer(
    ("input_layernorm.weight", "attn_norm.weight", "hidden"),
    ("post_attention_layernorm.weight", "post_attention_norm.weight", "hidden"),
)
GLM4_MOE = Architecture(
    hf_names=("Glm4MoeForCausalLM",),
    name="glm4moe",
    aliases=glm_experts.WORDS,
    defaults={
        "vocab_size": 151552,
        "hidden_size": 4096,
        "intermediate_size": 10944,
        "num_hidden_layers": 46,
        "num_attention_heads": 96,
        "num_key_value_heads": 8,
        "hidden_act": "silu",
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "use_qk_norm": False,
        **glm_experts.DEFAULTS,
        "moe_intermediate_size": 1408,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "first_k_dense_replace": 1,
        "routed_scaling_factor": 1.0,
    },
    dims=dims,
    derived=derived,
    sizes=glm_experts.SIZES,
    nextn=NEXTN_MARK,
    tensors=(
        *ENDS,
        *NORMS,
        *ATTENTION,
        *QKV_BIAS,
        *when(has_qk_norm, *QK_NORM),
        *at(glm_experts.dense_layers, *DENSE),
        *glm_experts.TENSORS,
        *NEXTN,
    ),
    honoured=(
        BIAS_FLAG,
        Honoured("use_qk_norm", is_flag, "it must be true or false"),
        *glm_experts.RULES,
    ),
    metadata=metadata,
    special_tokens=glm_experts.SPECIAL_TOKENS,
)
