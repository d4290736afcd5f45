"""One output file before a byte of it is written: its metadata, and where each tensor lies as which type."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from convert.architecture import ModelPlan, plan
from convert.architectures import REGISTRY
from convert.checkpoint import Checkpoint
from convert.ggml import QType
from convert.imatrix import Imatrix, ImatrixError, imatrix_metadata
from convert.levels import Level, file_order, parse_level, tensor_types
from convert.metadata import KV, check_metadata, sampling_metadata
from convert.tokenizer import tokenizer_metadata
from convert.writer import GGUFWriter, TensorInfo, layout

QUANTIZATION_VERSION = 2  # GGML_QNT_VERSION


@dataclass(frozen=True)
class FilePlan:
    """One output file before a byte of it is written."""

    level: Level
    path: Path
    metadata: tuple[KV, ...]
    infos: tuple[TensorInfo, ...]
    imatrix: Imatrix | None = None

    @cached_property
    def nbytes(self) -> int:
        return GGUFWriter(self.path, self.metadata, self.infos).size

    @property
    def bits_per_weight(self) -> float:
        weights = sum(math.prod(info.shape) for info in self.infos)
        return 8 * sum(info.nbytes for info in self.infos) / weights


def plan_files(
    checkpoint: Checkpoint, outputs: Mapping[str, Path], imatrix: Imatrix | None = None, name: str | None = None
) -> tuple[ModelPlan, list[FilePlan]]:
    """Decide everything about the files: tensors, types, metadata. Reads no weights.

    The model is called ``name``, or as its folder. Float levels have no use for ``imatrix``.
    """
    model = plan(checkpoint, REGISTRY)
    called = name or checkpoint.folder.resolve().name
    first = [
        KV("general.architecture", "str", model.architecture.name),
        KV("general.type", "str", "model"),
        *sampling_metadata(checkpoint.json("generation_config.json")),
        KV("general.name", "str", called.encode("utf-8", "replace").decode()),
        *model.metadata,
    ]
    tokenizer = tokenizer_metadata(checkpoint, model.hparams["vocab_size"], model.architecture.special_tokens)
    check_metadata([*first, *model.family_metadata, *tokenizer])
    files = []
    for level_name, path in outputs.items():
        level = parse_level(level_name)
        used = None if level.is_float else imatrix
        types = tensor_types(level, model.tensors, model.facts, used is not None)
        shapes = {tensor.name: tensor.shape for tensor in model.tensors}
        infos = layout((tensor, written(shapes[tensor], level), types[tensor]) for tensor in file_order(level, shapes))
        if used:
            check_imatrix(used, infos)
        ftype = KV("general.file_type", "u32", int(level.ftype))
        version = KV("general.quantization_version", "u32", QUANTIZATION_VERSION)
        family = model.family_metadata
        # A family may settle a key that came before: the last value counts, at the first one's place.
        if level.is_float:  # the converter's order
            metadata = [*first, ftype, *family, version, *tokenizer]
        else:  # the quantizer moves these two to the end
            metadata = [*first, *family, *tokenizer, version, ftype, *(imatrix_metadata(used) if used else [])]
        files.append(FilePlan(level, path, tuple({kv.key: kv for kv in metadata}.values()), tuple(infos), used))
    return model, files


def check_imatrix(imatrix: Imatrix, infos: list[TensorInfo]) -> None:
    """Raises ImatrixError when the sizes in it are those of another model, or none of its tensors is here."""
    quantized = [info for info in infos if info.qtype != QType.F32]
    if not any([imatrix.weights_for(info.name, info.shape) is not None for info in quantized]):  # every size is checked
        raise ImatrixError(f"{Path(imatrix.file).name} measures no tensor of this model", "it was made for another one")


def written(shape: tuple[int, ...], level: Level) -> tuple[int, ...]:
    """The shape as the file has it: the quantizer leaves out leading dimensions of one."""
    while shape[0] == 1 and len(shape) > 1 and not level.is_float:
        shape = shape[1:]
    return shape
