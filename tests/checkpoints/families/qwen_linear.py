"""Qwen3-Next and Qwen3.5: three layers of gated delta rule, one of gated softmax attention, and so on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tests.checkpoints.families.qwen_moe import MOE_COMMON, MOE_SIZE_KEYS, with_shared_expert
from tests.checkpoints.family import (
    COMMON,
    SIZE_KEYS,
    Family,
    Shapes,
    Sizes,
    attention,
    block,
    decoder,
    linear,
    norms,
    swiglu,
    under,
)

LINEAR_SIZE_KEYS = {
    "head_dim": "head",
    "linear_conv_kernel_dim": "conv_kernel",
    "linear_key_head_dim": "linear_head_dim",
    "linear_num_key_heads": "linear_key_heads",
    "linear_num_value_heads": "linear_value_heads",
    "linear_value_head_dim": "linear_head_dim",
}
NEXT_INPUTS = ("in_proj_qkvz", "in_proj_ba")
VISION = {
    "deepstack_visual_indexes": [],
    "depth": 1,
    "hidden_act": "gelu_pytorch_tanh",
    "hidden_size": 32,
    "in_channels": 3,
    "intermediate_size": 64,
    "num_heads": 2,
    "num_position_embeddings": 16,
    "patch_size": 4,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}


def delta_net(s: Sizes, *, grouped: bool) -> Shapes:
    """Gated delta rule. grouped (Qwen3-Next): the rows of q, k, v and z lie together for each key head."""
    key, value, heads = s.linear_key, s.linear_value, s.linear_value_heads
    inputs = (
        linear("in_proj_qkvz", 2 * key + 2 * value, s.hidden) | linear("in_proj_ba", 2 * heads, s.hidden)
        if grouped
        else linear("in_proj_qkv", 2 * key + value, s.hidden)
        | linear("in_proj_z", value, s.hidden)
        | linear("in_proj_b", heads, s.hidden)
        | linear("in_proj_a", heads, s.hidden)
    )
    return under(
        "linear_attn.",
        {"dt_bias": (heads,), "A_log": (heads,), "conv1d.weight": (2 * key + value, 1, s.conv_kernel)}
        | inputs
        | norms(s.linear_head_dim, "norm")
        | linear("out_proj", s.hidden, value),
    )


def layer(s: Sizes, i: int, *, moe: bool, grouped: bool = False) -> Shapes:
    full = i < 0 or s.layer_types[i] == "full_attention"
    mixer = attention(s, bias=False, qk_norm=True, gated=True) if full else delta_net(s, grouped=grouped)
    return block(mixer, with_shared_expert(s) if moe else swiglu(s.hidden, s.ffn), s.hidden)


def multi_token_prediction(s: Sizes, *, moe: bool) -> Shapes:
    if not s.nextn:
        return {}
    return under(
        "mtp.",
        linear("fc", s.hidden, 2 * s.hidden)
        | under("layers.0.", layer(s, -1, moe=moe))
        | norms(s.hidden, "norm", "pre_fc_norm_embedding", "pre_fc_norm_hidden"),
    )


def visual(s: Sizes) -> Shapes:
    """Some of the vision tower's tensors, of shapes that text models do not have."""
    size, patch = VISION["hidden_size"], VISION["patch_size"]
    return under(
        "model.visual.",
        {"patch_embed.proj.weight": (size, 3, 2, patch, patch), "patch_embed.proj.bias": (size,)}
        | linear("pos_embed", VISION["num_position_embeddings"], size)
        | norms(size, "blocks.0.norm1")
        | linear("blocks.0.attn.qkv", 3 * size, size, bias=True)
        | linear("merger.linear_fc2", s.hidden, 4 * size, bias=True),
    )


def next_tensors(s: Sizes) -> Shapes:
    trunk = decoder(s, lambda s, i: layer(s, i, moe=True, grouped=True))
    return trunk | multi_token_prediction(s, moe=True)


def flat_tensors(s: Sizes, *, moe: bool) -> Shapes:
    return decoder(s, lambda s, i: layer(s, i, moe=moe)) | multi_token_prediction(s, moe=moe)


def nested_tensors(s: Sizes, *, moe: bool) -> Shapes:
    trunk = decoder(s, lambda s, i: layer(s, i, moe=moe), "model.language_model.")
    return visual(s) | trunk | multi_token_prediction(s, moe=moe)


def with_vision(architecture: str, model_type: str) -> Any:
    """The outer config.json: few keys, the text model's config inside."""

    def whole(text: dict[str, Any], s: Sizes) -> dict[str, Any]:
        del text["architectures"]
        special = {f"{name}_token_id": f"<|{name}|>" for name in ("vision_start", "vision_end")}
        special |= {f"{name}_token_id": f"<|{name}_pad|>" for name in ("image", "video")}
        return {
            "architectures": [architecture],
            **special,
            "model_type": model_type,
            "text_config": text,
            "tie_word_embeddings": s.tied,
            "vision_config": {**VISION, "model_type": model_type, "out_hidden_size": s.hidden},
        }

    return whole


QWEN3NEXT = Family(
    tokens="qwen3",
    config=MOE_COMMON
    | {
        "architectures": ["Qwen3NextForCausalLM"],
        "model_type": "qwen3_next",
        "attention_bias": False,
        "full_attention_interval": 4,
        "norm_topk_prob": True,
        "rope_scaling": None,
    },
    rope={"rope_theta": 10000000.0, "partial_rotary_factor": 0.25},
    size_keys=MOE_SIZE_KEYS | LINEAR_SIZE_KEYS | {"shared_expert_intermediate_size": "shared_ffn"},
    sizes={"head_dim": 64, "tied": False},
    tensors=next_tensors,
    norm_middle=0,
    plain_norms=("linear_attn.norm.weight",),
)

QWEN35_COMMON = {
    "attention_bias": False,
    "attn_output_gate": True,
    "bos_token_id": "<|endoftext|>",
    "eos_token_id": "<|endoftext|>",
    "full_attention_interval": 4,
    "mamba_ssm_dtype": "float32",
    "max_position_embeddings": 4096,
    "mtp_use_dedicated_embeddings": False,
    "rms_norm_eps": 1e-06,
}
QWEN35 = Family(
    tokens="qwen35",
    config=COMMON | QWEN35_COMMON | {"architectures": ["Qwen3_5ForCausalLM"], "model_type": "qwen3_5_text"},
    rope={
        "rope_theta": 10000000.0,
        "partial_rotary_factor": 0.25,
        "mrope_interleaved": True,
        "mrope_section": [3, 3, 2],
    },
    rope_style="new",
    size_keys=SIZE_KEYS | LINEAR_SIZE_KEYS | {"layer_types": "layer_types", "mtp_num_hidden_layers": "nextn"},
    sizes={"head_dim": 64},
    tensors=lambda s: nested_tensors(s, moe=False),
    embedding="model.language_model.embed_tokens.weight",
    norm_middle=0,
    plain_norms=("linear_attn.norm.weight",),
    float32=("A_log", "linear_attn.norm.weight"),
    whole=with_vision("Qwen3_5ForConditionalGeneration", "qwen3_5"),
)
QWEN35_TEXT = replace(
    QWEN35,
    tensors=lambda s: flat_tensors(s, moe=False),
    sizes={"head_dim": 64, "nextn": 0},
    embedding="model.embed_tokens.weight",
    whole=None,
)

QWEN35MOE = replace(
    QWEN35,
    config=COMMON
    | QWEN35_COMMON
    | {
        "architectures": ["Qwen3_5MoeForCausalLM"],
        "model_type": "qwen3_5_moe_text",
        "output_router_logits": False,
        "router_aux_loss_coef": 0.001,
    },
    size_keys={key: size for key, size in (QWEN35.size_keys | MOE_SIZE_KEYS).items() if size != "ffn"}
    | {"shared_expert_intermediate_size": "shared_ffn"},
    sizes={"head_dim": 64, "tied": False},
    tensors=lambda s: nested_tensors(s, moe=True),
    experts="fused",
    whole=with_vision("Qwen3_5MoeForConditionalGeneration", "qwen3_5_moe"),
)
QWEN35MOE_TEXT = replace(
    QWEN35MOE,
    tensors=lambda s: flat_tensors(s, moe=True),
    sizes={"head_dim": 64, "nextn": 0, "tied": False},
    embedding="model.embed_tokens.weight",
    whole=None,
)
