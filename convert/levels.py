"""Quant levels, and llama.cpp's rules for the type of each tensor. Pure.

The rules follow ``llama_tensor_get_type_impl`` and ``tensor_type_fallback`` of llama.cpp, so that a file made
here has the types, and so the bytes, that ``llama-quantize`` would give it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
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
        Level("Q4_K_M", FType.MOSTLY_Q4_K_M, QType.Q4_K),
        Level("Q4_0", FType.MOSTLY_Q4_0, QType.Q4_0),
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
}


class Shaped(Protocol):
    """A tensor of the output: ``shape`` outermost first, as it will be in the GGUF."""

    @property
    def name(self) -> str: ...
    @property
    def shape(self) -> tuple[int, ...]: ...


@dataclass(frozen=True)
class ModelFacts:
    """What the rules ask of a model besides its tensors."""

    architecture: str
    layers: int
    heads: int
    kv_heads: int
    experts: int = 0

    @property
    def is_qwen2_72b(self) -> bool:
        return self.architecture == "qwen2" and self.layers == 80


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
    match = re.match(r"blk\.(\d+)\.", name)
    return (int(match.group(1)) if match else -1), name.encode()


def tensor_types(level: Level, tensors: Iterable[Shaped], facts: ModelFacts) -> dict[str, QType]:
    """The type of every tensor at ``level``."""
    by_name = {tensor.name: tensor for tensor in tensors}
    if level.is_float:
        return {name: level.qtype if quantizable(tensor) else QType.F32 for name, tensor in by_name.items()}
    ordered = sorted(by_name, key=layer_then_name)
    tied = "output.weight" not in by_name
    seen = {"attn_v": 0, "ffn_down": 0}  # how many came before, in file order
    totals = {"attn_v": sum(name.endswith("attn_v.weight") for name in ordered), "ffn_down": facts.layers}
    types: dict[str, QType] = {}
    for name in ordered:
        tensor = by_name[name]
        if not quantizable(tensor):
            types[name] = QType.F32
            continue
        role = name.split(".")[-2]
        if role == "output" or (role == "token_embd" and tied):
            wanted = output_type(level, tensor.shape[-1])
        elif role in seen:
            wanted = sensitive_type(level, role, seen[role], totals[role], facts)
            seen[role] += 1
        elif role == "attn_output" and level.name == "Q2_K":
            wanted = QType.Q3_K
        else:
            wanted = level.qtype
        types[name] = fitting_type(wanted, tensor.shape[-1])
    return types


def quantizable(tensor: Shaped) -> bool:
    """Matrices are quantized; vectors, norms and biases stay F32."""
    return len(tensor.shape) >= 2 and tensor.name.endswith(".weight") and not tensor.name.endswith("_norm.weight")


def output_type(level: Level, row: int) -> QType:
    """The output matrix, or the embedding when it serves as one, is kept finer than the rest."""
    if row % block_size(level.qtype):
        return QType.Q8_0
    return level.qtype if level.qtype == QType.Q8_0 else QType.Q6_K


def sensitive_type(level: Level, role: str, index: int, total: int, facts: ModelFacts) -> QType:
    """attn_v and ffn_down hurt most when coarse: some layers of them get more bits."""
    wanted = level.qtype
    if level.name == "Q4_K_M" and use_more_bits(index, total):
        wanted = QType.Q6_K
    elif level.name == "Q2_K":
        wanted = QType.Q4_K if role == "attn_v" and facts.heads // facts.kv_heads >= 4 else QType.Q3_K
    if role == "attn_v" and facts.is_qwen2_72b and wanted in (QType.Q3_K, QType.Q4_K):
        wanted = QType.Q5_K
    return wanted


def use_more_bits(index: int, total: int) -> bool:
    """The first eighth, the last eighth, and every third layer between them."""
    return index < total // 8 or index >= 7 * total // 8 or (index - total // 8) % 3 == 2


def fitting_type(wanted: QType, row: int) -> QType:
    """``wanted``, or what llama.cpp falls back to where the row is no multiple of its block."""
    if row % block_size(wanted) == 0:
        return wanted
    smaller = FALLBACK.get(wanted, wanted)
    return smaller if row % block_size(smaller) == 0 else QType.F16
