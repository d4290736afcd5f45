"""Qwen3.5 and 3.6 text models, dense (0.8B to 27B) and with experts, and fine-tunes.

A checkpoint that also sees images is converted without its vision part.
"""

from __future__ import annotations

from dataclasses import replace

from convert.architecture import Architecture, TensorRule
from convert.architectures import linear_attention as linear
from convert.architectures.blocks import (
    BLOCK,
    DENSE,
    EXPERTS,
    FUSED_NAMES,
    LAYER,
    NEXTN_MARK,
    QWEN_END,
    ROUTER,
    SHARED_EXPERT,
    at,
    expert_metadata,
    nextn_metadata,
)
from convert.architectures.rules import EXPERTS_IN_ALL_LAYERS
from convert.honoured import Honoured, is_neutral
from convert.hparams import HParams, common_metadata
from convert.metadata import KV
from convert.ops import (
    Pick,
    in_order,
    keys_then_tiled_heads,
    minus_exp,
    tile_columns,
    tile_elements,
    tiled_heads,
    tiled_single_rows,
)
from convert.rope import rope_sections

SECTIONS = [11, 11, 10, 0]  # what transformers rotates by when the config does not say


def in_projection(name: str, target: str, shape: str, pick: Pick) -> TensorRule:
    return TensorRule(f"{LAYER}linear_attn.in_proj_{name}.weight", BLOCK + target, shape, pick=pick)


PROJECTIONS = at(
    linear.linear_layers,
    in_projection("qkv", "attn_qkv.weight", "qkv hidden", keys_then_tiled_heads),
    in_projection("z", "attn_gate.weight", "values hidden", tiled_heads),
    in_projection("a", "ssm_alpha.weight", "v_heads hidden", tiled_single_rows),
    in_projection("b", "ssm_beta.weight", "v_heads hidden", tiled_single_rows),
)
TILED = {
    "conv1d.weight": {"pick": keys_then_tiled_heads},
    "dt_bias": {"change": tile_elements},
    "A_log": {"change": in_order(minus_exp, tile_elements)},
    "norm.weight": {},
    "out_proj.weight": {"change": tile_columns},
}
LINEAR_ATTENTION = tuple(
    replace(rule, **TILED[rule.source.removeprefix(LAYER + "linear_attn.")]) for rule in linear.LINEAR_ATTENTION
)


def common(arch: str, hparams: HParams) -> list[KV]:
    return common_metadata(arch, hparams, sections=True)


def dense_metadata(hparams: HParams) -> list[KV]:
    return metadata("qwen35", hparams)


def moe_metadata(hparams: HParams) -> list[KV]:
    return [*expert_metadata("qwen35moe", hparams), *metadata("qwen35moe", hparams)]


def metadata(arch: str, hparams: HParams) -> list[KV]:
    keys = [*nextn_metadata(arch, hparams), *linear.metadata(arch, hparams)]
    if not rope_sections(hparams):
        keys.append(KV(f"{arch}.rope.dimension_sections", "[i32]", SECTIONS))
    return keys


QWEN3_5 = Architecture(
    hf_names=("Qwen3_5ForConditionalGeneration", "Qwen3_5ForCausalLM"),
    name="qwen35",
    defaults={**linear.DEFAULTS, "vocab_size": 248320, "num_key_value_heads": 4},
    dims=linear.dims,
    special_tokens=QWEN_END,
    derived=linear.derived,
    sizes=linear.SIZES,
    renames=((r"^(model\.)?language_model\.(model\.)?", "model."), *linear.NEXTN_NAMES),
    left_out=(r"(model\.)?visual\.",),
    nextn=NEXTN_MARK,
    tensors=(
        *linear.ENDS,
        *linear.NORMS,
        *linear.FULL_ATTENTION,
        *LINEAR_ATTENTION,
        *PROJECTIONS,
        *DENSE,
        *linear.NEXTN,
    ),
    honoured=(
        *linear.HONOURED,
        Honoured("text_config", lambda v, _: isinstance(v, dict), "it must be an object"),
        Honoured("vision_config", lambda v, _: isinstance(v, dict), "it must be an object"),
        Honoured("mtp_use_dedicated_embeddings", is_neutral, "llama.cpp has no place for its own embedding"),
    ),
    common=common,
    metadata=dense_metadata,
)
QWEN3_5_MOE = replace(
    QWEN3_5,
    hf_names=("Qwen3_5MoeForConditionalGeneration", "Qwen3_5MoeForCausalLM"),
    name="qwen35moe",
    aliases={"num_local_experts": "num_experts"},
    defaults={
        **linear.DEFAULTS,
        "vocab_size": 248320,
        "num_key_value_heads": 2,
        "moe_intermediate_size": 512,
        "shared_expert_intermediate_size": 512,
        "num_experts": 256,
        "num_experts_per_tok": 8,
    },
    sizes=(
        *linear.SIZES,
        "num_experts",
        "num_experts_per_tok",
        "moe_intermediate_size",
        "shared_expert_intermediate_size",
    ),
    renames=(*FUSED_NAMES, *QWEN3_5.renames),
    tensors=(
        *linear.ENDS,
        *linear.NORMS,
        *linear.FULL_ATTENTION,
        *LINEAR_ATTENTION,
        *PROJECTIONS,
        *ROUTER,
        *EXPERTS,
        *SHARED_EXPERT,
        *linear.NEXTN,
    ),
    honoured=(*QWEN3_5.honoured, *EXPERTS_IN_ALL_LAYERS),
    metadata=moe_metadata,
)
