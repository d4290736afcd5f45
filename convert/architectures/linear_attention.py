"""Layers of linear attention (gated delta net) among full ones: what Qwen3-Next and Qwen3.5 share."""

from __future__ import annotations

from dataclasses import replace

from convert.architecture import TensorRule
from convert.architectures import blocks
from convert.architectures.blocks import BLOCK, LAYER, at, find_fused, layer, next_layers
from convert.architectures.rules import NO_BIAS
from convert.honoured import Honoured, is_true
from convert.hparams import HParams
from convert.metadata import KV
from convert.ops import minus_exp, plus_one
from convert.rope import rotated

DEFAULTS = {
    "hidden_act": "silu",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "partial_rotary_factor": 0.25,
    "head_dim": 256,
    "tie_word_embeddings": False,
    "full_attention_interval": 4,
    "linear_conv_kernel_dim": 4,
    "linear_key_head_dim": 128,
    "linear_value_head_dim": 128,
    "linear_num_key_heads": 16,
    "linear_num_value_heads": 32,
}
SIZES = (
    "head_dim",
    "full_attention_interval",
    "linear_conv_kernel_dim",
    "linear_key_head_dim",
    "linear_value_head_dim",
    "linear_num_key_heads",
    "linear_num_value_heads",
)
HONOURED = (
    NO_BIAS,
    Honoured("layer_types", lambda v, h: known_layers(v, h), "llama.cpp needs layers of full and of linear attention"),
    Honoured("linear_conv_kernel_dim", lambda v, _: v > 1, "llama.cpp needs a convolution over several tokens"),
    # Where transformers normalises queries and keys by 1e-6, llama.cpp takes this key.
    Honoured("rms_norm_eps", lambda v, _: v == 1e-6, "llama.cpp would use it where transformers has a fixed 1e-6"),
    Honoured(
        "linear_value_head_dim",
        lambda v, h: v == h["linear_key_head_dim"],
        "llama.cpp needs linear_key_head_dim and linear_value_head_dim to be equal",
    ),
    Honoured(
        "linear_num_value_heads",
        lambda v, h: v % h["linear_num_key_heads"] == 0,
        "the value heads must be shared evenly by the key heads",
    ),
    Honoured("attn_output_gate", is_true, "llama.cpp always computes the output gate"),
)
# The names of the layer that predicts further tokens, as if it were one more layer of the model.
NEXTN_NAMES = (
    (r"^model\.mtp\.", "mtp."),
    (r"^mtp\.layers\.0\.", "model.layers.{next}."),
    (r"^mtp\.fc\.", "model.layers.{next}.eh_proj."),
    (r"^mtp\.pre_fc_norm_embedding\.", "model.layers.{next}.enorm."),
    (r"^mtp\.pre_fc_norm_hidden\.", "model.layers.{next}.hnorm."),
    (r"^mtp\.norm\.", "model.layers.{next}.shared_head.norm."),
)


def known_layers(kinds: object, hparams: HParams) -> bool:
    known = {"full_attention", "linear_attention"}
    return isinstance(kinds, list) and len(kinds) == hparams["num_hidden_layers"] and set(map(str, kinds)) == known


def find_layer_types(hparams: HParams) -> HParams:
    """Without a list, every fourth layer (or as ``full_attention_interval`` says) has full attention."""
    interval = hparams["full_attention_interval"]
    if hparams.get("layer_types") is not None or type(interval) is not int or interval < 1:
        return {}
    full = [(i + 1) % interval == 0 for i in range(hparams["num_hidden_layers"])]
    return {"layer_types": ["full_attention" if i else "linear_attention" for i in full]}


def derived(hparams: HParams, names: frozenset[str]) -> HParams:
    return {**find_layer_types(hparams), **find_fused(hparams, names)}


def linear_layers(hparams: HParams) -> list[int]:
    return [i for i, kind in enumerate(hparams["layer_types"]) if kind == "linear_attention"]


def full_layers(hparams: HParams) -> list[int]:
    own = [i for i, kind in enumerate(hparams["layer_types"]) if kind == "full_attention"]
    return [*own, *next_layers(hparams)]


def dims(hparams: HParams) -> dict[str, int]:
    keys, values = hparams["linear_num_key_heads"], hparams["linear_num_value_heads"]
    k_dim, v_dim = hparams["linear_key_head_dim"], hparams["linear_value_head_dim"]
    sizes = blocks.dims(hparams)
    return sizes | {
        "q_and_gate": 2 * sizes["q"],
        "k_heads": keys,
        "v_heads": values,
        "k_dim": k_dim,
        "v_dim": v_dim,
        "values": values * v_dim,
        "qkv": 2 * keys * k_dim + values * v_dim,
        "qkvz": 2 * keys * k_dim + 2 * values * v_dim,
        "two_v_heads": 2 * values,
        "kernel": hparams["linear_conv_kernel_dim"],
    }


def metadata(arch: str, hparams: HParams) -> list[KV]:
    """Keys of linear attention, then what share of each head is rotated."""
    recurrent = [kind == "linear_attention" for kind in hparams["layer_types"]]
    recurrent += [False] * len(next_layers(hparams))
    values = hparams["linear_num_value_heads"]
    return [
        KV(f"{arch}.ssm.conv_kernel", "u32", hparams["linear_conv_kernel_dim"]),
        KV(f"{arch}.ssm.state_size", "u32", hparams["linear_key_head_dim"]),
        KV(f"{arch}.ssm.group_count", "u32", hparams["linear_num_key_heads"]),
        KV(f"{arch}.ssm.time_step_rank", "u32", values),
        KV(f"{arch}.ssm.inner_size", "u32", hparams["linear_value_head_dim"] * values),
        KV(f"{arch}.attention.recurrent_layers", "[bool]", recurrent),
        KV(f"{arch}.full_attention_interval", "u32", hparams["full_attention_interval"]),
        KV(f"{arch}.rope.dimension_count", "u32", rotated(hparams)),
    ]


def plus_ones(*rules: TensorRule) -> tuple[TensorRule, ...]:
    """These norms are stored around zero."""
    return tuple(replace(rule, change=plus_one) if rule.source.endswith("norm.weight") else rule for rule in rules)


ENDS = plus_ones(*blocks.ENDS)
NORMS = plus_ones(
    *layer(
        ("input_layernorm.weight", "attn_norm.weight", "hidden"),
        ("post_attention_layernorm.weight", "post_attention_norm.weight", "hidden"),
    )
)
FULL_ATTENTION = at(
    full_layers,
    *layer(
        ("self_attn.q_proj.weight", "attn_q.weight", "q_and_gate hidden"),
        ("self_attn.k_proj.weight", "attn_k.weight", "kv hidden"),
        ("self_attn.v_proj.weight", "attn_v.weight", "kv hidden"),
        ("self_attn.o_proj.weight", "attn_output.weight", "hidden q"),
    ),
    *plus_ones(*blocks.QK_NORM),
)
LINEAR_ATTENTION = at(
    linear_layers,
    TensorRule(LAYER + "linear_attn.conv1d.weight", BLOCK + "ssm_conv1d.weight", "qkv one kernel", out="qkv kernel"),
    TensorRule(LAYER + "linear_attn.dt_bias", BLOCK + "ssm_dt.bias", "v_heads"),
    TensorRule(LAYER + "linear_attn.A_log", BLOCK + "ssm_a", "v_heads", change=minus_exp),
    TensorRule(LAYER + "linear_attn.norm.weight", BLOCK + "ssm_norm.weight", "v_dim"),
    TensorRule(LAYER + "linear_attn.out_proj.weight", BLOCK + "ssm_out.weight", "hidden values"),
)
NEXTN = plus_ones(*blocks.NEXTN)
