"""Checkpoints with the shapes of large models and random weights, made in slabs: only their sizes matter."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tests.checkpoints import FAMILIES, model_config, read_json, tensor_shapes, weights, write_json
from tests.checkpoints.family import Sizes


@dataclass(frozen=True)
class Shape:
    """A published model's sizes, with fewer layers."""

    family: str
    sizes: Mapping[str, Any]


QWEN_7B = {"hidden": 3584, "ffn": 18944, "heads": 28, "kv_heads": 4, "vocab": 152064, "layers": 8}
QWEN_30B_A3B = {"hidden": 2048, "ffn": 6144, "heads": 32, "kv_heads": 4, "head_dim": 128, "vocab": 151936, "layers": 3}
EXPERTS = {"experts": 128, "experts_used": 8, "moe_ffn": 768}
SHAPES = {
    "7B": Shape("qwen2", {**QWEN_7B, "tied": False}),
    "30B-A3B": Shape("qwen3moe", {**QWEN_30B_A3B, **EXPERTS, "tied": False}),
}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "vocab.json", "merges.txt")
SHARDS = 4
BLOCK = 1 << 22  # weights of the random stream, which then repeats


def shaped_checkpoint(folder: Path, real: Path, model: str) -> Path:
    """A model of SHAPES in bf16 and four shards; tokenizer from `real`."""
    if (folder / "model.safetensors.index.json").is_file():  # written last
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER:
        shutil.copyfile(real / name, folder / name)
    family, sizes = FAMILIES[SHAPES[model].family], SHAPES[model].sizes
    config = model_config(family, Sizes(**{**family.sizes, **sizes}), "bf16", rope="old")
    ids = {key: value for key, value in read_json(real / "config.json").items() if key.endswith("_token_id")}
    write_json(folder / "config.json", config | ids)
    shapes = tensor_shapes(SHAPES[model].family, **sizes)
    block = weights("block", (BLOCK,), "bf16").data.tobytes()
    where: dict[str, str] = {}
    for i, names in enumerate(np.array_split(list(shapes), SHARDS)):
        file = f"model-{i + 1:05}-of-{SHARDS:05}.safetensors"
        write_shard(folder / file, {str(name): shapes[str(name)] for name in names}, block)
        where |= {str(name): file for name in names}
    write_json(folder / "model.safetensors.index.json", {"metadata": {}, "weight_map": where})
    return folder


def write_shard(path: Path, shapes: dict[str, tuple[int, ...]], block: bytes) -> None:
    header, offset = {}, 0
    for name, shape in shapes.items():
        end = offset + 2 * math.prod(shape)
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, end]}
        offset = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for shape in shapes.values():
            for piece in pieces(2 * math.prod(shape), block):
                file.write(piece)


def pieces(size: int, block: bytes) -> Iterator[bytes]:
    for done in range(0, size, len(block)):
        yield block[: size - done]
