"""Which tensors a GGUF of a model has, and the numbers that memory and work follow from. Pure.

Known from a file; or before there is one, from a config.json, or from the few words of it that a lock keeps: the
family's own rules (``convert.architectures``) make tensors and metadata of them, as a conversion would.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from gguf.constants import GGML_QUANT_SIZES, GGMLQuantizationType

from convert.architecture import Architecture, check_hparams, find_architecture
from convert.architectures import REGISTRY
from convert.errors import EdgeError
from convert.gguf_file import GgufFile
from convert.hparams import MAX_LAYERS, HParams, read_hparams
from convert.levels import ModelFacts, layer_of, parse_level, tensor_types
from convert.metadata import KV
from edge.lock_config import EVERY_FAMILY, facts_of

Config = Mapping[str, Any]

# A lock's words are the same for all families: by architecture, what its own config.json has in their place; and what
# every released checkpoint has that a lock does not say. The first Qwen counts both branches of its feed-forward.
OWN_WORDS: dict[str, Callable[[Config], Config]] = {
    "qwen": lambda lock: {"intermediate_size": 2 * lock.get("intermediate_size", 0)},
    "qwen3moe": lambda lock: {"norm_topk_prob": True},
    "glm4moe": lambda lock: {"attention_bias": True},
    "chatglm": lambda lock: {
        "attention_bias": True,
        "multi_query_attention": True,
        "multi_query_group_num": lock.get("num_key_value_heads"),
    },
    **dict.fromkeys(("qwen2moe", "qwen3next", "qwen35moe"), lambda lock: shared_expert(lock)),
}
# Layers that predict further tokens: by class, how many every released checkpoint has, where config.json does not say.
PREDICTION = {
    "Glm4MoeForCausalLM": 1,
    "Glm4MoeLiteForCausalLM": 1,
    "Qwen3NextForCausalLM": 1,
    "Qwen3_5ForConditionalGeneration": 1,
    "Qwen3_5MoeForConditionalGeneration": 1,
}
# Which of their optional tensors are there, by architecture.
GLM_PREDICTION = ("nextn.embed_tokens", "nextn.shared_head_head", "nextn.shared_head_norm")
PREDICTION_PARTS = {
    "glm4moe": GLM_PREDICTION,
    "deepseek2": GLM_PREDICTION,
    **dict.fromkeys(("qwen3next", "qwen35", "qwen35moe"), ("nextn.shared_head_norm",)),
}
# Class, hidden size and layers of models that store an output matrix although it is tied: Qwen3-0.6B and 1.7B.
STORED_HEADS = {("Qwen3ForCausalLM", 1024, 28), ("Qwen3ForCausalLM", 2048, 28)}


class Named(NamedTuple):
    """A tensor as the rules for types want it: ``shape`` outermost first."""

    name: str
    shape: tuple[int, ...]


class SizedTensor(NamedTuple):
    """A tensor of a file: ``shape`` outermost first, ``qtype`` is ggml's name, such as ``Q4_K``."""

    name: str
    shape: tuple[int, ...]
    qtype: str
    nbytes: int


@dataclass(frozen=True)
class ModelShape:
    """A model before its weights have types.

    ``layers`` are those that answer; tensors of layers beyond them predict further tokens and are not used.
    ``attention_layers`` of them keep keys and values, ``kv_heads`` vectors of ``key_length`` and ``value_length``
    for each token; the others have a state instead, all of them together ``state_bytes`` for each sequence. With
    ``latent`` attention the values are a part of the keys. ``experts`` of a layer, of which a token uses
    ``experts_used``, are 0 in a dense model.
    """

    tensors: tuple[Named, ...]
    facts: ModelFacts
    layers: int
    attention_layers: int
    hidden: int
    vocabulary: int
    heads: int
    kv_heads: int
    key_length: int
    value_length: int
    latent: bool
    state_bytes: int
    experts_used: int
    context_length: int

    @property
    def architecture(self) -> str:
        """The GGUF's word for it, such as ``qwen2``."""
        return self.facts.architecture

    @property
    def experts(self) -> int:
        return self.facts.experts

    @property
    def parameters(self) -> int:
        return sum(math.prod(tensor.shape) for tensor in self.tensors)


# --- where a shape comes from


def from_config(architecture: str, config: Config, context_length: int) -> ModelShape:
    """The shape of a locked model: its class, its words of ``edge.lock.CONFIG``, its context in tokens.

    What the lock does not count is taken to be as in the released checkpoints: biases, layers of prediction, and
    output matrices that are stored although tied. So a fine-tune may have less: GLM-Edge has no biases, which would be
    0.01 % of it; without its layer of prediction GLM-4.5-Air is 3 % smaller, GLM-4.7-Flash 4 %.

    Raises EdgeError where the lock does not say enough, UnsupportedError for a class that cannot be converted.
    """
    return of_hparams(architecture, *locked_hparams(architecture, config, context_length))


def from_checkpoint_config(config: Config) -> ModelShape:
    """The shape that a folder with this config.json will get, unless its tensors say otherwise.

    Raises UnsupportedError for a family or a value that cannot be converted, CheckpointError for one that makes no
    sense.
    """
    architecture = facts_of(config).architecture  # with every check that a conversion makes
    family = REGISTRY[architecture]
    return of_hparams(architecture, family, all_hparams(architecture, family, config))


def from_gguf(file: GgufFile) -> ModelShape:
    """The shape of a file that ``edge.gguf_sane.check_sane`` found sane."""
    return of_metadata(file.metadata, tuple(Named(tensor.name, tensor.shape[::-1]) for tensor in file.tensors))


def locked_hparams(architecture: str, config: Config, context_length: int) -> tuple[Architecture, HParams]:
    """The family of a locked model, and its words made those of the family's config.json."""
    family = find_architecture({"architectures": [architecture]}, REGISTRY)
    if missing := [word for word in EVERY_FAMILY if word not in config]:
        raise EdgeError(
            f"the lock does not know {', '.join(missing)} of the model", "fetch its config.json with edge pull"
        )
    own = OWN_WORDS.get(family.name, lambda lock: {})(config)
    settings = {"rms_norm_eps": 1e-6, "seq_length": context_length, "max_position_embeddings": context_length}
    return family, all_hparams(architecture, family, {**settings, **config, **own})


def all_hparams(architecture: str, family: Architecture, config: HParams) -> HParams:
    """As ``convert.architecture.plan`` has them, but for what it learns from tensors."""
    hparams = read_hparams(config, family.aliases, family.defaults)
    hparams["block_count"] = hparams["num_hidden_layers"] + prediction_layers(architecture, family, hparams)
    return check_hparams(family, config, hparams, frozenset())


def of_hparams(architecture: str, family: Architecture, hparams: HParams) -> ModelShape:
    metadata = {pair.key: pair.value for pair in network_metadata(family, hparams)}
    return of_metadata(metadata, tuple(output_tensors(architecture, family, hparams)))


def network_metadata(family: Architecture, hparams: HParams) -> list[KV]:
    """What a GGUF says of the network; without tokenizer and file type."""
    name = KV("general.architecture", "str", family.name)
    return [name, *family.common(family.name, hparams), *family.metadata(hparams)]


def of_metadata(metadata: Config, tensors: tuple[Named, ...]) -> ModelShape:
    facts = model_facts(metadata)
    layers = facts.layers - largest(metadata, "nextn_predict_layers")
    linear = sum(name.endswith(".ssm_a") and layer_of(name) < layers for name, _ in tensors)
    heads, hidden = largest(metadata, "attention.head_count"), largest(metadata, "embedding_length")
    head = hidden // max(1, heads)
    return ModelShape(
        tensors,
        facts,
        layers,
        attention_layers=layers - linear,
        hidden=hidden,
        vocabulary=next((shape[0] for name, shape in tensors if name == "token_embd.weight"), 0),
        heads=heads,
        kv_heads=largest(metadata, "attention.head_count_kv", heads),
        key_length=largest(metadata, "attention.key_length", head),
        value_length=largest(metadata, "attention.value_length", head),
        latent=largest(metadata, "attention.key_length_mla") > 0,
        state_bytes=linear * state_bytes(metadata),
        experts_used=largest(metadata, "expert_used_count"),
        context_length=largest(metadata, "context_length"),
    )


# --- the tensors


def output_tensors(architecture: str, family: Architecture, hparams: HParams) -> Iterator[Named]:
    """What ``convert.architecture.map_tensors`` would make of a checkpoint that has all it must have."""
    sizes = family.dims(hparams)
    optional = {f"blk.{{i}}.{part}.weight" for part in PREDICTION_PARTS.get(family.name, ())}
    if (architecture, hparams["hidden_size"], hparams["num_hidden_layers"]) in STORED_HEADS:
        optional.add("output.weight")
    found: dict[str, tuple[int, ...]] = {}
    for rule in family.tensors:
        needed = rule.needed(hparams)
        if needed is False or (needed is None and rule.target not in optional):
            continue
        shape = tuple(sizes[word] for word in (rule.out or rule.shape).split())
        stacked = (hparams["num_experts"], *shape) if "{e}" in rule.source else shape
        for i in rule.layers(hparams) if "{i}" in rule.source else (0,):
            found[rule.target.format(i=i)] = stacked
    yield from (Named(*item) for item in found.items())


def level_tensors(shape: ModelShape, level_name: str, *, has_imatrix: bool = False) -> list[SizedTensor]:
    """The tensors at a quant level. Raises EdgeError for a level that there is not."""
    types = tensor_types(parse_level(level_name), shape.tensors, shape.facts, has_imatrix)
    return [SizedTensor(name, dims, types[name].name, tensor_bytes(types[name], dims)) for name, dims in shape.tensors]


def file_tensors(file: GgufFile) -> list[SizedTensor]:
    """The tensors of a file that is there, with the types that they have in it."""
    return [SizedTensor(tensor.name, tensor.shape[::-1], tensor.type, tensor.nbytes) for tensor in file.tensors]


def tensor_bytes(qtype: GGMLQuantizationType, shape: tuple[int, ...]) -> int:
    block, nbytes = GGML_QUANT_SIZES[qtype]
    return math.prod(shape) // block * nbytes


# --- the numbers


def prediction_layers(architecture: str, family: Architecture, hparams: HParams) -> int:
    """How many layers predict further tokens: as config.json says; where it does not, as its class has them."""
    if not family.nextn:
        return 0
    for word in ("num_nextn_predict_layers", "mtp_num_hidden_layers"):
        said = hparams.get(word)
        if type(said) is int and 0 <= said <= MAX_LAYERS:
            return said
    return PREDICTION.get(architecture, 0)


def shared_expert(lock: Config) -> Config:
    """Qwen gives the shared experts' common width where the lock, as GLM does, counts them."""
    return {
        "n_shared_experts": None,
        "shared_expert_intermediate_size": lock.get("n_shared_experts", 0) * lock.get("moe_intermediate_size", 0),
    }


def model_facts(metadata: Config) -> ModelFacts:
    """What the rules for types ask; counts that differ by layer are those of the first, as in llama.cpp."""
    arch = metadata["general.architecture"]
    heads = metadata[f"{arch}.attention.head_count"]
    kv_heads = metadata.get(f"{arch}.attention.head_count_kv", heads)
    return ModelFacts(
        arch,
        layers=int(metadata[f"{arch}.block_count"]),
        heads=int(np.ravel(heads)[0]),
        kv_heads=int(np.ravel(kv_heads)[0]),
        experts=int(metadata.get(f"{arch}.expert_count", 0)),
    )


def state_bytes(metadata: Config) -> int:
    """Of one layer of linear attention, for each sequence, in F32: the last inputs of its convolution, and a matrix for
    each head (``llama_hparams::n_embd_r`` and ``n_embd_s``)."""
    kernel, inner, groups, state = (
        largest(metadata, f"ssm.{key}") for key in ("conv_kernel", "inner_size", "group_count", "state_size")
    )
    return 4 * (max(0, kernel - 1) * (inner + 2 * groups * state) + state * inner)


def largest(metadata: Config, key: str, default: int = 0) -> int:
    """A count of the architecture; the largest where each layer has its own."""
    value = metadata.get(f"{metadata['general.architecture']}.{key}", default)
    return int(np.max(value)) if np.size(value) and np.issubdtype(np.asarray(value).dtype, np.integer) else default
