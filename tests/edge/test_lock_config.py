"""config.json of every family in the lock's words; junk in it is an EdgeError, never another exception."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.architectures import REGISTRY
from convert.errors import CheckpointError, EdgeError, UnsupportedError
from edge.lock import CONFIG, LockedModel
from edge.lock_config import facts_of
from edge.lock_file import read_lock, shipped_path, write_lock
from tests.checkpoints import FAMILIES, build, read_json
from tests.checkpoints.family import Sizes

# What the public repositories have, without keys that say nothing of shapes.
QWEN2_5 = {
    "architectures": ["Qwen2ForCausalLM"],
    "hidden_act": "silu",
    "hidden_size": 896,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 21,
    "model_type": "qwen2",
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3_MOE = {
    "architectures": ["Qwen3MoeForCausalLM"],
    "attention_bias": False,
    "decoder_sparse_step": 1,
    "head_dim": 128,
    "hidden_size": 2048,
    "intermediate_size": 6144,
    "max_position_embeddings": 40960,
    "max_window_layers": 48,
    "mlp_only_layers": [],
    "moe_intermediate_size": 768,
    "norm_topk_prob": True,
    "num_attention_heads": 32,
    "num_experts": 128,
    "num_experts_per_tok": 8,
    "num_hidden_layers": 48,
    "num_key_value_heads": 4,
    "rms_norm_eps": 1e-06,
    "rope_scaling": None,
    "rope_theta": 1000000.0,
    "sliding_window": None,
    "tie_word_embeddings": False,
    "use_sliding_window": False,
    "vocab_size": 151936,
}
QWEN3_5 = {
    "architectures": ["Qwen3_5ForConditionalGeneration"],
    "model_type": "qwen3_5",
    "text_config": {
        "attn_output_gate": True,
        "full_attention_interval": 4,
        "head_dim": 256,
        "hidden_size": 1024,
        "intermediate_size": 3584,
        "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"] * 6,
        "linear_conv_kernel_dim": 4,
        "linear_key_head_dim": 128,
        "linear_num_key_heads": 16,
        "linear_num_value_heads": 16,
        "linear_value_head_dim": 128,
        "max_position_embeddings": 262144,
        "mlp_only_layers": [],
        "mtp_num_hidden_layers": 1,
        "num_attention_heads": 8,
        "num_hidden_layers": 24,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-06,
        "tie_word_embeddings": True,
        "vocab_size": 248320,
    },
    "tie_word_embeddings": True,
    "vision_config": {"depth": 12, "hidden_size": 768},
}
QWEN = {
    "architectures": ["QWenLMHeadModel"],
    "hidden_size": 4096,
    "intermediate_size": 22016,
    "kv_channels": 128,
    "layer_norm_epsilon": 1e-06,
    "max_position_embeddings": 32768,
    "no_bias": True,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "rotary_emb_base": 10000,
    "rotary_pct": 1.0,
    "seq_length": 8192,
    "tie_word_embeddings": False,
    "use_dynamic_ntk": True,
    "use_logn_attn": True,
    "vocab_size": 151936,
}
CHATGLM = {
    "architectures": ["ChatGLMModel"],
    "add_bias_linear": False,
    "add_qkv_bias": True,
    "ffn_hidden_size": 13696,
    "hidden_size": 4096,
    "kv_channels": 128,
    "layernorm_epsilon": 1.5625e-07,
    "multi_query_attention": True,
    "multi_query_group_num": 2,
    "num_attention_heads": 32,
    "num_layers": 40,
    "original_rope": True,
    "padded_vocab_size": 151552,
    "post_layer_norm": True,
    "rmsnorm": True,
    "rope_ratio": 500,
    "seq_length": 131072,
    "tie_word_embeddings": False,
}
GLM4 = {
    "architectures": ["Glm4ForCausalLM"],
    "attention_bias": True,
    "head_dim": 128,
    "hidden_size": 4096,
    "intermediate_size": 13696,
    "max_position_embeddings": 32768,
    "num_attention_heads": 32,
    "num_hidden_layers": 40,
    "num_key_value_heads": 2,
    "partial_rotary_factor": 0.5,
    "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "vocab_size": 151552,
}
GLM4_MOE_LITE = {
    "architectures": ["Glm4MoeLiteForCausalLM"],
    "first_k_dense_replace": 1,
    "hidden_size": 2048,
    "intermediate_size": 10240,
    "kv_lora_rank": 512,
    "max_position_embeddings": 202752,
    "moe_intermediate_size": 1536,
    "n_group": 1,
    "n_routed_experts": 64,
    "n_shared_experts": 1,
    "norm_topk_prob": True,
    "num_attention_heads": 20,
    "num_experts_per_tok": 4,
    "num_hidden_layers": 47,
    "num_key_value_heads": 20,
    "num_nextn_predict_layers": 1,
    "partial_rotary_factor": 1.0,
    "q_lora_rank": 768,
    "qk_nope_head_dim": 192,
    "qk_rope_head_dim": 64,
    "rms_norm_eps": 1e-05,
    "rope_theta": 1000000,
    "routed_scaling_factor": 1.8,
    "tie_word_embeddings": False,
    "topk_group": 1,
    "topk_method": "noaux_tc",
    "v_head_dim": 256,
    "vocab_size": 154880,
}
PUBLISHED = {
    "qwen2.5-0.5b": QWEN2_5,
    "qwen3-30b-a3b": QWEN3_MOE,
    "qwen3.5-0.8b": QWEN3_5,
    "qwen-7b-chat": QWEN,
    "glm-4-9b": CHATGLM,
    "glm-4-9b-0414": GLM4,
    "glm-4.7-flash": GLM4_MOE_LITE,
}

# Built checkpoints: no two sizes alike where a family allows it.
SIZES = {"layers": 8, "hidden": 96, "ffn": 160, "heads": 6, "vocab": 300}
EXPERTS = {"experts": 10, "experts_used": 3, "moe_ffn": 32, "shared_ffn": 64, "dense_layers": 5}
LINEAR = {"linear_key_heads": 2, "linear_value_heads": 4, "linear_head_dim": 64, "conv_kernel": 9}
LATENT = {"q_rank": 48, "kv_rank": 80, "nope_dim": 24, "rope_dim": 16, "value_dim": 40}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_config_gives_what_the_shipped_lock_says(name: str) -> None:
    facts, locked = facts_of(PUBLISHED[name]), read_lock(shipped_path())[name]
    assert facts.config == dict(locked.config)
    assert (facts.architecture, facts.context_length) == (locked.architecture, locked.context_length)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_the_same_words(tmp_path: Path, family: str) -> None:
    heads = {"kv_heads": 6 if family == "glm4moelite" else 3}
    ours = {**SIZES, **heads, **EXPERTS, **LINEAR, **LATENT}
    config = read_json(build(tmp_path / "checkpoint", family=family, **ours) / "config.json")
    facts = facts_of(config)
    assert facts.config == expected(family, Sizes(**{**FAMILIES[family].sizes, **ours}))
    assert facts.architecture == config["architectures"][0]
    assert facts.context_length in (2048, 4096, 6144, 8192, 131072)

    model = LockedModel("m", facts.architecture, context_length=facts.context_length, config=facts.config)
    write_lock(tmp_path / "models.lock", {"m": model})
    assert read_lock(tmp_path / "models.lock") == {"m": model}


def expected(family: str, s: Sizes) -> dict[str, int | bool]:
    facts: dict[str, int | bool] = {
        "hidden_size": s.hidden,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "num_key_value_heads": s.heads if family in ("qwen", "qwen-first") else s.kv_heads,
        "vocab_size": s.vocab,
        "tie_word_embeddings": s.tied,
    }
    if not family.startswith("qwen35moe"):
        facts["intermediate_size"] = s.ffn
    if "moe" in family or family == "qwen3next":
        facts |= {"num_experts": s.experts, "num_experts_per_tok": s.experts_used, "moe_intermediate_size": s.moe_ffn}
        facts |= {"n_shared_experts": s.shared_experts} if family != "qwen3moe" else {}
        facts |= {"first_k_dense_replace": s.dense_layers} if family.startswith("glm") else {}
    if family.startswith(("qwen35", "qwen3next")):
        facts |= {
            "full_attention_interval": s.interval,
            "linear_conv_kernel_dim": s.conv_kernel,
            "linear_num_key_heads": s.linear_key_heads,
            "linear_key_head_dim": s.linear_head_dim,
            "linear_num_value_heads": s.linear_value_heads,
            "linear_value_head_dim": s.linear_head_dim,
        }
    if family != "glm4moelite":
        return facts | {"head_dim": s.head}
    return facts | {
        "q_lora_rank": s.q_rank,
        "kv_lora_rank": s.kv_rank,
        "qk_nope_head_dim": s.nope_dim,
        "qk_rope_head_dim": s.rope_dim,
        "v_head_dim": s.value_dim,
    }


def test_what_transformers_assumes_is_filled_in() -> None:
    """A config may leave out all that its class has as a default: here the published model's own values."""
    facts = facts_of({"architectures": ["Glm4MoeLiteForCausalLM"]})
    assert facts.config == facts_of(GLM4_MOE_LITE).config
    assert facts.context_length == 202752


def test_the_list_of_layers_goes_before_the_interval() -> None:
    """A config saved with layer_types but no interval was given the default one: memory for half the cache."""
    text = {**QWEN3_5["text_config"], "layer_types": ["linear_attention", "full_attention"] * 12}
    del text["full_attention_interval"]
    assert facts_of({**QWEN3_5, "text_config": text}).config["full_attention_interval"] == 2


def test_a_shared_expert_wider_than_a_routed_one_is_not_made_smaller() -> None:
    config = {"architectures": ["Qwen2MoeForCausalLM"], "moe_intermediate_size": 1000}
    assert facts_of({**config, "shared_expert_intermediate_size": 2001}).config["n_shared_experts"] == 3


def test_dense_layers_are_counted_from_their_list() -> None:
    """transformers 5 saves GLM-4.7-Flash with mlp_layer_types in place of first_k_dense_replace."""
    config = {**GLM4_MOE_LITE, "mlp_layer_types": ["dense"] * 3 + ["sparse"] * 44}
    del config["first_k_dense_replace"]
    assert facts_of(config).config["first_k_dense_replace"] == 3


# --- junk

JUNK = (None, True, "896", "", -1, 0, 0.5, 2**31, 10**400, float("nan"), [], [896], [[[]]], {}, {"a": [1]})


@pytest.mark.parametrize("value", JUNK, ids=repr)
@pytest.mark.parametrize("key", ["hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"])
def test_a_size_that_is_none(key: str, value: Any) -> None:
    with pytest.raises(CheckpointError, match=f"config.json: {key} is "):
        facts_of({**QWEN2_5, key: value})


@pytest.mark.parametrize("value", [None, "yes", 2, [], {}], ids=repr)
def test_tied_is_true_or_false(value: Any) -> None:
    """A text was once as good as true."""
    with pytest.raises(EdgeError, match="tie_word_embeddings"):
        facts_of({**QWEN2_5, "tie_word_embeddings": value})


def test_a_family_that_takes_nought_for_false_has_false_in_the_lock() -> None:
    """A lock with ``tie_word_embeddings = 0`` could not be read again."""
    assert facts_of({**CHATGLM, "tie_word_embeddings": 0}).config["tie_word_embeddings"] is False


def test_the_key_is_named_as_the_file_has_it() -> None:
    with pytest.raises(CheckpointError, match="ffn_hidden_size is '-4'"):
        facts_of({**CHATGLM, "ffn_hidden_size": -4})


@pytest.mark.parametrize("value", [None, [], [None], [["Qwen2ForCausalLM"]], "Qwen2ForCausalLM", {}, 1], ids=repr)
def test_no_architecture(value: Any) -> None:
    with pytest.raises(CheckpointError, match="does not name its architecture"):
        facts_of({**QWEN2_5, "architectures": value})


def test_an_unknown_architecture() -> None:
    with pytest.raises(UnsupportedError, match="LlamaForCausalLM cannot be converted"):
        facts_of({**QWEN2_5, "architectures": ["LlamaForCausalLM"]})


def test_what_llama_cpp_would_compute_differently_is_refused_before_the_weights_are_fetched() -> None:
    with pytest.raises(UnsupportedError, match="use_sliding_window"):
        facts_of({**QWEN2_5, "use_sliding_window": True, "sliding_window": 1024})


@pytest.mark.parametrize("value", [None, [], "{}", 1])
def test_no_object(value: Any) -> None:
    with pytest.raises(CheckpointError, match="JSON object"):
        facts_of(value)


@pytest.mark.parametrize("key", ["hidden_size", "tie_word_embeddings", "_name_or_path", "rope_scaling", "auto_map"])
def test_lists_nested_as_deep_as_json_may(key: str) -> None:
    """Python reads them, but to write their text for a message took more than its recursion limit."""
    deep: list[Any] = []
    for _ in range(5000):
        deep = [deep]
    for config in PUBLISHED.values():
        with pytest.raises(EdgeError):
            facts_of({**config, key: deep, "rope_ratio": 2, "hidden_act": deep})


SCALARS = st.sampled_from([None, True, -1, 0, 1, 2, 4, 0.5, 513, 2**31 - 1, 10**400, "", "full_attention", "sparse"])
VALUES = (
    SCALARS
    | st.integers()
    | st.floats()
    | st.lists(SCALARS, max_size=4)
    | st.dictionaries(st.sampled_from(["hidden_size", "rope_type", "AutoConfig"]), SCALARS, max_size=2)
)
KEYS = sorted(
    {key for config in PUBLISHED.values() for key in (*config, *config.get("text_config", {}))}
    | {key for family in REGISTRY.values() for key in (*family.sizes, *family.aliases, *family.defaults)}
    | {rule.key for family in REGISTRY.values() for rule in family.honoured}
    | {"rope_parameters"}
)


@given(
    st.sampled_from(sorted(PUBLISHED)),
    st.sampled_from(sorted(REGISTRY)),
    st.booleans(),
    st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=3),
)
def test_any_config_gives_facts_that_a_lock_holds_or_an_error_in_plain_words(
    name: str, other: str, swap: bool, junk: dict[str, Any]
) -> None:
    config = {**PUBLISHED[name], **({"architectures": [other]} if swap else {}), **junk}
    if name == "qwen3.5-0.8b" and not swap:
        config |= {"text_config": {**QWEN3_5["text_config"], **junk}}
    try:
        facts = facts_of(config)
    except EdgeError:
        return
    assert facts.architecture in REGISTRY
    assert set(facts.config) <= set(CONFIG)
    assert isinstance(facts.config.pop("tie_word_embeddings"), bool)
    assert all(type(value) is int and 0 <= value < 2**31 for value in (facts.context_length, *facts.config.values()))
