"""GLM-4.7-Flash and fine-tunes: ``Glm4MoeLiteForCausalLM``, computed by llama.cpp's ``deepseek2``."""

from __future__ import annotations

from convert.architecture import Architecture
from convert.architectures import glm_experts
from convert.architectures import latent_attention as latent
from convert.architectures.blocks import DENSE, ENDS, NEXTN, NEXTN_MARK, TWO_NORMS, at, nextn_metadata
from convert.architectures.rules import NO_BIAS
from convert.errors import CheckpointError
from convert.honoured import Honoured
from convert.hparams import HParams, layer_count, number
from convert.metadata import KV


def dims(hparams: HParams) -> dict[str, int]:
    return latent.dims(hparams) | {"shared": hparams["moe_intermediate_size"] * hparams["n_shared_experts"]}


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
        **glm_experts.expert_groups(hparams),
    }


def metadata(hparams: HParams) -> list[KV]:
    return [
        KV("deepseek2.leading_dense_block_count", "u32", hparams["first_k_dense_replace"]),
        KV("deepseek2.vocab_size", "u32", hparams["vocab_size"]),
        *latent.metadata("deepseek2", hparams),
        KV("deepseek2.expert_feed_forward_length", "u32", hparams["moe_intermediate_size"]),
        KV("deepseek2.expert_shared_count", "u32", hparams["n_shared_experts"]),
        KV("deepseek2.expert_weights_scale", "f32", number(hparams, "routed_scaling_factor")),
        *([KV("deepseek2.expert_weights_norm", "bool", True)] if hparams["norm_topk_prob"] else []),
        KV("deepseek2.expert_gating_func", "u32", glm_experts.SIGMOID),
        KV("deepseek2.rope.dimension_count", "u32", hparams["qk_rope_head_dim"]),
        *nextn_metadata("deepseek2", hparams),
    ]


GLM4_MOE_LITE = Architecture(
    hf_names=("Glm4MoeLiteForCausalLM",),
    name="deepseek2",
    aliases={**glm_experts.WORDS, **latent.WORDS},
    defaults={
        "vocab_size": 154880,
        "hidden_size": 2048,
        "intermediate_size": 10240,
        "num_hidden_layers": 47,
        "num_attention_heads": 20,
        "num_key_value_heads": 20,
        **latent.DEFAULTS,
        "hidden_act": "silu",
        "max_position_embeddings": 202752,
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "attention_bias": False,
        **glm_experts.DEFAULTS,
        "moe_intermediate_size": 1536,
        "num_experts": 64,
        "num_experts_per_tok": 4,
        "routed_scaling_factor": 1.8,
    },
    dims=dims,
    derived=derived,
    sizes=(*glm_experts.SIZES, *latent.SIZES),
    nextn=NEXTN_MARK,
    tensors=(*ENDS, *TWO_NORMS, *latent.ATTENTION, *at(glm_experts.dense_layers, *DENSE), *glm_experts.TENSORS, *NEXTN),
    honoured=(
        NO_BIAS,
        *latent.RULES,
        Honoured(
            "num_hidden_layers",
            lambda v, h: v not in (26, 27) and (v, h["vocab_size"]) != (48, 128256),
            "llama.cpp takes a model of so many layers for another one",
        ),
        Honoured(
            "mlp_layer_types",
            lambda v, h: (
                v == ["dense"] * h["first_k_dense_replace"] + ["sparse"] * (len(v) - h["first_k_dense_replace"])
            ),
            "llama.cpp has dense layers only before those with experts",
        ),
        *glm_experts.RULES,
    ),
    common=latent.common,
    metadata=metadata,
    special_tokens=glm_experts.SPECIAL_TOKENS,
)
