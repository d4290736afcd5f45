"""Qwen1.5, Qwen2, Qwen2.5, QwQ, R1-Distill-Qwen and fine-tunes: ``Qwen2ForCausalLM``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convert.architecture import Architecture, TensorRule, head_dim, kv_heads
from convert.honoured import Honoured


def dims(hparams: Mapping[str, Any]) -> dict[str, int]:
    return {
        "vocab": hparams["vocab_size"],
        "hidden": hparams["hidden_size"],
        "heads": hparams["num_attention_heads"] * head_dim(hparams),
        "kv": kv_heads(hparams) * head_dim(hparams),
        "ff": hparams["intermediate_size"],
    }


def head_needed(hparams: Mapping[str, Any]) -> bool | None:
    """A tied model needs no output matrix; one that is there all the same is the one transformers uses."""
    return None if hparams["tie_word_embeddings"] else True


def never_slides(window: Any, hparams: Mapping[str, Any]) -> bool:
    """Whether the sliding window, if any, is wider than the context or begins after the last layer."""
    return (
        not window
        or hparams.get("sliding_window") is None
        or hparams["sliding_window"] >= hparams["max_position_embeddings"]
        or hparams.get("max_window_layers", 28) >= hparams["num_hidden_layers"]
    )


QWEN2 = Architecture(
    hf_names=("Qwen2ForCausalLM",),
    name="qwen2",
    defaults={
        "vocab_size": 151936,
        "num_key_value_heads": 32,
        "hidden_act": "silu",
        "max_position_embeddings": 32768,
        "rms_norm_eps": 1e-6,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    dims=dims,
    tensors=(
        TensorRule("model.embed_tokens.weight", "token_embd.weight", "vocab hidden"),
        TensorRule("model.layers.{i}.input_layernorm.weight", "blk.{i}.attn_norm.weight", "hidden"),
        TensorRule("model.layers.{i}.self_attn.q_proj.weight", "blk.{i}.attn_q.weight", "heads hidden"),
        TensorRule("model.layers.{i}.self_attn.q_proj.bias", "blk.{i}.attn_q.bias", "heads"),
        TensorRule("model.layers.{i}.self_attn.k_proj.weight", "blk.{i}.attn_k.weight", "kv hidden"),
        TensorRule("model.layers.{i}.self_attn.k_proj.bias", "blk.{i}.attn_k.bias", "kv"),
        TensorRule("model.layers.{i}.self_attn.v_proj.weight", "blk.{i}.attn_v.weight", "kv hidden"),
        TensorRule("model.layers.{i}.self_attn.v_proj.bias", "blk.{i}.attn_v.bias", "kv"),
        TensorRule("model.layers.{i}.self_attn.o_proj.weight", "blk.{i}.attn_output.weight", "hidden heads"),
        TensorRule("model.layers.{i}.post_attention_layernorm.weight", "blk.{i}.ffn_norm.weight", "hidden"),
        TensorRule("model.layers.{i}.mlp.gate_proj.weight", "blk.{i}.ffn_gate.weight", "ff hidden"),
        TensorRule("model.layers.{i}.mlp.up_proj.weight", "blk.{i}.ffn_up.weight", "ff hidden"),
        TensorRule("model.layers.{i}.mlp.down_proj.weight", "blk.{i}.ffn_down.weight", "hidden ff"),
        TensorRule("model.norm.weight", "output_norm.weight", "hidden"),
        TensorRule("lm_head.weight", "output.weight", "vocab hidden", head_needed),
    ),
    honoured=(
        Honoured("use_sliding_window", never_slides, "llama.cpp computes full attention for this architecture"),
        Honoured(
            "head_dim",
            lambda v, h: v * h["num_attention_heads"] == h["hidden_size"],
            "llama.cpp needs head_dim x num_attention_heads = hidden_size for this architecture",
        ),
        Honoured(
            "partial_rotary_factor",
            lambda v, _: v == 1,
            "llama.cpp rotates whole heads for this architecture",
        ),
    ),
)
