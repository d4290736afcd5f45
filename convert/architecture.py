"""What a model family is, as data; and ``plan()``: config + tensor names -> what to write. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from convert.checkpoint import Checkpoint, StoredTensor
from convert.errors import CheckpointError, UnsupportedError
from convert.honoured import COMMON, Honoured, refuse_unhonoured
from convert.levels import ModelFacts
from convert.metadata import KV
from convert.rope import rope_metadata

MAX_LAYERS = 512  # llama.cpp's own limit (LLAMA_MAX_LAYERS)
OPTIONAL_SIZES = ("num_key_value_heads", "head_dim")
SIZES = (
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "vocab_size",
    "max_position_embeddings",
    *OPTIONAL_SIZES,
)


@dataclass(frozen=True)
class TensorRule:
    """A tensor of the checkpoint and its name in the GGUF; ``{i}`` stands for the layer.

    ``shape`` names the dimensions, outermost first, in the words of ``Architecture.dims``.
    ``needed`` tells from the config whether the tensor must be there: True, False (must not), None (may).
    """

    source: str
    target: str
    shape: str
    needed: Callable[[Mapping[str, Any]], bool | None] = lambda hparams: True


@dataclass(frozen=True)
class Architecture:
    """One model family. ``defaults`` are what transformers assumes for keys that config.json leaves out."""

    hf_names: tuple[str, ...]
    name: str
    defaults: Mapping[str, Any]
    dims: Callable[[Mapping[str, Any]], dict[str, int]]
    tensors: tuple[TensorRule, ...]
    honoured: tuple[Honoured, ...]
    special_tokens: Mapping[str, str] = field(default_factory=dict)
    metadata: Callable[[Mapping[str, Any]], list[KV]] = lambda hparams: []


@dataclass(frozen=True)
class TensorPlan:
    """One tensor of the output. ``shape`` is outermost first."""

    name: str
    shape: tuple[int, ...]
    source: StoredTensor


@dataclass(frozen=True)
class ModelPlan:
    """Everything about a conversion that does not depend on the quant level or the tokenizer."""

    architecture: Architecture
    hparams: Mapping[str, Any]
    tensors: tuple[TensorPlan, ...]
    metadata: tuple[KV, ...]
    family_metadata: tuple[KV, ...]
    facts: ModelFacts


def find_architecture(config: Mapping[str, Any], registry: Mapping[str, Architecture]) -> Architecture:
    """The family that ``config["architectures"]`` names. Raises UnsupportedError listing those there are."""
    names = config.get("architectures")
    name = names[0] if isinstance(names, list) and names else None
    if not isinstance(name, str):
        raise CheckpointError("config.json does not name its architecture", "it should hold an `architectures` list")
    if name not in registry:
        raise UnsupportedError(f"architecture {name} cannot be converted", f"supported: {', '.join(sorted(registry))}")
    return registry[name]


def plan(checkpoint: Checkpoint, registry: Mapping[str, Architecture]) -> ModelPlan:
    """Check the checkpoint against its family before a byte of weight is read.

    Raises CheckpointError for a missing, left-over or wrongly shaped tensor, UnsupportedError for a config
    value that llama.cpp would compute differently.
    """
    architecture = find_architecture(checkpoint.config, registry)
    hparams = {**architecture.defaults, **checkpoint.config}
    check_sizes(hparams)
    refuse_unhonoured((*COMMON, *architecture.honoured), hparams)
    layers = hparams["num_hidden_layers"]
    return ModelPlan(
        architecture,
        hparams,
        tuple(map_tensors(architecture, hparams, layers, checkpoint.tensors)),
        tuple(common_metadata(architecture.name, hparams)),
        tuple(architecture.metadata(hparams)),
        ModelFacts(architecture.name, layers, hparams["num_attention_heads"], kv_heads(hparams)),
    )


def kv_heads(hparams: Mapping[str, Any]) -> int:
    return hparams.get("num_key_value_heads") or hparams["num_attention_heads"]


def check_sizes(hparams: Mapping[str, Any]) -> None:
    """The config values that shapes are made of must be sane integers."""
    for key in SIZES:
        value = hparams.get(key)
        if value is None and key in OPTIONAL_SIZES:
            continue
        if type(value) is not int or not 0 < value < 2**31:
            raise CheckpointError(f"config.json: {key} is {str(value)[:40]!r}, not a positive number")
    if hparams["num_hidden_layers"] > MAX_LAYERS:
        raise UnsupportedError(f"num_hidden_layers = {hparams['num_hidden_layers']}; llama.cpp stops at {MAX_LAYERS}")
    heads = hparams["num_attention_heads"]
    if heads % kv_heads(hparams):
        raise CheckpointError(f"config.json: {heads} heads cannot share {kv_heads(hparams)} key-value heads")
    if hparams.get("head_dim") is None and hparams["hidden_size"] % heads:
        raise CheckpointError(f"config.json: hidden_size {hparams['hidden_size']} is no multiple of {heads} heads")
    if head_dim(hparams) % 2:
        raise UnsupportedError(f"config.json implies heads of {head_dim(hparams)}; rotary position needs an even size")
    eps = hparams.get("rms_norm_eps")
    if not isinstance(eps, float) or not 0 < eps < 1:
        raise CheckpointError(f"config.json: rms_norm_eps is {str(eps)[:40]!r}, not a small positive number")


def head_dim(hparams: Mapping[str, Any]) -> int:
    return hparams.get("head_dim") or hparams["hidden_size"] // hparams["num_attention_heads"]


def map_tensors(
    architecture: Architecture, hparams: Mapping[str, Any], layers: int, stored: Mapping[str, StoredTensor]
) -> list[TensorPlan]:
    """The output's tensors in the checkpoint's order; every stored tensor is used exactly once."""
    dims = architecture.dims(hparams)
    targets: dict[str, tuple[str, tuple[int, ...]]] = {}
    for rule in architecture.tensors:
        needed = rule.needed(hparams)
        if needed is False:
            continue
        shape = tuple(dims[word] for word in rule.shape.split())
        for i in range(layers) if "{i}" in rule.source else (0,):
            source = rule.source.format(i=i)
            if source in stored:
                targets[source] = (rule.target.format(i=i), shape)
            elif needed:
                raise CheckpointError(
                    f"tensor {source} is missing", "the checkpoint is incomplete, or config.json is wrong"
                )
    if extra := [name for name in stored if name not in targets and not is_ignored(name)]:
        more = f" (and {len(extra) - 1} more)" if len(extra) > 1 else ""
        raise CheckpointError(
            f"tensor {extra[0]}{more} has no place in {architecture.hf_names[0]} as config.json describes it",
            "config.json may belong to another model",
        )
    plans = []
    for source, tensor in stored.items():
        if source not in targets:
            continue
        name, shape = targets[source]
        if tensor.shape != shape:
            raise CheckpointError(
                f"tensor {source} has shape {list(tensor.shape)}, but config.json implies {list(shape)}",
                "config.json may belong to another model",
            )
        plans.append(TensorPlan(name, shape, tensor))
    return plans


def is_ignored(name: str) -> bool:
    """Buffers that old versions of transformers saved; the graph computes them itself."""
    return name.endswith((".rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias"))


def common_metadata(arch: str, hparams: Mapping[str, Any]) -> list[KV]:
    """The hyperparameters that every family has, in the order llama.cpp's converter writes them."""
    return [
        KV(f"{arch}.block_count", "u32", hparams["num_hidden_layers"]),
        KV(f"{arch}.context_length", "u32", hparams["max_position_embeddings"]),
        KV(f"{arch}.embedding_length", "u32", hparams["hidden_size"]),
        KV(f"{arch}.feed_forward_length", "u32", hparams["intermediate_size"]),
        KV(f"{arch}.attention.head_count", "u32", hparams["num_attention_heads"]),
        KV(f"{arch}.attention.head_count_kv", "u32", kv_heads(hparams)),
        *rope_metadata(arch, hparams),
        KV(f"{arch}.attention.layer_norm_rms_epsilon", "f32", hparams["rms_norm_eps"]),
        *(
            KV(f"{arch}.attention.{length}", "u32", hparams["head_dim"])
            for length in ("key_length", "value_length")
            if hparams.get("head_dim") is not None
        ),
    ]
