"""A GGUF as a list a person can read and a test can compare; and the metadata keys that may differ.

One line a metadata key: key, type, value; a long value as its length and a hash. One line a tensor, in the
order of the file: name, type, shape (GGUF order), the first 16 hex digits of the SHA-256 of its bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from gguf import GGMLQuantizationType, GGUFReader, GGUFValueType, ReaderField

# Keys outside the comparison, by prefix: they come from the folder's name and the model card, or name the
# program that wrote the file. Everything else must be equal in key, order, type and value.
OUTSIDE = (
    "general.name",
    "general.author",
    "general.version",
    "general.organization",
    "general.finetune",
    "general.basename",
    "general.description",
    "general.quantized_by",
    "general.size_label",
    "general.license",
    "general.url",
    "general.doi",
    "general.uuid",
    "general.repo_url",
    "general.source.",
    "general.base_model.",
    "general.dataset.",
    "general.tags",
    "general.languages",
    "edge.",
)

# Keys that ours may have where llama.cpp's converter writes none; where it writes one, it must be the same.
# It reads one eos id only; a second end of generation (GLM's <|observation|>) would run on.
#
# One value differs on purpose and in no golden: `original_max_position_embeddings` at the top of config.json beside
# another one in the rope settings. transformers computes with the first, llama.cpp's converter writes the second.
#
# GLM-4.7-Flash scores experts by a sigmoid; without the key llama.cpp takes softmax but for that one size of model.
# The first revision of Qwen calls the size ffn_hidden_size, which it does not read; the file does not load.
MAY_BE_ADDED = (
    "qwen.feed_forward_length",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.eom_token_id",
    "deepseek2.expert_gating_func",
)

LONG = 100  # characters of a value that are still shown
FLOATS = {GGMLQuantizationType.F32, GGMLQuantizationType.F16, GGMLQuantizationType.BF16}


@dataclass(frozen=True)
class Tensor:
    """One line of the tensor list; `digest` is empty in a comparison that leaves the bytes out."""

    name: str
    qtype: str
    shape: tuple[int, ...]
    digest: str

    def __str__(self) -> str:
        return f"{self.name} {self.qtype} {'x'.join(map(str, self.shape))} {self.digest}"


@dataclass(frozen=True)
class Listing:
    """What a GGUF holds: metadata lines and tensor lines, both in the order of the file."""

    metadata: tuple[str, ...]
    tensors: tuple[Tensor, ...]
    data_size: int  # from the first tensor's first byte to the end of the file, padding included

    def without_quantized_bytes(self) -> Listing:
        """The same with the hashes of quantized tensors left out: those belong to an architecture."""
        floats = {kind.name for kind in FLOATS}
        return Listing(
            self.metadata,
            tuple(t if t.qtype in floats else Tensor(t.name, t.qtype, t.shape, "") for t in self.tensors),
            self.data_size,
        )


def listing(path: Path) -> Listing:
    """Read a GGUF with the `gguf` library, the reader that is not ours."""
    reader = GGUFReader(path)
    metadata = tuple(
        describe(key, field)
        for key, field in reader.fields.items()
        if not key.startswith("GGUF.") and not key.startswith(OUTSIDE)
    )
    tensors = tuple(
        Tensor(
            t.name,
            t.tensor_type.name,
            tuple(int(n) for n in t.shape),
            hashlib.sha256(t.data.tobytes()).hexdigest()[:16],
        )
        for t in reader.tensors
    )
    return Listing(metadata, tensors, path.stat().st_size - reader.data_offset)


def describe(key: str, field: ReaderField) -> str:
    """`key type value`, for example `qwen2.block_count u32 4`."""
    value = field.contents()
    kinds = [SHORT[kind] for kind in field.types]
    kind = f"[{kinds[1]}]" if kinds[0] == "array" else kinds[0]
    shown = json.dumps(value, ensure_ascii=False)
    if len(shown) > LONG:
        digest = hashlib.sha256(shown.encode()).hexdigest()[:16]
        shown = f"{len(value)} long, sha256 {digest}"
    return f"{key} {kind} {shown}"


SHORT = {
    GGUFValueType.UINT32: "u32",
    GGUFValueType.INT32: "i32",
    GGUFValueType.UINT64: "u64",
    GGUFValueType.INT64: "i64",
    GGUFValueType.FLOAT32: "f32",
    GGUFValueType.FLOAT64: "f64",
    GGUFValueType.BOOL: "bool",
    GGUFValueType.STRING: "str",
    GGUFValueType.ARRAY: "array",
    GGUFValueType.UINT8: "u8",
    GGUFValueType.INT8: "i8",
    GGUFValueType.UINT16: "u16",
    GGUFValueType.INT16: "i16",
}


def differences(expected: Listing, found: Listing, corrected: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """Every line in which `found` differs from `expected`; empty when they agree.

    `corrected`: key -> type and value that are right where llama.cpp's converter writes another; "" for a key that
    ours need not have.
    """
    wrong = {line.split(" ", 1)[0]: line for line in expected.metadata}
    right = {wrong[key]: f"{key} {value}" if value else "" for key, value in corrected.items()}
    lines = (right.get(line, line) for line in expected.metadata)
    expected = replace(expected, metadata=tuple(line for line in lines if line))
    known = {line.split(" ", 1)[0] for line in expected.metadata}
    metadata = [line for line in found.metadata if (key := line.split(" ", 1)[0]) in known or key not in MAY_BE_ADDED]
    found_lines = [*unlike(expected.metadata, metadata), *unlike(expected.tensors, found.tensors)]
    if expected.data_size != found.data_size:
        found_lines.append(f"{found.data_size} bytes of data, expected {expected.data_size}")
    return found_lines


def unlike(expected: Iterable[Any], found: Iterable[Any]) -> list[str]:
    wanted, got = [str(line) for line in expected], [str(line) for line in found]
    if wanted == got:
        return []
    lines = [f"- {line}" for line in wanted if line not in set(got)]
    lines += [f"+ {line}" for line in got if line not in set(wanted)]
    if not lines:
        first = next(i for i, (a, b) in enumerate(zip(wanted, got, strict=False)) if a != b)
        lines = ["the same lines in another order, first:", f"- {wanted[first]}", f"+ {got[first]}"]
    return lines


def same_data(one: Path, other: Path) -> bool:
    """Whether two GGUFs are the same from the first tensor's first byte to the end, padding included."""
    with one.open("rb") as a, other.open("rb") as b:
        a.seek(GGUFReader(one).data_offset)
        b.seek(GGUFReader(other).data_offset)
        while block := a.read(1 << 24):
            if block != b.read(1 << 24):
                return False
        return not b.read(1)
