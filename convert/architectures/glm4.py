"""GLM-4-0414 and GLM-Z1 (9B, 32B) and fine-tunes: ``Glm4ForCausalLM``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convert.architecture import Architecture, TensorRule, head_dim, kv_heads
from convert.errors import UnsupportedError
from convert.honoured import Honoured
from convert.metadata import KV
from convert.rope import rope_parameters


def dims(hparams: Mapping[str, Any]) -> dict[str, int]:
    return {
        "vocab": hparams["vocab_size"],
        "hidden": hparams["hidden_size"],
        "heads": hparams["num_attention_heads"] * head_dim(hparams),
        "kv": kv_heads(hparams) * head_dim(hparams),
        "ff": hparams["intermediate_size"],
        "gate_up": 2 * hparams["intermediate_size"],
    }


def head_needed(hparams: Mapping[str, Any]) -> bool | None:
    return None if hparams["tie_word_embeddings"] else True


def bias_needed(hparams: Mapping[str, Any]) -> bool:
    return bool(hparams["attention_bias"])


def rotary_metadata(hparams: Mapping[str, Any]) -> list[KV]:
    """Only the first half of each head is rotated; without this key llama.cpp would rotate all of it."""
    factor = rope_parameters(hparams)["partial_rotary_factor"]
    rotated = int(head_dim(hparams) * factor)
    if factor > 1 or rotated < 2 or rotated % 2:
        raise UnsupportedError(
            f"config.json has partial_rotary_factor = {factor}; it would rotate {rotated} of each head"
        )
    return [KV("glm4.rope.dimension_count", "u32", rotated)]


GLM4 = Architecture(
    hf_names=("Glm4ForCausalLM",),
    name="glm4",
    defaults={
        "vocab_size": 151552,
        "num_key_value_heads": 2,
        "hidden_act": "silu",
        "head_dim": 128,
        "attention_bias": True,
        "max_position_embeddings": 131072,
        "partial_rotary_factor": 0.5,
        "rms_norm_eps": 1.5625e-07,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
    },
    dims=dims,
    tensors=(
        TensorRule("model.embed_tokens.weight", "token_embd.weight", "vocab hidden"),
        TensorRule("model.layers.{i}.input_layernorm.weight", "blk.{i}.attn_norm.weight", "hidden"),
        TensorRule("model.layers.{i}.self_attn.q_proj.weight", "blk.{i}.attn_q.weight", "heads hidden"),
        TensorRule("model.layers.{i}.self_attn.q_proj.bias", "blk.{i}.attn_q.bias", "heads", bias_needed),
        TensorRule("model.layers.{i}.self_attn.k_proj.weight", "blk.{i}.attn_k.weight", "kv hidden"),
        TensorRule("model.layers.{i}.self_attn.k_proj.bias", "blk.{i}.attn_k.bias", "kv", bias_needed),
        TensorRule("model.layers.{i}.self_attn.v_proj.weight", "blk.{i}.attn_v.weight", "kv hidden"),
        TensorRule("model.layers.{i}.self_attn.v_proj.bias", "blk.{i}.attn_v.bias", "kv", bias_needed),
        TensorRule("model.layers.{i}.self_attn.o_proj.weight", "blk.{i}.attn_output.weight", "hidden heads"),
        TensorRule("model.layers.{i}.post_self_attn_layernorm.weight", "blk.{i}.post_attention_norm.weight", "hidden"),
        TensorRule("model.layers.{i}.post_attention_layernorm.weight", "blk.{i}.ffn_norm.weight", "hidden"),
        TensorRule("model.layers.{i}.mlp.gate_up_proj.weight", "blk.{i}.ffn_up.weight", "gate_up hidden"),
        TensorRule("model.layers.{i}.mlp.down_proj.weight", "blk.{i}.ffn_down.weight", "hidden ff"),
        TensorRule("model.layers.{i}.post_mlp_layernorm.weight", "blk.{i}.post_ffw_norm.weight", "hidden"),
        TensorRule("model.norm.weight", "output_norm.weight", "hidden"),
        TensorRule("lm_head.weight", "output.weight", "vocab hidden", head_needed),
    ),
    honoured=(
        Honoured("attention_bias", lambda v, _: isinstance(v, bool), "it must be true or false"),
        Honoured(
            "sliding_window",
            lambda v, h: v >= h["max_position_embeddings"],
            "llama.cpp computes full attention for this architecture",
        ),
    ),
    # A turn ends where the next role begins; a tool call ends with <|observation|>.
    special_tokens={
        "eos": "<|endoftext|>",
        "eot": "<|user|>",
        "unk": "<|endoftext|>",
        "bos": "<|endoftext|>",
        "eom": "<|observation|>",
    },
    metadata=rotary_metadata,
)
