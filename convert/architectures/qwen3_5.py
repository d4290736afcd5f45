"""Qwen3.5 and 3.6 text models (0.8B to 27B) and fine-tunes: ``Qwen3_5ForConditionalGeneration``.

A checkpoint that also sees images is converted without its vision part.
"""

from __future__ import annotations

from dataclasses import replace

from convert.architecture import Architecture, TensorRule
from convert.architectures import linear_attention as linear
from convert.architectures.blocks import (
    BLOCK,
    DENSE,
    LAYER,
    NEXTN_MARK,
    QWEN_END,
    at,
    nextn_metadata,
)
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
