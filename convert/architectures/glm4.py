"""GLM-4-0414 and GLM-Z1 (9B, 32B) and fine-tunes: ``Glm4ForCausalLM``."""

from __future__ import annotations

from convert.architecture import Architecture
from convert.architectures.blocks import ATTENTION, ENDS, GATE_UP, QKV_BIAS, dims, layer
from convert.architectures.rules import BIAS_FLAG, IDLE_WINDOW
from convert.hparams import HParams
from convert.metadata import KV
from convert.rope import rotated


def metadata(hparams: HParams) -> list[KV]:
    """Only the first half of each head is rotated; without this key llama.cpp would rotate all of it."""
    return [KV("glm4.rope.dimension_count", "u32", rotated(hparams))]


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
        *ENDS,
        *layer(
            ("input_layernorm.weight", "attn_norm.weight", "hidden"),
            ("post_self_attn_layernorm.weight", "post_attention_norm.weight", "hidden"),
            ("post_attention_layernorm.weight", "ffn_norm.weight", "hidden"),
            ("post_mlp_layernorm.weight", "post_ffw_norm.weight", "hidden"),
        ),
        *ATTENTION,
        *QKV_BIAS,
        *GATE_UP,
    ),
    honoured=(
        BIAS_FLAG,
        IDLE_WINDOW,
    ),
    metadata=metadata,
    # A turn ends where the next role begins; a tool call ends with <|observation|>.
    special_tokens={
        "eos": "<|endoftext|>",
        "eot": "<|user|>",
        "unk": "<|endoftext|>",
        "bos": "<|endoftext|>",
        "eom": "<|observation|>",
    },
)
