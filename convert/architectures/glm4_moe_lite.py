"""GLM-4.7-Flash and fine-tunes: ``Glm4MoeLiteForCausalLM``, computed by llama.cpp's ``deepseek2``.

Latent attention: keys and values are expanded from one small vector. llama.cpp keeps the two expansions apart, the
keys' transposed, and attends in the small space with a single key-value head.
"""

from __future__ import annotations

from convert.architecture import Architecture, TensorRule
from convert.architectures import blocks
from convert.architectures.blocks import (
    BLOCK,
    DENSE,
    ENDS,
    LAYER,
    NEXTN,
    NEXTN_MARK,
    TWO_NORMS,
    at,
    layer,
    nextn_metadata,
)
from convert.architectures.glm4_moe import (
    EXPERT_RULES,
    EXPERT_SIZES,
    MIXTURE,
    SIGMOID,
    SPECIAL_TOKENS,
    dense_layers,
    expert_groups,
)
from convert.architectures.rules import NO_BIAS, WHOLE_HEADS
from convert.errors import CheckpointError, UnsupportedError
from convert.honoured import Honoured, is_true
from convert.hparams import HParams, common_metadata, layer_count, number
from convert.metadata import KV
from convert.ops import key_part, value_part
from convert.rope import rope_parameters


def dims(hparams: HParams) -> dict[str, int]:
    heads, nope, rope = (hparams[key] for key in ("num_attention_heads", "qk_nope_head_dim", "qk_rope_head_dim"))
    v_head, kv_rank = hparams["v_head_dim"], hparams["kv_lora_rank"]
    return blocks.dims(hparams) | {
        "shared": hparams["moe_intermediate_size"] * hparams["n_shared_experts"],
        "heads": heads,
        "nope": nope,
        "v_head": v_head,
        "q_rank": hparams["q_lora_rank"],
        "kv_rank": kv_rank,
        "kv_rank_and_rope": kv_rank + rope,
        "q": heads * (nope + rope),
        "kv_b": heads * (nope + v_head),
        "values": heads * v_head,
    }


def derived(hparams: HParams, names: frozenset[str]) -> HParams:
    """How many dense layers lead; and that llama.cpp sees a single key-value head."""
    if hparams["num_key_value_heads"] != hparams["num_attention_heads"]:
        raise CheckpointError("config.json: num_key_value_heads is not num_attention_heads, as latent attention has it")
    kinds = hparams.get("mlp_layer_types")
    if isinstance(kinds, list) and "sparse" in kinds:
        dense = kinds.index("sparse")
    else:
        dense = layer_count({"first_k_dense_replace": 1, **hparams}, "first_k_dense_replace")
    return {
        "first_k_dense_replace": dense,
        "moe_layers": range(dense, hparams["block_count"]),
        "num_key_value_heads": 1,
        **expert_groups(hparams),
    }


def common(arch: str, hparams: HParams) -> list[KV]:
    """Without lengths of keys and values: those of this attention follow.

    Raises UnsupportedError where rotation is scaled: llama.cpp would scale this attention by it as well.
    """
    if (kind := rope_parameters(hparams)["rope_type"]) != "default":
        raise UnsupportedError(f"config.json has rope_type = {str(kind)[:40]!r}; llama.cpp computes only default")
    return common_metadata(arch, {**hparams, "head_dim": None})


def metadata(hparams: HParams) -> list[KV]:
    kv_rank, rope = hparams["kv_lora_rank"], hparams["qk_rope_head_dim"]
    return [
        KV("deepseek2.leading_dense_block_count", "u32", hparams["first_k_dense_replace"]),
        KV("deepseek2.vocab_size", "u32", hparams["vocab_size"]),
        KV("deepseek2.attention.q_lora_rank", "u32", hparams["q_lora_rank"]),
        KV("deepseek2.attention.kv_lora_rank", "u32", kv_rank),
        KV("deepseek2.attention.key_length", "u32", kv_rank + rope),
        KV("deepseek2.attention.value_length", "u32", kv_rank),
        KV("deepseek2.attention.key_length_mla", "u32", hparams["qk_nope_head_dim"] + rope),
        KV("deepseek2.attention.value_length_mla", "u32", hparams["v_head_dim"]),
        KV("deepseek2.expert_feed_forward_length", "u32", hparams["moe_intermediate_size"]),
        KV("deepseek2.expert_shared_count", "u32", hparams["n_shared_experts"]),
        KV("deepseek2.expert_weights_scale", "f32", number(hparams, "routed_scaling_factor")),
        *([KV("deepseek2.expert_weights_norm", "bool", True)] if hparams["norm_topk_prob"] else []),
        KV("deepseek2.expert_gating_func", "u32", SIGMOID),
        KV("deepseek2.rope.dimension_count", "u32", rope),
        *nextn_metadata("deepseek2", hparams),
    ]


KV_B = LAYER + "self_attn.kv_b_proj.weight"
LATENT_ATTENTION = (
    *layer(
        ("self_attn.q_a_proj.weight", "attn_q_a.weight", "q_rank hidden"),
        ("self_attn.q_a_layernorm.weight", "attn_q_a_norm.weight", "q_rank"),
        ("self_attn.q_b_proj.weight", "attn_q_b.weight", "q q_rank"),
        ("self_attn.kv_a_proj_with_mqa.weight", "attn_kv_a_mqa.weight", "kv_rank_and_rope hidden"),
        ("self_attn.kv_a_layernorm.weight", "attn_kv_a_norm.weight", "kv_rank"),
        ("self_attn.o_proj.weight", "attn_output.weight", "hidden values"),
    ),
    TensorRule(
        KV_B, BLOCK + "attn_k_b.weight", "kv_b kv_rank", out="heads kv_rank nope", pick=key_part, transposed=True
    ),
    TensorRule(KV_B, BLOCK + "attn_v_b.weight", "kv_b kv_rank", out="heads v_head kv_rank", pick=value_part),
)

GLM4_MOE_LITE = Architecture(
    hf_names=("Glm4MoeLiteForCausalLM",),
    name="deepseek2",
    aliases={
        "n_routed_experts": "num_experts",
        "num_local_experts": "num_experts",
        "qk_rope_head_dim": "head_dim",  # the part of a head that is rotated
    },
    defaults={
        "vocab_size": 154880,
        "hidden_size": 2048,
        "intermediate_size": 10240,
        "num_hidden_layers": 47,
        "num_attention_heads": 20,
        "num_key_value_heads": 20,
        "q_lora_rank": 768,
        "kv_lora_rank": 512,
        "qk_nope_head_dim": 192,
        "qk_rope_head_dim": 64,
        "head_dim": 64,
        "v_head_dim": 256,
        "hidden_act": "silu",
        "max_position_embeddings": 202752,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "attention_bias": False,
        "moe_intermediate_size": 1536,
        "num_experts": 64,
        "num_experts_per_tok": 4,
        "n_shared_experts": 1,
        "n_group": 1,
        "topk_group": 1,
        "routed_scaling_factor": 1.8,
        "norm_topk_prob": True,
        "rope_interleave": True,
    },
    dims=dims,
    derived=derived,
    sizes=(
        *EXPERT_SIZES,
        "q_lora_rank",
        "kv_lora_rank",
        "qk_nope_head_dim",
        "qk_rope_head_dim",
        "v_head_dim",
    ),
    nextn=NEXTN_MARK,
    tensors=(*ENDS, *TWO_NORMS, *LATENT_ATTENTION, *at(dense_layers, *DENSE), *MIXTURE, *NEXTN),
    honoured=(
        NO_BIAS,
        WHOLE_HEADS,
        Honoured(
            "num_hidden_layers",
            lambda v, h: v not in (26, 27) and (v, h["vocab_size"]) != (48, 128256),
            "llama.cpp takes a model of so many layers for another one",
        ),
        # llama.cpp uses it for the latent vectors' norms too, where transformers has 1e-6
        Honoured("rms_norm_eps", lambda v, _: v <= 1e-5, "llama.cpp would blur the latent attention"),
        Honoured("rope_interleave", is_true, "llama.cpp rotates interleaved pairs"),
        Honoured(
            "mlp_layer_types",
            lambda v, h: (
                v == ["dense"] * h["first_k_dense_replace"] + ["sparse"] * (len(v) - h["first_k_dense_replace"])
            ),
            "llama.cpp has dense layers only before those with experts",
        ),
        *EXPERT_RULES,
    ),
    common=common,
    metadata=metadata,
    special_tokens=SPECIAL_TOKENS,
)
