"""ChatGLM3-6B and GLM-4-9B as first published, and fine-tunes: ``ChatGLMModel``.

It brings its own Python; nothing of it is run.
"""

from __future__ import annotations

from typing import Any

from convert.architecture import Architecture, TensorRule
from convert.architectures import blocks
from convert.architectures.blocks import BLOCK, bias_needed, head_needed, layer
from convert.architectures.glm import SPECIAL_TOKENS, common, metadata
from convert.architectures.rules import BIAS_FLAG, kv_channels, own_code
from convert.honoured import Honoured, is_neutral, is_true
from convert.hparams import HParams, number

CHATGLM_LAYER = "transformer.encoder.layers.{i}."


def dims(hparams: HParams) -> dict[str, int]:
    sizes = blocks.dims(hparams)
    return sizes | {"qkv": sizes["q"] + 2 * sizes["kv"]}


def derived(hparams: HParams, names: frozenset[str]) -> dict[str, Any]:
    """ChatGLM rotates half of each head, with a base frequency of 10000 times a ratio."""
    return {
        "num_key_value_heads": hparams["multi_query_group_num"],
        "rope_theta": 10000.0 * number(hparams, "rope_ratio"),
    }


def rotates_by_base(ratio: Any, hparams: HParams) -> bool:
    """ChatGLM2 divides positions by the ratio where its successors multiply the base."""
    return ratio > 0 and (ratio == 1 or "chatglm2" not in str(hparams.get("_name_or_path")).lower())


CODE_RULES = (
    own_code("chatglm", "ChatGLM"),
    Honoured("multi_query_attention", is_true, "llama.cpp needs queries, keys and values one after the other"),
    Honoured("multi_query_group_num", lambda v, h: h["num_attention_heads"] % v == 0, "heads must share evenly"),
    kv_channels(4),
    Honoured("add_bias_linear", is_neutral, "llama.cpp has no biases there"),
    Honoured("apply_residual_connection_post_layernorm", is_neutral, "llama.cpp adds the residual before the norm"),
    Honoured("post_layer_norm", is_true, "llama.cpp always applies the last norm"),
    Honoured("rmsnorm", is_true, "llama.cpp computes RMS norms"),
    Honoured("original_rope", is_true, "another rotation than the one that is known"),
    Honoured("partial_rotary_factor", lambda v, _: v == 0.5, "its own code always rotates half of each head"),
    Honoured("rope_scaling", is_neutral, "its own code knows only rope_ratio"),
    Honoured("rope_parameters", is_neutral, "its own code knows only rope_ratio"),
    Honoured("quantization_bit", is_neutral, "convert the original checkpoint, not a quantized one"),
    Honoured("pre_seq_len", is_neutral, "a trained prefix has no place in a GGUF"),
    Honoured("rope_ratio", rotates_by_base, "chatglm2 uses the ratio in another way"),
    Honoured("tie_word_embeddings", is_neutral, "this architecture has its own output matrix"),
)

CHATGLM = Architecture(
    hf_names=("ChatGLMModel", "ChatGLMForConditionalGeneration"),
    name="chatglm",
    aliases={
        "num_layers": "num_hidden_layers",
        "padded_vocab_size": "vocab_size",
        "ffn_hidden_size": "intermediate_size",
        "seq_length": "max_position_embeddings",
        "layernorm_epsilon": "rms_norm_eps",
        "add_qkv_bias": "attention_bias",
    },
    defaults={
        "rms_norm_eps": 1e-5,
        "rope_ratio": 1,
        "partial_rotary_factor": 0.5,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "multi_query_attention": False,
        "multi_query_group_num": 1,
        "rmsnorm": True,
        "post_layer_norm": True,
        "original_rope": True,
        "add_bias_linear": False,
        "apply_residual_connection_post_layernorm": False,
    },
    sizes=("multi_query_group_num",),
    dims=dims,
    derived=derived,
    tensors=(
        TensorRule("transformer.embedding.word_embeddings.weight", "token_embd.weight", "vocab hidden"),
        *layer(
            ("input_layernorm.weight", "attn_norm.weight", "hidden"),
            ("self_attention.query_key_value.weight", "attn_qkv.weight", "qkv hidden"),
            ("self_attention.dense.weight", "attn_output.weight", "hidden q"),
            ("post_attention_layernorm.weight", "ffn_norm.weight", "hidden"),
            ("mlp.dense_h_to_4h.weight", "ffn_up.weight", "gate_up hidden"),
            ("mlp.dense_4h_to_h.weight", "ffn_down.weight", "hidden ff"),
            prefix=CHATGLM_LAYER,
        ),
        TensorRule(CHATGLM_LAYER + "self_attention.query_key_value.bias", BLOCK + "attn_qkv.bias", "qkv", bias_needed),
        TensorRule("transformer.encoder.final_layernorm.weight", "output_norm.weight", "hidden"),
        TensorRule("transformer.output_layer.weight", "output.weight", "vocab hidden", head_needed),
    ),
    honoured=(BIAS_FLAG, *CODE_RULES),
    common=common,
    metadata=metadata,
    special_tokens=SPECIAL_TOKENS,
)
