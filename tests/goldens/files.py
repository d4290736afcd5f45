"""Golden files: one a case, a section a level, the lines of its listing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from tests.goldens.listing import Listing, Tensor

HEAD = """\
# Made by `python -m tests.oracle.make_goldens` from llama.cpp's own two steps on x86_64. Not for editing.
# A section a level: metadata (key type value), the size of the tensor data, then the tensors in the order of
# the file (name type shape hash). Values and hashes are shortened as tests/goldens/listing.py says.
"""


def golden_path(case: str) -> Path:
    return Path(__file__).with_name(f"{case}.txt")


def write_golden(path: Path, listings: Mapping[str, Listing]) -> None:
    parts = [HEAD]
    for level, found in listings.items():
        lines = [f"[{level}]", *found.metadata, "", f"{found.data_size} bytes", *map(str, found.tensors)]
        parts.append("\n".join(lines) + "\n")
    path.write_text("\n".join(parts), encoding="utf-8", newline="\n")


def read_golden(path: Path) -> dict[str, Listing]:
    """Level -> what its file must hold."""
    listings: dict[str, Listing] = {}
    for section in path.read_text(encoding="utf-8").split("\n[")[1:]:
        title, rest = section.split("]\n", 1)
        metadata, tensors = rest.strip().split("\n\n")
        size, *lines = tensors.splitlines()
        listings[title] = Listing(
            tuple(metadata.splitlines()), tuple(read_tensor(line) for line in lines), int(size.split()[0])
        )
    return listings


def read_tensor(line: str) -> Tensor:
    name, qtype, shape, digest = line.split()
    return Tensor(name, qtype, tuple(map(int, shape.split("x"))), digest)
