"""Quant levels, and llama.cpp's rules for the type of each tensor. Pure.

The rules follow ``llama_tensor_get_type_impl`` and ``tensor_type_fallback`` of llama.cpp (src/llama-quant.cpp), so
that a file made here has the types, and so the bytes, that ``llama-quantize`` would give it.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import gguf

from convert.errors import EdgeError
from convert.ggml import QType, block_size

FType = gguf.LlamaFileType


@dataclass(frozen=True)
class Level:
    """``qtype`` is the type that most tensors get; ``ftype`` the value of ``general.file_type``."""

    name: str
    ftype: FType
    qtype: QType

    @property
    def is_float(self) -> bool:
        return block_size(self.qtype) == 1


LEVELS = {
    level.name: level
    for level in (
        Level("F32", FType.ALL_F32, QType.F32),
        Level("F16", FType.MOSTLY_F16, QType.F16),
        Level("BF16", FType.MOSTLY_BF16, QType.BF16),
        Level("Q8_0", FType.MOSTLY_Q8_0, QType.Q8_0),
        Level("Q6_K", FType.MOSTLY_Q6_K, QType.Q6_K),
        Level("Q5_K_M", FType.MOSTLY_Q5_K_M, QType.Q5_K),
        Level("Q5_K_S", FType.MOSTLY_Q5_K_S, QType.Q5_K),
        Level("Q5_1", FType.MOSTLY_Q5_1, QType.Q5_1),
        Level("Q5_0", FType.MOSTLY_Q5_0, QType.Q5_0),
        Level("Q4_K_M", FType.MOSTLY_Q4_K_M, QType.Q4_K),
        Level("Q4_K_S", FType.MOSTLY_Q4_K_S, QType.Q4_K),
        Level("Q4_1", FType.MOSTLY_Q4_1, QType.Q4_1),
        Level("Q4_0", FType.MOSTLY_Q4_0, QType.Q4_0),
        Level("IQ4_NL", FType.MOSTLY_IQ4_NL, QType.IQ4_NL),
        Level("IQ4_XS", FType.MOSTLY_IQ4_XS, QType.IQ4_XS),
        Level("Q3_K_M", FType.MOSTLY_Q3_K_M, QType.Q3_K),
        Level("Q2_K", FType.MOSTLY_Q2_K, QType.Q2_K),
    )
}

# What a type becomes when a row is no multiple of its block; what still does not fit becomes F16.
FALLBACK = {
    QType.Q2_K: QType.Q4_0,
    QType.Q3_K: QType.Q4_0,
    QType.Q4_K: QType.Q5_0,
    QType.Q5_K: QType.Q5_1,
    QType.Q6_K: QType.Q8_0,
    QType.IQ4_XS: QType.IQ4_NL,
}

# A tensor plays the first role whose mark its name contains: ffn_down_exps is an ffn_down, ffn_gate_inp_shexp none.
ROLES = (
    ("attn_qkv.weight", "attn_v"),  # as sensitive as the v within it
    ("attn_kv_b.weight", "attn_v"),
    ("attn_v.weight", "attn_v"),
    ("attn_k.weight", "attn_k"),
    ("attn_output.weight", "attn_output"),
    ("ffn_down", "ffn_down"),
)


class Shaped(Protocol):
    """A tensor of the output: ``shape`` outermost first, as it will be in the GGUF."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class ModelFacts:
    """What the rules ask of a model besides its tensors.

    ``layers`` counts those of next-token prediction too; ``experts`` are the routed ones of a layer, 0 in a dense
    model.
    """

    architecture: str
    layers: int
    heads: int
    kv_heads: int
    experts: int = 0

    @property
    def is_qwen2_72b(self) -> bool:
        return self.architecture == "qwen2" and self.layers == 80


@dataclass(frozen=True)
class Place:
    """Where a tensor stands: number ``index`` of the ``total`` that play its role, in which model and conversion."""

    index: int
    total: int
    facts: ModelFacts
    has_imatrix: bool


Condition = Callable[[Place], bool]


def always(place: Place) -> bool:
    return True


def eight_experts(place: Place) -> bool:
    """Mixtral's number: llama.cpp spends more bits on the attention of every such model."""
    return place.facts.experts == 8


def four_share(place: Place) -> bool:
    """Four or more heads share each key-value head: attn_v is small."""
    return 0 < 4 * place.facts.kv_heads <= place.facts.heads


def first(count: int) -> Condition:
    return lambda place: place.index < count


def first_part(divisor: int) -> Condition:
    return lambda place: place.index < place.total // divisor


def early_with_imatrix(place: Place) -> bool:
    return place.has_imatrix and first_part(8)(place)


def early_without_imatrix(place: Place) -> bool:
    return not place.has_imatrix and first_part(8)(place)


def more_bits(place: Place) -> bool:
    """The first eighth, the last eighth, and every third layer between them."""
    index, eighth = place.index, place.total // 8
    return index < eighth or index >= 7 * place.total // 8 or (index - eighth) % 3 == 2


# Role -> level -> (condition, type): the first that holds decides, none leaves the level's own type.
MIXES: dict[str, dict[str, tuple[tuple[Condition, QType], ...]]] = {
    "attn_v": {
        "Q5_K_M": ((more_bits, QType.Q6_K),),
        "Q4_K_M": ((more_bits, QType.Q6_K),),
        "Q4_K_S": ((first(4), QType.Q5_K),),
        "IQ4_NL": ((four_share, QType.Q5_K),),
        "IQ4_XS": ((four_share, QType.Q5_K),),
        "Q3_K_M": ((first(2), QType.Q5_K), (always, QType.Q4_K)),
        "Q2_K": ((four_share, QType.Q4_K), (always, QType.Q3_K)),
    },
    "attn_output": {
        "Q4_K_M": ((eight_experts, QType.Q5_K),),
        "Q4_K_S": ((eight_experts, QType.Q5_K),),
        "IQ4_NL": ((eight_experts, QType.Q5_K),),
        "IQ4_XS": ((eight_experts, QType.Q5_K),),
        "Q3_K_M": ((eight_experts, QType.Q5_K), (always, QType.Q4_K)),
        "Q2_K": ((eight_experts, QType.Q5_K), (always, QType.Q3_K)),
    },
    "ffn_down": {
        "Q5_K_M": ((more_bits, QType.Q6_K),),
        "Q5_0": ((early_with_imatrix, QType.Q5_1),),
        "Q4_K_M": ((more_bits, QType.Q6_K),),
        "Q4_K_S": ((first_part(8), QType.Q5_K),),
        "Q4_0": ((early_with_imatrix, QType.Q4_1),),
        "IQ4_NL": ((early_without_imatrix, QType.Q5_K),),
        "IQ4_XS": ((early_without_imatrix, QType.Q5_K),),
        "Q3_K_M": ((first_part(16), QType.Q5_K), (always, QType.Q4_K)),
        "Q2_K": ((always, QType.Q3_K),),
    },
}


def parse_level(name: str) -> Level:
    """The level called ``name`` in any case. Raises EdgeError listing those there are."""
    level = LEVELS.get(name.strip().upper())
    if level is None:
        raise EdgeError(f"there is no quant level {name!r}", f"one of {', '.join(LEVELS)}")
    return level


def file_order(level: Level, names: Iterable[str]) -> list[str]:
    """Order of tensors in the file: as the checkpoint has them for float levels; else by layer, then by name."""
    return list(names) if level.is_float else sorted(names, key=layer_then_name)


def layer_then_name(name: str) -> tuple[int, bytes]:
    return layer_of(name), name.encode()


def layer_of(name: str) -> int:
    """The layer that a tensor belongs to; -1 for those of the whole model."""
    match = re.match(r"blk\.(\d+)\.", name)
    return int(match.group(1)) if match else -1


def tensor_types(
    level: Level, tensors: Iterable[Shaped], facts: ModelFacts, has_imatrix: bool = False
) -> dict[str, QType]:
    """The type of every tensor at ``level``.

    What is not quantized is F32, as in llama.cpp but for one case: there a matrix of a single row, such as ssm_alpha
    of a model with one linear value head, keeps the checkpoint's type. No released model has one.
    """
    tensors = list(tensors)
    if level.is_float:
        return {tensor.name: QType.F32 if stays_float32(tensor) else level.qtype for tensor in tensors}
    wanted = wanted_types(level, tensors, facts, has_imatrix)
    return {
        tensor.name: fitting_type(wanted[tensor.name], tensor.shape[-1]) if tensor.name in wanted else QType.F32
        for tensor in tensors
    }


def stays_float32(tensor: Shaped) -> bool:
    """Whether llama.cpp's converter writes the tensor as F32 in a file of any float level."""
    name = tensor.name
    return len(tensor.shape) < 2 or not name.endswith(".weight") or name.endswith("_norm.weight") or is_small(name)


def is_small(name: str) -> bool:
    """Routers and short convolutions: matrices that are not worth rounding."""
    return any(mark in name for mark in ("ffn_gate_inp.", "ffn_gate_inp_shexp.", "ssm_conv1d."))


def quantizable(tensor: Shaped) -> bool:
    """Whether llama.cpp quantizes the tensor. GGUF drops outer dimensions of 1, so [1, 64] is a vector."""
    return not stays_float32(tensor) and any(size > 1 for size in tensor.shape[:-1])


def wanted_types(
    level: Level, tensors: Iterable[Shaped], facts: ModelFacts, has_imatrix: bool = False
) -> dict[str, QType]:
    """The types of the tensors that are quantized at ``level``, as if every row were a multiple of every block."""
    ordered = sorted(tensors, key=lambda tensor: layer_then_name(tensor.name))
    roles = Counter(role_of(tensor.name) for tensor in ordered)
    head = "output.weight" if any(tensor.name == "output.weight" for tensor in ordered) else "token_embd.weight"
    seen: Counter[str] = Counter()
    types = {}
    for tensor in ordered:
        if not quantizable(tensor):
            continue
        role = role_of(tensor.name)
        index, total = seen[role], roles[role]
        if role == "ffn_down":  # a layer with experts has more than one
            index, total = layer_of(tensor.name) if facts.experts > 1 else index, facts.layers
        place = Place(index, total, facts, has_imatrix)
        types[tensor.name] = head_type(level) if tensor.name == head else wanted_type(level, role, place)
        seen[role] += 1
    return types


def role_of(name: str) -> str:
    return next((role for mark, role in ROLES if mark in name), "")


def head_type(level: Level) -> QType:
    """The output matrix, or the embedding when it serves as one, is kept finer than the rest."""
    return level.qtype if level.qtype == QType.Q8_0 else QType.Q6_K


def wanted_type(level: Level, role: str, place: Place) -> QType:
    if role in ("attn_v", "attn_k") and eight_experts(place):
        return QType.Q8_0
    mix = MIXES.get(role, {}).get(level.name, ())
    wanted = next((qtype for condition, qtype in mix if condition(place)), level.qtype)
    if role == "attn_v" and place.facts.is_qwen2_72b and wanted in (QType.Q3_K, QType.Q4_K):
        return QType.Q5_K
    return wanted


def fitting_type(wanted: QType, row: int) -> QType:
    """``wanted``, or what llama.cpp falls back to where the row is no multiple of its block."""
    if row % block_size(wanted) == 0:
        return wanted
    smaller = FALLBACK.get(wanted, wanted)
    return smaller if row % block_size(smaller) == 0 else QType.F16
