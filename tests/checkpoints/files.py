"""The files of a checkpoint: JSON, and safetensors in one file or in shards with an index."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.checkpoints.weights import Stored


def write_shards(folder: Path, tensors: Mapping[str, Stored], shards: int) -> None:
    """`model.safetensors`, or `shards` files of about equally many tensors with an index."""
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return
    names = list(tensors)
    files = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    where = {name: files[i * shards // len(names)] for i, name in enumerate(names)}
    for file in files:
        write_safetensors(folder / file, {name: tensors[name] for name in names if where[name] == file})
    total = sum(stored.data.nbytes for stored in tensors.values())
    write_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": total}, "weight_map": where})


def write_safetensors(path: Path, tensors: Mapping[str, Stored]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for name, stored in tensors.items():
        end = offset + stored.data.nbytes
        header[name] = {
            "dtype": stored.dtype,
            "shape": list(stored.data.shape),
            "data_offsets": [offset, end],
        }
        offset = end
    raw = json.dumps(header).encode()
    raw += b" " * (-len(raw) % 8)
    with path.open("wb") as file:
        file.write(len(raw).to_bytes(8, "little") + raw)
        for stored in tensors.values():
            file.write(stored.data.tobytes())


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2) + "\n", encoding="utf-8", newline="\n")


def edit_json(path: Path, **changes: Any) -> None:
    """Set keys of a JSON file."""
    write_json(path, read_json(path) | changes)


def split_safetensors(folder: Path) -> tuple[int, int]:
    """Bytes of headers, and of tensor data, in all shards of the folder."""
    headers, total = 0, 0
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            headers += 8 + int.from_bytes(file.read(8), "little")
        total += path.stat().st_size
    return headers, total - headers
