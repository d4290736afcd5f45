"""Our files against llama.cpp's own two steps, byte for byte. Needs torch and transformers; dev-only."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

import edge
from convert.pipeline import convert
from tests.goldens.cases import SOME_LEVELS
from tests.goldens.listing import differences, listing, same_data
from tests.oracle.cases import BYTE_CASES
from tests.oracle.two_steps import oracle

EMBEDDED = Path(edge.__file__).parent / "models"


def compare(
    checkpoint: Path,
    levels: tuple[str, ...],
    dtype: str,
    folder: Path,
    arguments: tuple[str, ...] = (),
    corrected: Mapping[str, str] | None = None,
) -> None:
    ours = {level: folder / f"ours-{level}.gguf" for level in levels}
    convert(checkpoint, ours, threads=2)
    theirs = oracle(checkpoint, levels, folder, dtype, arguments=arguments)
    for level in levels:
        found = differences(listing(theirs[level]), listing(ours[level]), corrected or {})
        assert not found, f"{checkpoint.name} {level}\n" + "\n".join(found)
        assert same_data(theirs[level], ours[level]), f"{checkpoint.name} {level}: data differs"


@pytest.mark.parametrize("name", BYTE_CASES)
def test_synthetic(name: str, tmp_path: Path):
    case = BYTE_CASES[name]
    compare(case.build(tmp_path / name), case.levels, case.dtype, tmp_path, case.arguments, case.corrected)


@pytest.mark.parametrize("name", ["tiny-qwen", "tiny-glm"])
def test_embedded(name: str, tmp_path: Path):
    compare(EMBEDDED / name, SOME_LEVELS, "bf16", tmp_path)


def test_real(real_checkpoint: Path, tmp_path: Path):
    """Needs about 5 GB of disk."""
    compare(real_checkpoint, ("BF16", "Q8_0", "Q6_K", "Q4_0", "Q4_K_M", "Q2_K"), "bf16", tmp_path)
