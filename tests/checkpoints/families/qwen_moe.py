"""Qwen1.5-MoE, Qwen2-57B-A14B and Qwen3-MoE."""

from __future__ import annotations

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
    swiglu,
)

MOE_SIZE_KEYS = SIZE_KEYS | {
    "num_experts": "experts",
    "num_experts_per_tok": "experts_used",
    "moe_intermediate_size": "moe_ffn",
}
MOE_COMMON = COMMON | {
    "bos_token_id": "<|endoftext|>",
    "eos_token_id": "<|im_end|>",
    "decoder_sparse_step": 1,
    "max_position_embeddings": 4096,
    "mlp_only_layers": [],
    "output_router_logits": False,
    "rms_norm_eps": 1e-06,
    "router_aux_loss_coef": 0.001,
    "use_sliding_window": False,
}


def with_shared_expert(s: Sizes) -> Shapes:
    """The routed experts, one that every token passes through, and the row that says how much of it is taken."""
    return (
        experts(s) | swiglu(s.hidden, s.shared_ffn, "mlp.shared_expert") | linear("mlp.shared_expert_gate", 1, s.hidden)
    )


def qwen2moe_layer(s: Sizes, _: int) -> Shapes:
    return block(attention(s, bias=True), with_shared_expert(s), s.hidden)


def qwen3moe_layer(s: Sizes, _: int) -> Shapes:
    return block(attention(s, bias=False, qk_norm=True), experts(s), s.hidden)


QWEN2MOE = Family(
    tokens="qwen1.5",
    config=MOE_COMMON
    | {
        "architectures": ["Qwen2MoeForCausalLM"],
        "model_type": "qwen2_moe",
        "max_window_layers": 4,
        "norm_topk_prob": False,
        "sliding_window": 4096,
    },
    rope={"rope_theta": 1000000.0},
    size_keys=MOE_SIZE_KEYS | {"shared_expert_intermediate_size": "shared_ffn"},
    # llama.cpp has no tied form of it
    sizes={"kv_heads": 4, "shared_ffn": 512, "tied": False},
    tensors=lambda s: decoder(s, qwen2moe_layer),
)

QWEN3MOE = Family(
    tokens="qwen3",
    config=MOE_COMMON
    | {
        "architectures": ["Qwen3MoeForCausalLM"],
        "model_type": "qwen3_moe",
        "attention_bias": False,
        "max_window_layers": 4,
        "norm_topk_prob": True,
        "rope_scaling": None,
        "sliding_window": None,
    },
    rope={"rope_theta": 1000000.0},
    size_keys=MOE_SIZE_KEYS | {"head_dim": "head"},
    sizes={"head_dim": 128, "tied": False},
    tensors=lambda s: decoder(s, qwen3moe_layer),
)
