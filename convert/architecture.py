"""What a model family is, as data; and ``plan()``: config + tensor names -> what to write. Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from convert.checkpoint import Checkpoint, StoredTensor
from convert.errors import CheckpointError, UnsupportedError
from convert.honoured import Honoured, refuse_unhonoured
from convert.hparams import HParams, check_sizes, common_metadata, kv_heads, read_hparams
from convert.levels import ModelFacts
from convert.metadata import KV
from convert.ops import Change, Pick, Values

Needed = Callable[[HParams], bool | None]


def always(hparams: HParams) -> bool:
    return True


def every_layer(hparams: HParams) -> Iterable[int]:
    """The model's own layers and those that predict further tokens."""
    return range(hparams["block_count"])


@dataclass(frozen=True)
class TensorRule:
    """Tensors of the checkpoint and what they become; ``{i}`` stands for the layer, ``{e}`` for the expert.

    ``shape`` names the stored dimensions, outermost first, in the words of ``Architecture.dims``; ``out`` those of
    the output where they differ. Stored experts are stacked in one output. ``pick`` and ``change`` are of
    ``convert.ops``; ``transposed`` turns every run of picked rows around. ``needed`` tells whether the tensors
    must be there: True, False (must not), None (may); ``layers`` which layers have them.
    """

    source: str
    target: str
    shape: str
    needed: Needed = always
    out: str = ""
    layers: Callable[[HParams], Iterable[int]] = every_layer
    pick: Pick | None = None
    change: Change | None = None
    transposed: bool = False


@dataclass(frozen=True)
class Architecture:
    """One model family.

    ``aliases`` are its own words for config keys; ``defaults`` what transformers assumes for keys that config.json
    leaves out; ``derived`` computes further values from the config and the tensors' names. ``sizes`` are keys
    beyond the common ones that must be positive numbers. ``renames`` are (pattern, replacement) pairs for tensor
    names, ``{next}`` being the layer after the model's own; names that match a pattern of ``left_out`` stay behind.
    ``nextn`` is a tensor that marks a layer predicting further tokens. ``special_tokens`` are texts, or the first
    there is of several, for kinds that the tokenizer files leave unset. ``common`` and ``metadata`` give the keys
    before and after the file type.
    """

    hf_names: tuple[str, ...]
    name: str
    defaults: HParams
    dims: Callable[[HParams], dict[str, int]]
    tensors: tuple[TensorRule, ...]
    honoured: tuple[Honoured, ...]
    common: Callable[[str, HParams], list[KV]] = common_metadata
    metadata: Callable[[HParams], list[KV]] = lambda hparams: []
    aliases: Mapping[str, str] = field(default_factory=dict)
    derived: Callable[[HParams, frozenset[str]], HParams] = lambda hparams, names: {}
    sizes: tuple[str, ...] = ()
    renames: tuple[tuple[str, str], ...] = ()
    left_out: tuple[str, ...] = ()
    nextn: str = ""
    special_tokens: Mapping[str, str | tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Span:
    """Whole rows of a stored tensor, ``first`` and as many as ``rows``."""

    source: StoredTensor
    first: int
    rows: int


@dataclass(frozen=True)
class TensorPlan:
    """One tensor of the output: ``shape`` outermost first, ``spans`` in the order of its rows."""

    name: str
    shape: tuple[int, ...]
    spans: tuple[Span, ...]
    change: Callable[[Values], Values] | None = None
    transposed: bool = False

    @property
    def elements(self) -> int:
        return math.prod(self.shape)

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:-1])


@dataclass(frozen=True)
class ModelPlan:
    """Everything about a conversion that does not depend on the quant level or the tokenizer."""

    architecture: Architecture
    hparams: HParams
    tensors: tuple[TensorPlan, ...]
    left_out: tuple[StoredTensor, ...]
    metadata: tuple[KV, ...]
    family_metadata: tuple[KV, ...]
    facts: ModelFacts


def find_architecture(config: HParams, registry: Mapping[str, Architecture]) -> Architecture:
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
    hparams = read_hparams(checkpoint.config, architecture.aliases, architecture.defaults)
    stored, left_out = canonical_names(architecture, hparams, checkpoint.tensors)
    hparams["block_count"] = hparams["num_hidden_layers"] + next_layers(architecture, hparams, stored)
    hparams = check_hparams(architecture, checkpoint.config, hparams, frozenset(stored))
    return ModelPlan(
        architecture,
        hparams,
        tuple(map_tensors(architecture, hparams, stored)),
        left_out,
        tuple(architecture.common(architecture.name, hparams)),
        tuple(architecture.metadata(hparams)),
        ModelFacts(
            architecture.name,
            hparams["block_count"],
            hparams["num_attention_heads"],
            kv_heads(hparams),
            hparams.get("num_experts") or 0,
        ),
    )


def check_hparams(architecture: Architecture, config: HParams, hparams: HParams, names: frozenset[str]) -> HParams:
    """``hparams`` with what the family derives from them and the tensors' ``names``; ``block_count`` must be set.

    Raises CheckpointError for a size that is none, UnsupportedError for what llama.cpp would compute differently.
    """
    words = {key: word for word, key in architecture.aliases.items() if config.get(word) is not None}
    check_sizes(hparams, architecture.sizes, words)
    hparams = {**hparams, **architecture.derived(hparams, names)}
    known = {*architecture.defaults, *architecture.sizes, *architecture.aliases}
    refuse_unhonoured(architecture.honoured, known, hparams, words)
    return hparams


def canonical_names(
    architecture: Architecture, hparams: HParams, tensors: Mapping[str, StoredTensor]
) -> tuple[dict[str, StoredTensor], tuple[StoredTensor, ...]]:
    """The tensors under the names that the family's rules use, in the same order; and those to leave out."""
    renames = [(old, new.format(next=hparams["num_hidden_layers"])) for old, new in architecture.renames]
    stored: dict[str, StoredTensor] = {}
    left_out = []
    for tensor in tensors.values():
        name = tensor.name
        if any(re.match(pattern, name) for pattern in architecture.left_out):
            left_out.append(tensor)
            continue
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        if name in stored:
            raise CheckpointError(f"tensors {stored[name].name} and {tensor.name} are the same one under two names")
        stored[name] = tensor
    return stored, tuple(left_out)


def next_layers(architecture: Architecture, hparams: HParams, names: Iterable[str]) -> int:
    """How many layers that predict further tokens the checkpoint really holds, whatever its config says."""
    present, first = set(names), hparams["num_hidden_layers"]
    count = 0
    while architecture.nextn and architecture.nextn.format(i=first + count) in present:
        count += 1
    return count


@dataclass(frozen=True)
class Found:
    """An output tensor and the names of its sources; ``place`` orders outputs as llama.cpp's converter does."""

    rule: TensorRule
    sources: list[str]
    place: tuple[int, int]


def map_tensors(architecture: Architecture, hparams: HParams, stored: Mapping[str, StoredTensor]) -> list[TensorPlan]:
    """The output's tensors in the order of the checkpoint's; every stored tensor is used.

    An output comes where its source is; those of experts come together where the last expert of their layer is.
    """
    sizes = architecture.dims(hparams)
    targets = find_targets(architecture, hparams, stored)
    used = {source for target in targets.values() for source in target.sources}
    if extra := [name for name in stored if name not in used and not is_ignored(name)]:
        more = f" (and {len(extra) - 1} more)" if len(extra) > 1 else ""
        raise CheckpointError(
            f"tensor {stored[extra[0]].name}{more} has no place in {architecture.hf_names[0]} "
            "as config.json describes it",
            "config.json may belong to another model",
        )
    return [
        plan_tensor(name, target.rule, [stored[source] for source in target.sources], sizes)
        for name, target in sorted(targets.items(), key=lambda item: item[1].place)
    ]


def find_targets(architecture: Architecture, hparams: HParams, stored: Mapping[str, StoredTensor]) -> dict[str, Found]:
    """Output name -> its rule and the names of its sources. Raises CheckpointError for one that is missing."""
    position = {name: place for place, name in enumerate(stored)}
    last_expert = {name.rpartition(".experts.")[0]: place for name, place in position.items() if ".experts." in name}
    targets: dict[str, Found] = {}
    for index, rule in enumerate(architecture.tensors):
        needed = rule.needed(hparams)
        if needed is False:
            continue
        experts = range(hparams["num_experts"]) if "{e}" in rule.source else (0,)
        for i in rule.layers(hparams) if "{i}" in rule.source else (0,):
            sources = [rule.source.format(i=i, e=e) for e in experts]
            missing = next((source for source in sources if source not in stored), None)
            if missing is None:
                stacked = "{e}" in rule.source
                place = last_expert[sources[0].rpartition(".experts.")[0]] if stacked else position[sources[0]]
                targets[rule.target.format(i=i)] = Found(rule, sources, (place, index))
            elif needed:
                raise CheckpointError(
                    f"tensor {missing} is missing", "the checkpoint is incomplete, or config.json is wrong"
                )
    return targets


def plan_tensor(name: str, rule: TensorRule, sources: list[StoredTensor], sizes: dict[str, int]) -> TensorPlan:
    """Raises CheckpointError when a source has another shape than the config implies."""
    shape = tuple(sizes[word] for word in rule.shape.split())
    for source in sources:
        if source.shape != shape:
            raise CheckpointError(
                f"tensor {source.name} has shape {list(source.shape)}, but config.json implies {list(shape)}",
                "config.json may belong to another model",
            )
    rows = sources[0].rows
    runs = rule.pick(sizes) if rule.pick else [(0, rows)]
    out = tuple(sizes[word] for word in (rule.out or rule.shape).split())
    change = rule.change
    return TensorPlan(
        name,
        (len(sources), *out) if "{e}" in rule.source else out,
        tuple(Span(source, first, count) for source in sources for first, count in runs),
        (lambda values: change(values, sizes)) if change else None,
        rule.transposed,
    )


def is_ignored(name: str) -> bool:
    """Buffers that old versions of transformers saved; the graph computes them itself."""
    return name.endswith((".rotary_emb.inv_freq", ".rotary_pos_emb.inv_freq", ".attn.bias", ".attn.masked_bias"))
