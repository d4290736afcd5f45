"""Experts chosen by corrected sigmoid scores, beside shared ones: what GLM-4.5 and GLM-4.7-Flash share."""

from __future__ import annotations

from convert.architectures.blocks import ROUTER, SINGLE_EXPERTS, at, layer, moe_layers
from convert.honoured import Honoured, is_flag
from convert.hparams import HParams

# A turn ends where the next role begins; a tool call ends with <|observation|>.
SPECIAL_TOKENS = {"bos": "[gMASK]", "eot": "<|user|>", "unk": "<|endoftext|>", "eom": "<|observation|>"}
SIGMOID = 2  # LLAMA_EXPERT_GATING_FUNC_TYPE_SIGMOID


WORDS = {"n_routed_experts": "num_experts", "num_local_experts": "num_experts"}
DEFAULTS = {"n_shared_experts": 1, "n_group": 1, "topk_group": 1, "norm_topk_prob": True}


def expert_groups(hparams: HParams) -> HParams:
    """Choosing among all groups is choosing without groups, which llama.cpp has another way to say."""
    return {"n_group": 1, "topk_group": 1} if hparams["n_group"] == hparams["topk_group"] else {}


def dense_layers(hparams: HParams) -> range:
    return range(hparams["first_k_dense_replace"])


TENSORS = (
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
SIZES = (
    "intermediate_size",
    "num_experts",
    "num_experts_per_tok",
    "moe_intermediate_size",
    "n_shared_experts",
    "n_group",
    "topk_group",
)
RULES = (
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
