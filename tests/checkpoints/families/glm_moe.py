"""GLM-4.5 (Air and the large one) and GLM-4.7-Flash, the latter with multi-head latent attention."""

from __future__ import annotations

from collections.abc import Callable

from tests.checkpoints.families.glm import ENDS
from tests.checkpoints.family import (
    COMMON,
    SIZE_KEYS,
    Family,
    Shapes,
    Sizes,
    attention,
    block,
    decoder,
    experts,
    linear,
    norms,
    swiglu,
    under,
)

ROUTED = COMMON | {
    "eos_token_id": ENDS,
    "max_position_embeddings": 4096,
    "n_group": 1,
    "norm_topk_prob": True,
    "pad_token_id": "<|endoftext|>",
    "rms_norm_eps": 1e-05,
    "topk_group": 1,
}
ROUTED_SIZE_KEYS = SIZE_KEYS | {
    "attention_bias": "attention_bias",
    "first_k_dense_replace": "dense_layers",
    "moe_intermediate_size": "moe_ffn",
    "n_routed_experts": "experts",
    "n_shared_experts": "shared_experts",
    "num_experts_per_tok": "experts_used",
    "num_nextn_predict_layers": "nextn",
}


def feed_forward(s: Sizes, i: int) -> Shapes:
    """Dense in the first layers; then experts, chosen with the help of a bias that does not enter their weights."""
    if i < s.dense_layers:
        return swiglu(s.hidden, s.ffn)
    shared = swiglu(s.hidden, s.moe_ffn * s.shared_experts, "mlp.shared_experts")
    return {"mlp.gate.e_score_correction_bias": (s.experts,)} | experts(s) | shared


def latent_attention(s: Sizes) -> Shapes:
    """Queries, and keys with values, each come from a short vector; one rotated part of the key serves all heads."""
    return under(
        "self_attn.",
        linear("q_a_proj", s.q_rank, s.hidden)
        | norms(s.q_rank, "q_a_layernorm")
        | linear("q_b_proj", s.heads * (s.nope_dim + s.rope_dim), s.q_rank)
        | linear("kv_a_proj_with_mqa", s.kv_rank + s.rope_dim, s.hidden)
        | norms(s.kv_rank, "kv_a_layernorm")
        | linear("kv_b_proj", s.heads * (s.nope_dim + s.value_dim), s.kv_rank)
        | linear("o_proj", s.hidden, s.heads * s.value_dim),
    )


def glm4moe_layer(s: Sizes, i: int) -> Shapes:
    return block(attention(s, bias=s.attention_bias, qk_norm=s.qk_norm), feed_forward(s, i), s.hidden)


def lite_layer(s: Sizes, i: int) -> Shapes:
    return block(latent_attention(s), feed_forward(s, i), s.hidden)


def tensors(s: Sizes, layer: Callable[[Sizes, int], Shapes]) -> Shapes:
    """The prediction layers follow the others, each a whole layer and some tensors more."""
    more: Shapes = {}
    for i in range(s.layers, s.layers + s.nextn):
        extra = (
            linear("eh_proj", s.hidden, 2 * s.hidden)
            | norms(s.hidden, "enorm", "hnorm", "shared_head.norm")
            | linear("embed_tokens", s.vocab, s.hidden)
            | linear("shared_head.head", s.vocab, s.hidden)
        )
        more |= under(f"model.layers.{i}.", layer(s, i) | extra)
    return decoder(s, layer) | more


GLM4MOE = Family(
    tokens="glm4moe",
    config=ROUTED
    | {
        "architectures": ["Glm4MoeForCausalLM"],
        "model_type": "glm4_moe",
        "rope_scaling": None,
        "routed_scaling_factor": 1.5,
    },
    rope={"rope_theta": 1000000.0, "partial_rotary_factor": 0.5},
    size_keys=ROUTED_SIZE_KEYS | {"head_dim": "head", "use_qk_norm": "qk_norm"},
    sizes={"head_dim": 128, "qk_norm": False, "tied": False},
    tensors=lambda s: tensors(s, glm4moe_layer),
    float32=("e_score_correction_bias",),
)

GLM4MOELITE = Family(
    tokens="glm4moelite",
    config=ROUTED
    | {
        "architectures": ["Glm4MoeLiteForCausalLM"],
        "model_type": "glm4_moe_lite",
        "bos_token_id": "[gMASK]",
        "routed_scaling_factor": 1.8,
        "topk_method": "noaux_tc",
    },
    rope={"rope_theta": 1000000.0},
    rope_style="new",
    size_keys=ROUTED_SIZE_KEYS
    | {
        "kv_lora_rank": "kv_rank",
        "q_lora_rank": "q_rank",
        "qk_nope_head_dim": "nope_dim",
        "qk_rope_head_dim": "rope_dim",
        "v_head_dim": "value_dim",
    },
    sizes={"attention_bias": False, "kv_heads": 4, "tied": False},
    tensors=lambda s: tensors(s, lite_layer),
    float32=("e_score_correction_bias",),
)
