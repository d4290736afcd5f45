"""config.json as one flat table of checked values, and the keys every family has."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from convert.errors import CheckpointError, UnsupportedError
from convert.metadata import KV, is_number
from convert.rope import nested_rope, rope_metadata

HParams = Mapping[str, Any]

MAX_LAYERS = 512  # llama.cpp's own limit (LLAMA_MAX_LAYERS)
MAX_EXPERTS = 1024  # llama.cpp's own limit (LLAMA_MAX_EXPERTS)
OPTIONAL_SIZES = ("num_key_value_heads", "head_dim", "num_experts")
SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    *OPTIONAL_SIZES,
)


def read_hparams(config: HParams, aliases: Mapping[str, str], defaults: HParams) -> dict[str, Any]:
    """The config with its text part on top, in the family's standard words, and transformers' defaults.

    Raises CheckpointError when the number of layers is no sane number.
    """
    text = config.get("text_config")
    flat = dict(config)
    if isinstance(text, dict):
        flat |= text
        flat["tie_word_embeddings"] = text.get("tie_word_embeddings") or config.get("tie_word_embeddings", False)
    rope = nested_rope(flat)
    if isinstance(rope, dict) and rope.get("partial_rotary_factor") is not None:
        flat["partial_rotary_factor"] = rope["partial_rotary_factor"]
    for alias, key in aliases.items():
        if flat.get(alias) is not None:
            flat[key] = flat[alias]
    hparams = {**defaults, **flat}
    for key, value in defaults.items():
        if isinstance(value, bool) and hparams[key] is None:
            raise CheckpointError(f"config.json: {key} is null, neither true nor false")
    check_size("num_hidden_layers", hparams.get("num_hidden_layers"))
    return hparams


def kv_heads(hparams: HParams) -> int:
    return hparams.get("num_key_value_heads") or hparams["num_attention_heads"]


def head_dim(hparams: HParams) -> int:
    return hparams.get("head_dim") or hparams["hidden_size"] // hparams["num_attention_heads"]


def layer_count(hparams: HParams, key: str) -> int:
    """A number of layers or the like, nought or more. Raises CheckpointError for anything else."""
    value = hparams.get(key)
    if type(value) is not int or not 0 <= value <= MAX_LAYERS:
        raise CheckpointError(f"config.json: {key} is {str(value)[:40]!r}, not a count")
    return value


def number(hparams: HParams, key: str) -> float:
    """Raises CheckpointError for anything but a finite number."""
    value: Any = hparams.get(key)
    if not is_number(value):
        raise CheckpointError(f"config.json: {key} is {str(value)[:40]!r}, not a number")
    return value


def check_size(key: str, value: Any) -> None:
    """Raises CheckpointError for anything but a positive number that fits 32 bits."""
    if type(value) is not int or not 0 < value < 2**31:
        raise CheckpointError(f"config.json: {key} is {str(value)[:40]!r}, not a positive number")


def check_sizes(hparams: HParams, more: tuple[str, ...] = (), words: Mapping[str, str] = MappingProxyType({})) -> None:
    """The config values that shapes are made of must be sane integers. ``words``: what this config calls a key."""
    for key in (*SIZES, *more):
        value = hparams.get(key)
        optional = key in OPTIONAL_SIZES or (key == "intermediate_size" and hparams.get("num_experts"))
        if optional and key not in more and (value is None or (value == 0 and key == "num_experts")):
            continue
        check_size(words.get(key, key), value)
    if hparams["block_count"] > MAX_LAYERS:
        raise UnsupportedError(f"num_hidden_layers = {hparams['num_hidden_layers']}; llama.cpp stops at {MAX_LAYERS}")
    if (hparams.get("num_experts") or 0) > MAX_EXPERTS:
        raise UnsupportedError(f"the model has {hparams['num_experts']} experts; llama.cpp stops at {MAX_EXPERTS}")
    heads = hparams["num_attention_heads"]
    if heads % kv_heads(hparams):
        raise CheckpointError(f"config.json: {heads} heads cannot share {kv_heads(hparams)} key-value heads")
    if hparams.get("head_dim") is None and hparams["hidden_size"] % heads:
        raise CheckpointError(f"config.json: hidden_size {hparams['hidden_size']} is no multiple of {heads} heads")
    if head_dim(hparams) % 2:
        raise UnsupportedError(f"config.json implies heads of {head_dim(hparams)}; rotary position needs an even size")
    eps = hparams.get("rms_norm_eps")
    if not isinstance(eps, float) or not 0 < eps < 1:
        name = words.get("rms_norm_eps", "rms_norm_eps")
        raise CheckpointError(f"config.json: {name} is {str(eps)[:40]!r}, not a small positive number")


def common_metadata(arch: str, hparams: HParams, *, sections: bool = False) -> list[KV]:
    """The hyperparameters that every family has, in the order llama.cpp's converter writes them.

    ``sections``: the rotated pairs of a head may follow time, height and width of an image.
    """
    experts = (
        ("expert_count", "num_experts"),
        ("expert_used_count", "num_experts_per_tok"),
        ("expert_group_count", "n_group"),
        ("expert_group_used_count", "topk_group"),
    )
    lengths = (("attention.key_length", "head_dim"), ("attention.value_length", "head_dim"))
    optional = (*(experts if hparams.get("num_experts") else ()), *lengths)
    feed_forward = hparams.get("intermediate_size")
    shared = [KV(f"{arch}.attention.head_count_kv", "u32", kv_heads(hparams))]
    return [
        KV(f"{arch}.block_count", "u32", hparams["block_count"]),
        KV(f"{arch}.context_length", "u32", hparams["max_position_embeddings"]),
        KV(f"{arch}.embedding_length", "u32", hparams["hidden_size"]),
        *([KV(f"{arch}.feed_forward_length", "u32", feed_forward)] if feed_forward else []),
        KV(f"{arch}.attention.head_count", "u32", hparams["num_attention_heads"]),
        *(shared if "num_key_value_heads" in hparams else []),
        *rope_metadata(arch, hparams, sections=sections),
        KV(f"{arch}.attention.layer_norm_rms_epsilon", "f32", hparams["rms_norm_eps"]),
        *(KV(f"{arch}.{target}", "u32", hparams[key]) for target, key in optional if hparams.get(key) is not None),
    ]
