"""Qwen1.5, Qwen2, Qwen2.5 and Qwen3."""

from __future__ import annotations

from tests.checkpoints.family import COMMON, SIZE_KEYS, Family, Shapes, Sizes, attention, block, decoder, swiglu


def qwen2_layer(s: Sizes, _: int) -> Shapes:
    return block(attention(s, bias=True), swiglu(s.hidden, s.ffn), s.hidden)


def qwen3_layer(s: Sizes, _: int) -> Shapes:
    return block(attention(s, bias=False, qk_norm=True), swiglu(s.hidden, s.ffn), s.hidden)


QWEN2 = Family(
    tokens="qwen2",
    config=COMMON
    | {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "bos_token_id": "<|endoftext|>",
        "eos_token_id": "<|im_end|>",
        "max_position_embeddings": 4096,
        "max_window_layers": 2,
        "rms_norm_eps": 1e-06,
        "sliding_window": 4096,
        "use_sliding_window": False,
    },
    rope={"rope_theta": 1000000.0},
    size_keys={**SIZE_KEYS, "head_dim": "head_dim"},
    tensors=lambda s: decoder(s, qwen2_layer),
)

QWEN3 = Family(
    tokens="qwen3",
    config=COMMON
    | {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "attention_bias": False,
        "bos_token_id": "<|endoftext|>",
        "eos_token_id": "<|im_end|>",
        "max_position_embeddings": 4096,
        "max_window_layers": 4,
        "rms_norm_eps": 1e-06,
        "rope_scaling": None,
        "sliding_window": None,
        "use_sliding_window": False,
    },
    rope={"rope_theta": 1000000.0},
    size_keys={**SIZE_KEYS, "head_dim": "head"},
    sizes={"head_dim": 128},
    tensors=lambda s: decoder(s, qwen3_layer),
)
