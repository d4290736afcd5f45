"""The real Qwen2.5-Coder-0.5B-Instruct: the bytes of llama.cpp's own two steps, and an answer in Chinese.

Slow (a minute or two) and needs about 2 GB of disk beside the checkpoint, which is fetched when it is missing.
"""

from __future__ import annotations

import platform
import re
import subprocess
import sys
from pathlib import Path

import pytest

from convert.pipeline import convert
from edge.gate import run_gate
from tests.goldens.files import read_golden
from tests.goldens.listing import differences, listing
from tests.real import fetch

GOLDEN = Path(__file__).with_name("golden.txt")
LEVELS = ("BF16", "Q8_0", "Q4_0", "Q4_K_M", "Q2_K")
ON_X86_64 = platform.machine().lower() in ("x86_64", "amd64")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every level, made in one run."""
    folder = tmp_path_factory.mktemp("real")
    outputs = {level: folder / f"real-{level}.gguf" for level in LEVELS}
    convert(fetch.real_checkpoint(), outputs)
    return outputs


@pytest.mark.parametrize("level", LEVELS)
def test_layout_and_metadata_are_the_oracles(level: str, files: dict[str, Path]):
    expected, ours = read_golden(GOLDEN)[level], listing(files[level])
    found = differences(expected.without_quantized_bytes(), ours.without_quantized_bytes())
    assert not found, "\n".join(found)


@pytest.mark.skipif(not ON_X86_64, reason=f"quantized bytes are those of x86_64, not of {platform.machine()}")
@pytest.mark.parametrize("level", LEVELS)
def test_every_byte_is_the_oracles(level: str, files: dict[str, Path]):
    found = differences(read_golden(GOLDEN)[level], listing(files[level]))
    assert not found, "\n".join(found)


def test_it_passes_the_gate(files: dict[str, Path]):
    found = run_gate(files["Q4_0"], fetch.real_checkpoint())
    assert found["passed"] is True and found["perplexity_en"] < 50 and found["texts_compared"] > 30


def test_it_answers_in_chinese(files: dict[str, Path]):
    """Through the command a person types."""
    command = [sys.executable, "-m", "edge", "run", str(files["Q4_K_M"]), "请用中文介绍一下北京。", "-n", "256"]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=300)
    assert done.returncode == 0, done.stderr
    assert len(re.findall("[\u4e00-\u9fff]", done.stdout)) > 20, done.stdout
    assert "北京" in done.stdout
