"""Values llama.cpp would compute differently: every rule of every family refuses them, and accepts the next ones."""

from __future__ import annotations

import re
from typing import Any

import pytest

from convert.architecture import plan
from convert.architectures import FAMILIES as ARCHITECTURES
from convert.architectures import REGISTRY
from convert.checkpoint import Checkpoint
from convert.errors import UnsupportedError
from convert.honoured import COMMON
from tests.checkpoints import FAMILIES
from tests.convert.small import Small, changed

Changes = dict[str, Any]
LONG = 1 << 20  # longer than the context of every small checkpoint
SLIDING = {"use_sliding_window": True, "sliding_window": 128}

FULL_HEADS: list[Changes] = [{"head_dim": 32}, {"partial_rotary_factor": 0.5}]
EXPERTS_IN_ALL_LAYERS: list[Changes] = [
    {"num_experts_per_tok": 3},
    {"decoder_sparse_step": 2},
    {"mlp_only_layers": [0]},
]
LINEAR: list[Changes] = [
    {"attention_bias": True},
    {"layer_types": ["full_attention"] * 4},
    {"layer_types": ["linear_attention"] * 4},
    {"layer_types": ["linear_attention"] * 3},
    {"layer_types": ["linear_attention"] * 3 + ["sliding_attention"]},
    {"linear_conv_kernel_dim": 1},
    {"rms_norm_eps": 1e-5},
    {"linear_value_head_dim": 16},
    {"linear_num_value_heads": 3},
    {"attn_output_gate": False},
]
QWEN35: list[Changes] = [*LINEAR, {"mtp_use_dedicated_embeddings": True}, {"vision_config": [1]}]
GROUPED: list[Changes] = [
    {"n_routed_experts": 3, "num_local_experts": 2},
    {"num_experts_per_tok": 3},
    {"first_k_dense_replace": 5},
    {"routed_scaling_factor": 0},
    {"routed_scaling_factor": -1.5},
    {"n_group": 2, "num_experts_per_tok": 1},
    {"topk_group": 2},
    {"scoring_func": "softmax"},
    {"norm_topk_prob": 1},
    {"topk_method": "greedy"},
]
OWN_CODE = {"AutoModelForCausalLM": "modeling_other.Model"}
CHATGLM: list[Changes] = [
    {"add_qkv_bias": "yes"},
    {"partial_rotary_factor": 1.0},
    {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    {"rope_parameters": {"rope_theta": 5e6}},
    {"auto_map": OWN_CODE},
    {"auto_map": {"AutoModel": "someone/repository--modeling_chatglm.ChatGLMModel"}},
    {"multi_query_attention": False},
    {"multi_query_group_num": 3},
    {"kv_channels": 32},
    {"add_bias_linear": True},
    {"apply_residual_connection_post_layernorm": True},
    {"post_layer_norm": False},
    {"rmsnorm": False},
    {"original_rope": False},
    {"partial_rotary_factor": 1.0},
    {"rope_scaling": {"type": "linear", "factor": 2.0}},
    {"rope_parameters": {"rope_theta": 5.0}},
    {"quantization_bit": 4},
    {"pre_seq_len": 128},
    {"rope_ratio": -1},
    {"rope_ratio": 50, "_name_or_path": "THUDM/chatglm2-6b-32k"},
    {"tie_word_embeddings": True},
]
QWEN: list[Changes] = [
    *FULL_HEADS,
    {"auto_map": OWN_CODE},
    {"auto_map": {"AutoModel": ["modeling_qwen.QWenModel", "modeling_other.Model"]}},
    {"intermediate_size": 129},
    {"kv_channels": 8},
    {"no_bias": False},
    {"apply_residual_connection_post_layernorm": True},
    {"use_dynamic_ntk": "yes"},
    {"use_logn_attn": 1},
    {"visual": {"layers": 48}},
    {"audio": {"n_layer": 32}},
    {"rotary_pct": 0.5},
    {"num_key_value_heads": 1},
    {"rope_scaling": {"rope_type": "linear", "factor": 2.0}},
    {"rope_parameters": {"rope_theta": 5e6}},
    {"tie_word_embeddings": True},
]
# Family -> changes of config.json, each refused for the first of its keys
REFUSED: dict[str, list[Changes]] = {
    "qwen": QWEN,
    "qwen2": [*FULL_HEADS, {**SLIDING, "max_window_layers": 2}],
    "qwen3": [{**SLIDING, "max_window_layers": 2}, {"attention_bias": True}, {"partial_rotary_factor": 0.5}],
    "qwen2moe": [
        *FULL_HEADS,
        *EXPERTS_IN_ALL_LAYERS,
        {"num_local_experts": 5},
        {"norm_topk_prob": True},
        {"qkv_bias": "yes"},
        {"attention_bias": True},
        {"tie_word_embeddings": True},
        {**SLIDING, "max_window_layers": 3},
        {**SLIDING, "max_window_layers": 1},
    ],
    "qwen3moe": [
        *EXPERTS_IN_ALL_LAYERS,
        {"norm_topk_prob": False},
        {**SLIDING, "max_window_layers": 3},
        {"attention_bias": True},
        {"partial_rotary_factor": 0.5},
    ],
    "qwen3next": [*LINEAR, *EXPERTS_IN_ALL_LAYERS, {"norm_topk_prob": False}],
    "qwen35": QWEN35,
    "qwen35moe": [*QWEN35, *EXPERTS_IN_ALL_LAYERS],
    "chatglm3": CHATGLM,
    "chatglm4": CHATGLM,
    "glm": [{"attention_bias": "yes"}, {"head_dim": 32}, {"sliding_window": 128}],
    "glm4": [{"attention_bias": "yes"}, {"sliding_window": 128}],
    "glm4moe": [{"attention_bias": "yes"}, {"use_qk_norm": 1}, *GROUPED],
    "glm4moelite": [
        *GROUPED,
        {"attention_bias": True},
        {"partial_rotary_factor": 0.5},
        {"num_hidden_layers": 26},
        {"num_hidden_layers": 27},
        {"num_hidden_layers": 48, "vocab_size": 128256},
        {"rms_norm_eps": 2e-5},
        {"rope_interleave": False},
        {"mlp_layer_types": ["dense", "sparse", "dense"]},
        {"mlp_layer_types": ["sparse", "dense", "sparse"]},
    ],
}
# Family -> changes beside the refused ones, which alter nothing that llama.cpp computes
ACCEPTED: dict[str, list[Changes]] = {
    "qwen": [
        {"use_dynamic_ntk": False, "use_logn_attn": False},
        {"auto_map": {"AutoModel": ["modeling_qwen.QWenModel", None]}},
        {"visual": None},
    ],
    "qwen2": [
        {"head_dim": 16, "partial_rotary_factor": 1.0},
        {**SLIDING, "max_window_layers": 3},
        {"use_sliding_window": True, "sliding_window": None, "max_window_layers": 0},
        {"use_sliding_window": True, "sliding_window": LONG, "max_window_layers": 0},
        {"num_key_value_heads": 2, "tokenizer_class": "Qwen2Tokenizer"},
    ],
    "qwen3": [{**SLIDING, "max_window_layers": 3}, {"attention_bias": None}, {"layer_types": ["full_attention"] * 3}],
    "qwen2moe": [
        {**SLIDING, "max_window_layers": 0},
        {"num_local_experts": 2},
        {"num_experts_per_tok": 1},
        {"mlp_only_layers": None},
        {"attention_bias": False},
    ],
    "qwen3moe": [
        {"num_local_experts": 2, "num_experts": 99},
        {"use_sliding_window": True, "sliding_window": LONG},
        {"mlp_only_layers": []},
    ],
    "qwen3next": [{"layer_types": ["linear_attention"] * 3 + ["full_attention"]}, {"attn_output_gate": True}],
    "qwen35": [{"mtp_use_dedicated_embeddings": None}, {"layer_types": None}, {"hidden_act": "swish"}],
    "qwen35moe": [{"num_experts_per_tok": 1}, {"norm_topk_prob": False}],
    "chatglm3": [
        {"rope_ratio": 50},
        {"rope_ratio": 1, "_name_or_path": "THUDM/chatglm2-6b"},
        {"num_hidden_layers": 28},
        {"auto_map": None},
    ],
    "chatglm4": [{"quantization_bit": 0}, {"pre_seq_len": None}, {"rope_scaling": None}],
    "glm": [{"head_dim": 16}, {"sliding_window": LONG}, {"partial_rotary_factor": 1.0}],
    "glm4": [{"sliding_window": None}, {"partial_rotary_factor": 1.0}],
    "glm4moe": [
        {"num_experts_per_tok": 1},
        {"norm_topk_prob": False},
        {"routed_scaling_factor": 1},
        {"n_group": 1, "topk_group": 1},
        {"num_nextn_predict_layers": 0},
        {"num_local_experts": 2},
        {"scoring_func": "sigmoid", "topk_method": "noaux_tc"},
    ],
    "glm4moelite": [
        {"mlp_layer_types": ["dense", "sparse", "sparse"]},
        {"first_k_dense_replace": None, "mlp_layer_types": ["dense", "sparse", "sparse"]},
        {"rms_norm_eps": 1e-6},
        {"norm_topk_prob": False},
    ],
}
# `num_local_experts` is another word for `num_experts` there, so that both are always the same; ChatGLM's word for
# `attention_bias` is `add_qkv_bias`.
ALIASES = {
    "num_local_experts": {"qwen3moe", "qwen3next", "qwen35moe", "glm4moe", "glm4moelite"},
    "attention_bias": {"chatglm3", "chatglm4"},
}
# A text part that is no object is taken for none, and its keys are missed.
UNREACHED = {"qwen35": {"text_config"}, "qwen35moe": {"text_config"}}


def label(value: Any) -> str | None:
    return ",".join(f"{key}={one}"[:40] for key, one in value.items()) if isinstance(value, dict) else None


@pytest.mark.parametrize(
    ("family", "changes"), [(family, one) for family, some in REFUSED.items() for one in some], ids=label
)
def test_refused_by_its_name(small: Small, family: str, changes: Changes) -> None:
    """Each of these would give a file that does not load, or that answers as a different model."""
    with pytest.raises(UnsupportedError, match=rf"^config\.json has {re.escape(named(changes))} = "):
        plan(changed(small(family), changes), REGISTRY)


@pytest.mark.parametrize(
    ("family", "changes"), [(family, one) for family, some in ACCEPTED.items() for one in some], ids=label
)
def test_accepted(small: Small, family: str, changes: Changes) -> None:
    model = plan(changed(small(family), changes), REGISTRY)
    assert len(model.tensors) == len(plan(small(family), REGISTRY).tensors)


def named(changes: Changes) -> str:
    """The key in the message: the first one, in the word that all families use."""
    return next(iter(changes))


def architecture_of(checkpoint: Checkpoint) -> str:
    return REGISTRY[checkpoint.config["architectures"][0]].hf_names[0]


def test_no_rule_goes_untested(small: Small) -> None:
    tested: dict[str, set[str]] = {}
    for family, some in REFUSED.items():
        found = tested.setdefault(architecture_of(small(family)), set())
        found |= {named(changes) for changes in some} | UNREACHED.get(family, set())
        found |= {key for key, families in ALIASES.items() if family in families}
    for architecture in ARCHITECTURES:
        rules = {rule.key for rule in architecture.honoured}
        assert rules <= tested[architecture.hf_names[0]], architecture.hf_names[0]


OTHER_VALUES = {"layer_types": ["sliding_attention"], "auto_map": OWN_CODE, "is_causal": False}


@pytest.mark.parametrize("family", FAMILIES)
def test_common_rules_hold_for_every_family(small: Small, family: str) -> None:
    checkpoint = small(family)
    architecture = REGISTRY[checkpoint.config["architectures"][0]]
    own = {rule.key for rule in architecture.honoured} | set(architecture.aliases)
    for rule in COMMON:
        if rule.key in own:
            continue
        with pytest.raises(UnsupportedError, match=rf"^config\.json has {rule.key} = "):
            plan(changed(checkpoint, {rule.key: OTHER_VALUES.get(rule.key, 7)}), REGISTRY)
