"""glm-4-9b-chat-hf, GLM-Edge and GLM-4-0414: gate and up in one matrix, rotary pairs interleaved."""

from __future__ import annotations

from dataclasses import replace

from tests.checkpoints.family import COMMON, SIZE_KEYS, Family, Shapes, Sizes, attention, block, decoder, linear

GLM_SIZE_KEYS = SIZE_KEYS | {"attention_bias": "attention_bias", "head_dim": "head"}
ENDS = ["<|endoftext|>", "<|user|>", "<|observation|>"]


def fused_mlp(s: Sizes) -> Shapes:
    return linear("mlp.gate_up_proj", 2 * s.ffn, s.hidden) | linear("mlp.down_proj", s.hidden, s.ffn)


def glm_layer(s: Sizes, _: int) -> Shapes:
    return block(attention(s, bias=s.attention_bias), fused_mlp(s), s.hidden)


def glm4_layer(s: Sizes, _: int) -> Shapes:
    more = ("post_self_attn_layernorm", "post_mlp_layernorm")
    return block(attention(s, bias=s.attention_bias), fused_mlp(s), s.hidden, *more)


GLM4 = Family(
    tokens="glm4",
    config=COMMON
    | {
        "architectures": ["Glm4ForCausalLM"],
        "model_type": "glm4",
        "eos_token_id": ENDS,
        "pad_token_id": "<|endoftext|>",
        "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-05,
    },
    rope={"rope_theta": 10000.0, "partial_rotary_factor": 0.5},
    size_keys=GLM_SIZE_KEYS,
    tensors=lambda s: decoder(s, glm4_layer),
)

# glm-4-9b-chat-hf does not say how much of a head is rotated; the default is half
GLM = replace(
    GLM4,
    tokens="glm",
    config=GLM4.config
    | {
        "architectures": ["GlmForCausalLM"],
        "model_type": "glm",
        "max_position_embeddings": 4096,
        "rms_norm_eps": 1.5625e-07,
    },
    rope={"rope_theta": 10000.0},
    sizes={"tied": False},
    tensors=lambda s: decoder(s, glm_layer),
)
GLM_EDGE = replace(
    GLM,
    tokens="glm-edge",
    config=GLM.config | {"rms_norm_eps": 1e-05},
    rope={"rope_theta": 10000.0, "partial_rotary_factor": 1.0},
    sizes={"attention_bias": False},
)
