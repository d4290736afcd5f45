"""Would llama.cpp trip over what a well-formed GGUF says?

Where llama.cpp meets nonsense it often throws, which becomes an ordinary error. This file is for the
places where it asserts, divides by zero or reads beyond an array instead, which ends the process.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from convert.gguf_file import GgufError, GgufFile

MAX_LAYERS = 512
MAX_EXPERTS = 1024
ROPE_SCALING = {"none", "linear", "yarn", "longrope"}
WHOLE_HEAD_ROPE = {"qwen", "qwen2", "qwen2moe", "qwen3", "qwen3moe"}
"""Architectures whose graph asserts that RoPE turns the whole head."""
OWN_VALUE_LENGTH = {"deepseek2"}
"""Architectures whose keys and values may differ in length (multi-head latent attention)."""
NO_WEIGHT = {"I8", "I16", "I32", "I64", "F64", "Q8_1", "Q8_K"}
"""Tensor types that no matrix product of llama.cpp takes as weights."""
TOKEN_IDS = ("bos", "eos", "eot", "eom", "unknown", "seperator", "padding", "mask")  # the key is spelt so


def check_sane(gguf: GgufFile) -> None:
    """Raise ``GgufError`` if loading or running this model would end the process."""
    try:
        _check_file(gguf)
        _check_layers(gguf.metadata)
        _check_experts(gguf.metadata)
        _check_heads(gguf.metadata)
        _check_vocabulary(gguf.metadata)
        _check_special_tokens(gguf.metadata)
        _check_tensors(gguf)
    except GgufError as e:
        raise GgufError(f"{gguf.path.name}: {e.message}", e.hint or "convert the model again") from None


def _check_file(gguf: GgufFile) -> None:
    arch = gguf.metadata.get("general.architecture")
    if not isinstance(arch, str) or not arch:
        raise GgufError("general.architecture is missing")
    parts = _number(gguf.metadata, "split.count", 0)
    if parts > 1:
        raise GgufError(f"one of {parts} parts of a model", "join them with llama-gguf-split --merge")


def _check_layers(md: dict[str, Any]) -> None:
    arch = md["general.architecture"]
    layers = _number(md, f"{arch}.block_count")
    if not 1 <= layers <= MAX_LAYERS:
        raise GgufError(f"{arch}.block_count is {layers}, 1 to {MAX_LAYERS} are possible")
    if _number(md, f"{arch}.nextn_predict_layers", 0) >= layers:
        raise GgufError(f"{arch}.nextn_predict_layers leaves no layer of {layers}")
    scaling = md.get(f"{arch}.rope.scaling.type", "linear")
    if not isinstance(scaling, str) or scaling not in ROPE_SCALING:
        raise GgufError(f"unknown {arch}.rope.scaling.type {str(scaling)!r}")
    for key in ("attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"):
        epsilon = md.get(f"{arch}.{key}", 0.0)
        if not isinstance(epsilon, float) or not 0 <= epsilon < 1:
            raise GgufError(f"{arch}.{key} is {epsilon!r}")


def _check_experts(md: dict[str, Any]) -> None:
    arch = md["general.architecture"]
    count = _number(md, f"{arch}.expert_count", 0)
    used = _numbers(md, f"{arch}.expert_used_count", 0)
    groups = _number(md, f"{arch}.expert_group_count", 0)
    groups_used = _number(md, f"{arch}.expert_group_used_count", 0)
    sound = count <= MAX_EXPERTS and max(used) <= count and (max(used) > 0) == (count > 0)
    if groups > 1:
        sound &= groups < count and count % groups == 0 and 0 < groups_used < groups
    elif count == 0:
        sound &= groups == 0
    else:
        sound &= groups < count
    if not sound:
        raise GgufError(f"impossible experts: {count}, used {max(used)}, groups {groups}, groups used {groups_used}")


def _check_heads(md: dict[str, Any]) -> None:
    arch = md["general.architecture"]
    width = _number(md, f"{arch}.embedding_length")
    heads = _numbers(md, f"{arch}.attention.head_count")
    kv_heads = _numbers(md, f"{arch}.attention.head_count_kv", heads)
    if width < 1 or min(heads) < 1:
        raise GgufError(f"{arch} with width {width} and {min(heads)} attention heads")
    # A layer without KV heads is one of linear attention.
    if any(kv and head % kv for head, kv in zip(_spread(heads, kv_heads), kv_heads, strict=False)):
        raise GgufError(f"{arch}: {heads} attention heads cannot share {kv_heads} KV heads")
    key = _number(md, f"{arch}.attention.key_length", width // heads[0])
    value = _number(md, f"{arch}.attention.value_length", width // heads[0])
    rope = _number(md, f"{arch}.rope.dimension_count", key)
    if not key or not value or not rope or rope % 2 or rope > key:  # over 0 dimensions the first step never ends
        raise GgufError(f"{arch}: keys of {key}, values of {value}, RoPE over {rope} dimensions")
    if key != value and arch not in OWN_VALUE_LENGTH:
        raise GgufError(f"{arch}: keys of {key} dimensions and values of {value}")
    if rope != key and arch in WHOLE_HEAD_ROPE:
        raise GgufError(f"{arch}: RoPE over {rope} of {key} dimensions")


def _check_vocabulary(md: dict[str, Any]) -> None:
    tokens = md.get("tokenizer.ggml.tokens")
    kind = md.get("tokenizer.ggml.model")
    if not isinstance(tokens, list) or not isinstance(kind, str) or kind in ("none", "no_vocab") or not tokens:
        raise GgufError("no vocabulary in the file")
    texts = {text or f"[EMPTY_{i}]" for i, text in enumerate(tokens)}  # llama.cpp names empty ones so
    if len(texts) != len(tokens):
        raise GgufError(f"{len(tokens) - len(texts)} tokens occur twice in the vocabulary")
    for key, dtypes in {"token_type": ("int32",), "scores": ("float32", "int32")}.items():
        array = md.get(f"tokenizer.ggml.{key}")
        if array is None:
            continue
        if not isinstance(array, np.ndarray) or array.dtype.name not in dtypes or len(array) != len(tokens):
            raise GgufError(f"tokenizer.ggml.{key} does not match the {len(tokens)} tokens")
    merges = md.get("tokenizer.ggml.merges", [])
    if not isinstance(merges, list) or (kind == "gpt2" and not merges):
        raise GgufError("no merges in the file")
    if kind == "llama":
        missing = [b for b in range(256) if f"<0x{b:02X}>" not in texts and chr(b) not in texts]
        if missing:
            raise GgufError(f"the vocabulary has no token for byte {missing[0]}")


def _check_special_tokens(md: dict[str, Any]) -> None:
    n_tokens = len(md["tokenizer.ggml.tokens"])
    for name in TOKEN_IDS:
        key = f"tokenizer.ggml.{name}_token_id"
        if key in md and _number(md, key) >= n_tokens:
            raise GgufError(f"{key} is {md[key]}, the vocabulary has {n_tokens}")
    for name in ("bos", "eos"):
        adds = md.get(f"tokenizer.ggml.add_{name}_token", False)
        if not isinstance(adds, bool):
            raise GgufError(f"tokenizer.ggml.add_{name}_token is not true or false")
        if adds and f"tokenizer.ggml.{name}_token_id" not in md:
            raise GgufError(f"tokenizer.ggml.add_{name}_token without {name}_token_id")


def _check_tensors(gguf: GgufFile) -> None:
    for tensor in gguf.tensors:
        if tensor.type in NO_WEIGHT:
            raise GgufError(f"tensor {tensor.name!r} of type {tensor.type} cannot be computed with")
        # Additions and products with a vector exist in F32 only.
        if math.prod(tensor.shape[1:]) == 1 and tensor.type != "F32":
            raise GgufError(f"vector {tensor.name!r} is {tensor.type}, must be F32")


def _number(md: dict[str, Any], key: str, default: int | None = None) -> int:
    """A count: missing without default, negative or not whole is an error."""
    value = md.get(key, default)
    if value is None:
        raise GgufError(f"{key} is missing")
    if type(value) is not int or not 0 <= value < 2**31:
        raise GgufError(f"{key} is {str(value)[:40]}, not a count")
    return value


def _numbers(md: dict[str, Any], key: str, default: int | list[int] | None = None) -> list[int]:
    """A count for all layers, or one for each."""
    value = md.get(key, default)
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list) and value and all(type(v) is int and 0 <= v < 2**31 for v in value):
        return value
    return [_number({} if value is None else {key: value}, key)]


def _spread(values: list[int], over: list[int]) -> list[int]:
    return values * len(over) if len(values) == 1 else values
