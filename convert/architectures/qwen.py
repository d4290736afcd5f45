"""The first Qwen (1.8B, 7B, 14B, 72B; base and Chat) and fine-tunes: ``QWenLMHeadModel``.

It brings its own Python; nothing of it is run.
"""

from __future__ import annotations

from convert.architecture import Architecture, TensorRule
from convert.architectures.blocks import layer
from convert.architectures.rules import FULL_HEADS, kv_channels, own_code
from convert.honoured import Honoured, is_flag, is_neutral, is_one, is_true
from convert.hparams import HParams

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


def derived(hparams: HParams, names: frozenset[str]) -> HParams:
    """Beyond ``seq_length`` the model stretches its rotation and scales its attention, which llama.cpp does not.

    Both are on where a config of the final revision leaves them out; the first revision's configs have ``n_embd``.
    """
    final = "n_embd" not in hparams
    stretches = hparams.get("use_dynamic_ntk", final) or hparams.get("use_logn_attn", final)
    known = hparams["max_position_embeddings"]
    return {"max_position_embeddings": min(known, hparams["seq_length"]) if stretches else known}


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
    defaults={"tie_word_embeddings": False, "no_bias": True},
    dims=dims,
    derived=derived,
    sizes=("seq_length",),
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
            prefix=QWEN_LAYER,
        ),
        TensorRule("transformer.ln_f.weight", "output_norm.weight", "hidden"),
        TensorRule("lm_head.weight", "output.weight", "vocab hidden"),
    ),
    honoured=(
        *FULL_HEADS,
        own_code("qwen", "QWen"),
        Honoured("intermediate_size", lambda v, _: v % 2 == 0, "it counts two branches"),
        kv_channels(2),
        Honoured("no_bias", is_true, "llama.cpp has biases only on queries, keys and values"),
        Honoured("apply_residual_connection_post_layernorm", is_neutral, "llama.cpp adds the residual before the norm"),
        Honoured("num_key_value_heads", lambda v, h: v == h["num_attention_heads"], "its own code shares no heads"),
        Honoured("rope_scaling", is_neutral, "its own code knows only rotary_emb_base"),
        Honoured("rope_parameters", is_neutral, "its own code knows only rotary_emb_base"),
        Honoured("use_dynamic_ntk", is_flag, "it must be true or false"),
        Honoured("use_logn_attn", is_flag, "it must be true or false"),
        *(
            Honoured(key, is_neutral, "a model that sees or hears has the same class name")
            for key in ("visual", "audio")
        ),
        Honoured("rotary_pct", is_one, "llama.cpp rotates whole heads for this architecture"),
        Honoured("tie_word_embeddings", is_neutral, "llama.cpp needs an output matrix here"),
    ),
    special_tokens={"bos": "<|endoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>"},
)
