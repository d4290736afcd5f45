"""A checkpoint folder: its JSON files, and its safetensors shards as named tensors whose rows can be read.

The format of a shard (https://huggingface.co/docs/safetensors): 8 bytes little-endian header length, a JSON
header ``{name: {dtype, shape, data_offsets}}``, then one buffer that the tensors fill without gap or overlap.
Every number in it is untrusted and checked before use.
"""

from __future__ import annotations

import json
import math
import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from convert.errors import CheckpointError, UnsupportedError

ITEM_SIZE = {"F32": 4, "F16": 2, "BF16": 2}
KNOWN_DTYPES = {"F64", "F32", "F16", "BF16", "I64", "I32", "I16", "I8", "U64", "U32", "U16", "U8", "BOOL"}
MAX_HEADER = 100_000_000  # bytes; the safetensors library has the same limit
MAX_CONFIG = 4_000_000  # bytes; real ones have some kilobytes
MAX_LIST = 64_000_000  # bytes of a tokenizer.json or an index; the largest real ones have about 20 MB
LISTS = {"tokenizer.json", "model.safetensors.index.json"}
LFS_POINTER = b"version https://git-lfs"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")
NUMBERED = re.compile(r"^(.*)-(\d{5})-of-(\d{5})\.safetensors$")


@dataclass(frozen=True)
class StoredTensor:
    """One tensor as it lies on disk: ``shape`` outermost first, ``offset`` in bytes from the file's start."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    offset: int
    nbytes: int

    @property
    def row_elements(self) -> int:
        return self.shape[-1] if self.shape else 1

    @property
    def rows(self) -> int:
        return math.prod(self.shape[:-1])

    @property
    def row_bytes(self) -> int:
        return self.row_elements * ITEM_SIZE[self.dtype]


@dataclass
class Checkpoint:
    """``tensors`` are in the order of the shards' names, then of the tensors' names."""

    folder: Path
    config: dict[str, Any]
    tensors: dict[str, StoredTensor]
    _handles: dict[Path, int] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def json(self, name: str) -> dict[str, Any]:
        """The JSON object in file ``name``, or an empty one when there is no such file."""
        path = self.folder / name
        return read_json(path) if path.is_file() else {}

    def read_into(self, tensor: StoredTensor, first_byte: int, buffer: memoryview) -> None:
        """Fill ``buffer`` with the tensor's bytes from ``first_byte`` on. Any thread may call it."""
        position, view = tensor.offset + first_byte, buffer
        try:
            handle = self._handle(tensor.path)
            while view.nbytes:
                got = self._read_at(handle, view, position)
                if got == 0:
                    raise CheckpointError(f"{tensor.path.name} ends in the middle of {tensor.name}", FETCH_AGAIN)
                position, view = position + got, view[got:]
        except OSError as error:
            raise CheckpointError(f"cannot read {tensor.path}: {error.strerror or error}") from error

    def _handle(self, path: Path) -> int:
        with self._lock:
            if path not in self._handles:
                self._handles[path] = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
            return self._handles[path]

    def _read_at(self, handle: int, view: memoryview, position: int) -> int:
        if hasattr(os, "preadv"):
            return os.preadv(handle, [view], position)
        with self._lock:  # Windows has no positional read
            os.lseek(handle, position, os.SEEK_SET)
            data = os.read(handle, view.nbytes)
        view[: len(data)] = data
        return len(data)

    def close(self) -> None:
        for handle in self._handles.values():
            os.close(handle)
        self._handles.clear()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


FETCH_AGAIN = "the file is incomplete or damaged: fetch it again"


def open_checkpoint(folder: Path) -> Checkpoint:
    """Read config and shard headers, no weights. Raises CheckpointError or UnsupportedError, naming the file."""
    if not folder.exists():
        raise CheckpointError(f"{folder} does not exist", "give the folder that holds config.json and *.safetensors")
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is not a folder", "give the folder that holds config.json")
    try:
        refuse_adapter(folder)
        if not (folder / "config.json").is_file():
            raise CheckpointError(f"{folder} has no config.json", "is this a Hugging Face checkpoint folder?")
        config = read_json(folder / "config.json")
        refuse_quantized(config)
        tensors: dict[str, StoredTensor] = {}
        listed = read_index(folder)
        for path in shard_paths(folder, listed):
            for tensor in read_shard(path):
                if tensor.name in tensors:
                    other = tensors[tensor.name].path.name
                    raise CheckpointError(f"tensor {tensor.name} is in both {other} and {path.name}", FETCH_AGAIN)
                tensors[tensor.name] = tensor
    except OSError as error:
        raise CheckpointError(f"cannot read {error.filename or folder}: {error.strerror or error}") from error
    check_index(listed, tensors)
    return Checkpoint(folder, config, tensors)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; anything else, and NaN or Infinity, is a CheckpointError."""

    def refuse_constant(text: str) -> NoReturn:
        raise ValueError(f"{text} is not JSON")

    most = MAX_LIST if path.name in LISTS else MAX_CONFIG
    if path.stat().st_size > most:
        raise CheckpointError(f"{path.name} is larger than {most // 10**6} MB", "it cannot be what its name says")
    try:
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    refuse_lfs_pointer(path.name, data[: len(LFS_POINTER)])
    try:
        value = json.loads(data.decode("utf-8"), parse_constant=refuse_constant)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path.name} is not valid JSON: {error}", FETCH_AGAIN) from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path.name} does not hold a JSON object", FETCH_AGAIN)
    return value


def refuse_lfs_pointer(name: str, head: bytes) -> None:
    if head.startswith(LFS_POINTER):
        raise CheckpointError(f"{name} is a git-lfs pointer, not the file itself", "run `git lfs pull` in the folder")


def refuse_adapter(folder: Path) -> None:
    if (folder / "adapter_config.json").exists():
        raise UnsupportedError(
            "this is a LoRA adapter, not a whole model",
            "merge it into its base model first (peft: merge_and_unload, then save_pretrained)",
        )


def refuse_quantized(config: dict[str, Any]) -> None:
    quantization = config.get("quantization_config") or config.get("compression_config")
    if quantization:
        method = quantization.get("quant_method") if isinstance(quantization, dict) else None
        raise UnsupportedError(
            f"the checkpoint is already quantized ({method or 'quantization_config in config.json'})",
            "convert the original bf16, f16 or f32 checkpoint instead",
        )


def read_index(folder: Path) -> dict[str, str] | None:
    """Tensor name -> shard name from model.safetensors.index.json, or None when there is no index."""
    path = folder / "model.safetensors.index.json"
    if not path.is_file():
        return None
    listed = read_json(path).get("weight_map")
    if not isinstance(listed, dict) or not listed:
        raise CheckpointError(f"{path.name} has no weight_map", FETCH_AGAIN)
    for name, shard in listed.items():
        if (
            not isinstance(shard, str)
            or not shard
            or Path(shard).name != shard
            or "\\" in shard
            or shard in (".", "..")
        ):
            raise CheckpointError(f"{path.name} names a shard outside the folder: {shard!r} (tensor {name})")
    return listed


def shard_paths(folder: Path, listed: dict[str, str] | None) -> list[Path]:
    """The shards to read, sorted by name; missing ones and unlisted ones are errors."""
    present = sorted(path.name for path in folder.glob("model*.safetensors"))
    if listed is not None:
        wanted = sorted(set(listed.values()))
        if missing := [name for name in wanted if not (folder / name).is_file()]:
            raise CheckpointError(
                f"missing {enumerate_names(missing)}, named in model.safetensors.index.json", "fetch it"
            )
        if extra := [name for name in present if name not in wanted]:
            raise CheckpointError(
                f"{enumerate_names(extra)} is in the folder but not in model.safetensors.index.json",
                "remove it, or fetch the index that belongs to it",
            )
        return [folder / name for name in wanted]
    if not present:
        if any(path for pattern in PICKLES for path in folder.glob(pattern)):
            raise UnsupportedError(
                "the weights are pickle files (.bin, .pt), which can run code when read",
                "get the safetensors version of the model, or save it again with save_pretrained",
            )
        raise CheckpointError(f"{folder} has no model*.safetensors", "is the download complete?")
    if len(present) == 1 and not NUMBERED.match(present[0]):
        return [folder / present[0]]
    numbers = [NUMBERED.match(name) for name in present]
    first = numbers[0]
    if first is None or any(m is None or m.group(1, 3) != first.group(1, 3) for m in numbers):
        raise CheckpointError(
            f"cannot tell which of {enumerate_names(present)} belong together", "leave only one model"
        )
    have = {int(m.group(2)) for m in numbers if m}
    if missing := [i for i in range(1, int(first.group(3)) + 1) if i not in have]:
        names = [f"{first.group(1)}-{i:05d}-of-{first.group(3)}.safetensors" for i in missing]
        raise CheckpointError(f"missing {enumerate_names(names)}", "fetch it")
    return [folder / name for name in present]


def check_index(listed: dict[str, str] | None, tensors: dict[str, StoredTensor]) -> None:
    if listed is None:
        return
    for name, shard in listed.items():
        if name not in tensors:
            raise CheckpointError(f"tensor {name} should be in {shard} but is not", FETCH_AGAIN)
        if tensors[name].path.name != shard:
            raise CheckpointError(
                f"tensor {name} should be in {shard} but is in {tensors[name].path.name}", FETCH_AGAIN
            )
    if extra := next((name for name in tensors if name not in listed), None):
        raise CheckpointError(f"tensor {extra} in {tensors[extra].path.name} is not in the index", FETCH_AGAIN)


def read_shard(path: Path) -> Iterator[StoredTensor]:
    """The tensors of one safetensors file, sorted by name, each proved to lie inside the file."""

    def bad(what: str) -> CheckpointError:
        return CheckpointError(f"{path.name}: {what}", FETCH_AGAIN)

    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(8)
        refuse_lfs_pointer(path.name, head + file.read(len(LFS_POINTER) - 8))
        length = int.from_bytes(head, "little")
        if len(head) < 8 or length < 2:
            raise bad("is too short to be a safetensors file")
        if length > MAX_HEADER:
            raise bad(f"claims a header of {length} bytes; the limit is {MAX_HEADER}")
        if 8 + length > size:
            raise bad(f"is truncated: its header needs {8 + length} bytes, the file has {size}")
        file.seek(8)
        raw = file.read(length)
    header = parse_header(raw, bad)
    stored = [parse_entry(path, name, entry, 8 + length, bad) for name, entry in header.items()]
    check_coverage(stored, 8 + length, size, bad)
    yield from sorted(stored, key=lambda tensor: tensor.name)


def parse_header(raw: bytes, bad: Any) -> dict[str, Any]:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        seen = dict(pairs)
        if len(seen) != len(pairs):
            most = Counter(name for name, _ in pairs).most_common(1)
            raise ValueError(f"{most[0][0]!r} is there twice")
        return seen

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=unique)
    except (ValueError, RecursionError) as error:
        raise bad(f"header is not valid: {error}") from error
    if not isinstance(header, dict):
        raise bad("header is not a JSON object")
    header.pop("__metadata__", None)
    if not header:
        raise bad("holds no tensors")
    return header


def parse_entry(path: Path, name: str, entry: Any, data_start: int, bad: Any) -> StoredTensor:
    def is_count(value: Any) -> bool:
        return type(value) is int and 0 <= value < 2**63

    if not isinstance(entry, dict):
        raise bad(f"{name}: entry is not an object")
    dtype, shape, offsets = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str):
        raise bad(f"{name}: no dtype")
    if dtype not in ITEM_SIZE:
        if dtype.startswith("F8") or dtype.startswith("F4") or dtype in KNOWN_DTYPES:
            raise UnsupportedError(
                f"{path.name}: {name} has dtype {dtype}; only BF16, F16 and F32 weights can be converted",
                "convert the original checkpoint, not a quantized one",
            )
        raise bad(f"{name}: unknown dtype {dtype!r}")
    if not isinstance(shape, list) or not all(is_count(n) for n in shape) or len(shape) > 8:
        raise bad(f"{name}: shape {str(shape)[:60]} is not a list of at most eight sizes")
    if not isinstance(offsets, list) or len(offsets) != 2 or not all(is_count(n) for n in offsets):
        raise bad(f"{name}: data_offsets are not two positions")
    begin, end = offsets
    if end - begin != math.prod(shape) * ITEM_SIZE[dtype]:
        raise bad(f"{name}: shape {shape} in {dtype} does not take the {end - begin} bytes it claims")
    return StoredTensor(name, dtype, tuple(shape), path, data_start + begin, end - begin)


def check_coverage(stored: list[StoredTensor], data_start: int, size: int, bad: Any) -> None:
    """The tensors must fill the data section exactly: no gap, no overlap, nothing after the end."""
    position = data_start
    for tensor in sorted(stored, key=lambda tensor: (tensor.offset, tensor.nbytes)):
        if tensor.offset != position:
            what = "overlaps another tensor" if tensor.offset < position else "leaves a gap before it"
            raise bad(f"{tensor.name} {what}")
        position += tensor.nbytes
    if position > size:
        raise bad(f"is truncated: {position} bytes expected, {size} there")
    if position < size:
        raise bad(f"has {size - position} bytes that belong to no tensor")


def enumerate_names(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
