"""The first Qwen (1.8B, 7B, 14B, 72B; base and Chat) and fine-tunes: ``QWenLMHeadModel``.

It brings its own Python; nothing of it is run.
"""

from __future__ import annotations

from convert.architecture import Architecture, TensorRule
from convert.architectures.blocks import BLOCK
from convert.architectures.chatglm import runs_known_code
from convert.honoured import FULL_HEADS, Honoured
from convert.hparams import HParams, common_metadata

QWEN_LAYER = "transformer.h.{i}."


def dims(hparams: HParams) -> dict[str, int]:
    """The config's feed-forward size counts both of its branches."""
    hidden = hparams["hidden_size"]
    return {
        "vocab": hparams["vocab_size"],
        "hidden": hidden,
        "qkv": 3 * hidden,
        "branch": hparams["intermediate_size"] // 2,
    }


def layer(*rows: tuple[str, str, str]) -> tuple[TensorRule, ...]:
    return tuple(TensorRule(QWEN_LAYER + source, BLOCK + target, shape) for source, target, shape in rows)


QWEN = Architecture(
    hf_names=("QWenLMHeadModel",),
    name="qwen",
    # The first revision of August 2023 has other words for the same.
    aliases={
        "n_embd": "hidden_size",
        "n_layer": "num_hidden_layers",
        "n_head": "num_attention_heads",
        "ffn_hidden_size": "intermediate_size",
        "n_positions": "max_position_embeddings",
        "padded_vocab_size": "vocab_size",
        "layer_norm_epsilon": "rms_norm_eps",
        "rotary_emb_base": "rope_theta",
    },
    defaults={"rms_norm_eps": 1e-6, "tie_word_embeddings": False},
    dims=dims,
    tensors=(
        TensorRule("transformer.wte.weight", "token_embd.weight", "vocab hidden"),
        *layer(
            ("ln_1.weight", "attn_norm.weight", "hidden"),
            ("attn.c_attn.weight", "attn_qkv.weight", "qkv hidden"),
            ("attn.c_attn.bias", "attn_qkv.bias", "qkv"),
            ("attn.c_proj.weight", "attn_output.weight", "hidden hidden"),
            ("ln_2.weight", "ffn_norm.weight", "hidden"),
            ("mlp.w1.weight", "ffn_up.weight", "branch hidden"),
            ("mlp.w2.weight", "ffn_gate.weight", "branch hidden"),
            ("mlp.c_proj.weight", "ffn_down.weight", "hidden branch"),
        ),
        TensorRule("transformer.ln_f.weight", "output_norm.weight", "hidden"),
        TensorRule("lm_head.weight", "output.weight", "vocab hidden"),
    ),
    honoured=(
        *FULL_HEADS,
        Honoured("auto_map", runs_known_code, "it must be an object"),
        Honoured("intermediate_size", lambda v, _: v % 2 == 0, "it counts two branches"),
        Honoured(
            "kv_channels",
            lambda v, h: v * h["num_attention_heads"] == h["hidden_size"],
            "llama.cpp needs kv_channels x num_attention_heads = hidden_size for this architecture",
        ),
        Honoured("rotary_pct", lambda v, _: v == 1, "llama.cpp rotates whole heads for this architecture"),
        Honoured("tie_word_embeddings", lambda v, _: v is False, "llama.cpp needs an output matrix here"),
    ),
    common=common_metadata,
    special_tokens={"bos": "<|endoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>"},
)
