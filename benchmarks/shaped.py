"""A checkpoint with the shape of Qwen2.5-7B and random weights, made in slabs: only its sizes matter."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.checkpoints import read_json, tensor_shapes, weights, write_json

SEVEN_B = {"hidden": 3584, "ffn": 18944, "heads": 28, "kv_heads": 4, "vocab": 152064}
TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "vocab.json", "merges.txt")
SHARDS = 4
BLOCK = 1 << 22  # weights of the random stream, which then repeats


def shaped_checkpoint(folder: Path, real: Path, layers: int) -> Path:
    """Qwen2.5-7B's sizes with `layers` layers, bf16, untied, in four shards; tokenizer from `real`."""
    if (folder / "model.safetensors.index.json").is_file():  # written last
        return folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER:
        shutil.copyfile(real / name, folder / name)
    sizes = SEVEN_B
    write_json(
        folder / "config.json",
        read_json(real / "config.json")
        | {
            "hidden_size": sizes["hidden"],
            "intermediate_size": sizes["ffn"],
            "num_attention_heads": sizes["heads"],
            "num_hidden_layers": layers,
            "num_key_value_heads": sizes["kv_heads"],
            "tie_word_embeddings": False,
            "vocab_size": sizes["vocab"],
        },
    )
    head_dim = sizes["hidden"] // sizes["heads"]
    shapes = tensor_shapes("qwen2", layers=layers, head_dim=head_dim, **sizes)
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
