"""GLM-4.5, 4.5-Air, 4.6, 4.7 and fine-tunes: ``Glm4MoeForCausalLM``."""

from __future__ import annotations

from convert.architecture import Architecture
from convert.architectures import blocks
from convert.architectures.blocks import (
    ATTENTION,
    DENSE,
    ENDS,
    NEXTN,
    NEXTN_MARK,
    QK_NORM,
    QKV_BIAS,
    ROUTER,
    SINGLE_EXPERTS,
    at,
    layer,
    moe_layers,
    next_layers,
    when,
)
from convert.architectures.rules import BIAS_FLAG
from convert.honoured import Honoured, is_flag
from convert.hparams import HParams, layer_count, number
from convert.metadata import KV
from convert.rope import rotated

# A turn ends where the next role begins; a tool call ends with <|observation|>.
SPECIAL_TOKENS = {"bos": "[gMASK]", "eot": "<|user|>", "unk": "<|endoftext|>", "eom": "<|observation|>"}
SIGMOID = 2  # LLAMA_EXPERT_GATING_FUNC_TYPE_SIGMOID


def dims(hparams: HParams) -> dict[str, int]:
    sizes = blocks.dims(hparams)
    return sizes | {"shared": sizes["moe"] * hparams["n_shared_experts"]}


def derived(hparams: HParams, names: frozenset[str]) -> HParams:
    dense = layer_count(hparams, "first_k_dense_replace")
    return {"moe_layers": range(dense, hparams["block_count"]), **expert_groups(hparams)}


def expert_groups(hparams: HParams) -> HParams:
    """Choosing among all groups is choosing without groups, which llama.cpp has another way to say."""
    return {"n_group": 1, "topk_group": 1} if hparams["n_group"] == hparams["topk_group"] else {}


def dense_layers(hparams: HParams) -> range:
    return range(hparams["first_k_dense_replace"])


def has_qk_norm(hparams: HParams) -> bool:
    return hparams["use_qk_norm"]


def metadata(hparams: HParams) -> list[KV]:
    return [
        KV("glm4moe.rope.dimension_count", "u32", rotated(hparams)),
        KV("glm4moe.expert_feed_forward_length", "u32", hparams["moe_intermediate_size"]),
        KV("glm4moe.expert_shared_count", "u32", hparams["n_shared_experts"]),
        KV("glm4moe.leading_dense_block_count", "u32", hparams["first_k_dense_replace"]),
        KV("glm4moe.expert_gating_func", "u32", SIGMOID),
        KV("glm4moe.expert_weights_scale", "f32", number(hparams, "routed_scaling_factor")),
        KV("glm4moe.expert_weights_norm", "bool", hparams["norm_topk_prob"]),
        KV("glm4moe.nextn_predict_layers", "u32", len(next_layers(hparams))),
    ]


NORMS = layer(
    ("input_layernorm.weight", "attn_norm.weight", "hidden"),
    ("post_attention_layernorm.weight", "post_attention_norm.weight", "hidden"),
)
MIXTURE = (
    *ROUTER,
    *at(moe_layers, *SINGLE_EXPERTS),
    *at(
        moe_layers,
        *layer(
            ("mlp.gate.e_score_correction_bias", "exp_probs_b.bias", "experts"),
            ("mlp.shared_experts.gate_proj.weight", "ffn_gate_shexp.weight", "shared hidden"),
            ("mlp.shared_experts.up_proj.weight", "ffn_up_shexp.weight", "shared hidden"),
            ("mlp.shared_experts.down_proj.weight", "ffn_down_shexp.weight", "hidden shared"),
        ),
    ),
)
EXPERT_SIZES = (
    "intermediate_size",
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "n_shared_experts",
    "n_group",
    "topk_group",
)
EXPERT_RULES = (
    Honoured("n_routed_experts", lambda v, h: v == h["num_experts"], "it disagrees with num_local_experts"),
    Honoured(
        "num_experts_per_tok",
        lambda v, h: v <= h["topk_group"] * (h["num_experts"] // h["n_group"]),
        "the chosen groups do not hold so many experts",
    ),
    Honoured("first_k_dense_replace", lambda v, h: v <= h["num_hidden_layers"], "there are not so many layers"),
    Honoured("routed_scaling_factor", lambda v, _: v > 0, "llama.cpp takes only a positive factor"),
    Honoured(
        "n_group",
        lambda v, h: h["num_experts"] % v == 0 and h["num_experts"] >= 2 * v,
        "llama.cpp needs groups of two experts or more, each of the same size",
    ),
    Honoured("topk_group", lambda v, h: 0 < v <= h["n_group"], "no more groups can be chosen than there are"),
    Honoured("scoring_func", lambda v, _: v == "sigmoid", "the architecture scores experts by a sigmoid"),
    Honoured("norm_topk_prob", is_flag, "it must be true or false"),
    Honoured("topk_method", lambda v, _: v == "noaux_tc", "the architecture chooses experts by corrected scores"),
)

GLM4_MOE = Architecture(
    hf_names=("Glm4MoeForCausalLM",),
    name="glm4moe",
    aliases={"n_routed_experts": "num_experts", "num_local_experts": "num_experts"},
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
        "moe_intermediate_size": 1408,
        "num_experts": 128,
        "num_experts_per_tok": 8,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        "routed_scaling_factor": 1.0,
        "norm_topk_prob": True,
    },
    dims=dims,
    derived=derived,
    sizes=EXPERT_SIZES,
    nextn=NEXTN_MARK,
    tensors=(
        *ENDS,
        *NORMS,
        *ATTENTION,
        *QKV_BIAS,
        *when(has_qk_norm, *QK_NORM),
        *at(dense_layers, *DENSE),
        *MIXTURE,
        *NEXTN,
    ),
    honoured=(
        BIAS_FLAG,
        Honoured("use_qk_norm", is_flag, "it must be true or false"),
        *EXPERT_RULES,
    ),
    metadata=metadata,
    special_tokens=SPECIAL_TOKENS,
)
