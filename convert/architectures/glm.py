"""glm-4-9b-chat-hf, glm-edge and fine-tunes: ``GlmForCausalLM``.

The same network as ChatGLM's under other names, so llama.cpp has one architecture for both.
"""

from __future__ import annotations

from convert.architecture import Architecture
from convert.architectures.blocks import ATTENTION, ENDS, GATE_UP, QKV_BIAS, TWO_NORMS, dims
from convert.architectures.rules import BIAS_FLAG, FULL_HEADS, IDLE_WINDOW
from convert.hparams import HParams, kv_heads
from convert.metadata import KV
from convert.rope import rope_metadata, rotated

SPECIAL_TOKENS = {"eos": "<|endoftext|>", "eot": "<|user|>", "unk": "<|endoftext|>", "eom": "<|observation|>"}


def common(arch: str, hparams: HParams) -> list[KV]:
    """In the order of llama.cpp's converter, which has one of its own for this architecture."""
    return [
        KV(f"{arch}.context_length", "u32", hparams["max_position_embeddings"]),
        KV(f"{arch}.embedding_length", "u32", hparams["hidden_size"]),
        KV(f"{arch}.feed_forward_length", "u32", hparams["intermediate_size"]),
        KV(f"{arch}.block_count", "u32", hparams["block_count"]),
        KV(f"{arch}.attention.head_count", "u32", hparams["num_attention_heads"]),
        KV(f"{arch}.attention.head_count_kv", "u32", kv_heads(hparams)),
        KV(f"{arch}.attention.layer_norm_rms_epsilon", "f32", hparams["rms_norm_eps"]),
    ]


def metadata(hparams: HParams) -> list[KV]:
    """No token is put before a text: the template holds ``[gMASK]<sop>``, once."""
    return [
        KV("chatglm.rope.dimension_count", "u32", rotated(hparams)),
        KV("tokenizer.ggml.add_bos_token", "bool", False),
        *rope_metadata("chatglm", hparams),
    ]


GLM = Architecture(
    hf_names=("GlmForCausalLM",),
    name="chatglm",
    defaults={
        "vocab_size": 151552,
        "hidden_size": 4096,
        "intermediate_size": 13696,
        "num_hidden_layers": 40,
        "num_attention_heads": 32,
        "num_key_value_heads": 2,
        "head_dim": 128,
        "hidden_act": "silu",
        "max_position_embeddings": 131072,
        "rms_norm_eps": 1.5625e-07,
        "rope_theta": 10000.0,
        "partial_rotary_factor": 0.5,
        "attention_bias": True,
        "tie_word_embeddings": False,
    },
    dims=dims,
    tensors=(*ENDS, *TWO_NORMS, *ATTENTION, *QKV_BIAS, *GATE_UP),
    honoured=(
        BIAS_FLAG,
        FULL_HEADS[0],
        IDLE_WINDOW,
    ),
    common=common,
    metadata=metadata,
    special_tokens=SPECIAL_TOKENS,
)
