"""Slabs: memory that does not grow with the model, borders that change no byte."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from convert import slabs
from convert.architecture import plan
from convert.architectures import REGISTRY
from convert.checkpoint import open_checkpoint
from convert.imatrix import Imatrix
from convert.pipeline import convert
from tests.checkpoints import Stored
from tests.convert.small import CASES, Small, build_small

# The peak is taken after a small conversion, so that what is loaded once does not count. It is that of a fork:
# on Linux a process begins with the peak of the one that started it.
CHILD = """
import os, resource, sys
if fork := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(fork, 0)[1]))
from pathlib import Path
from convert.pipeline import convert

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

small, large, out = map(Path, sys.argv[1:])
convert(small, {"Q8_0": out}, threads=2)
before = peak()
convert(large, {"Q8_0": out}, threads=2)
print(before, peak())
"""


def zeros(_: str, shape: tuple[int, ...], *__: object, **___: object) -> Stored:
    return Stored("BF16", np.zeros(shape, "<u2"))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no getrusage to ask for the peak of memory")
@pytest.mark.parametrize("layout", ["each", "fused"])
def test_memory_does_not_grow_with_the_experts_of_a_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    """llama.cpp's converter stacks all experts of a layer in memory, which small machines do not have."""
    monkeypatch.setattr("tests.checkpoints.weights", zeros)  # quicker, and nobody looks at them
    options = {"experts_layout": layout, "layers": 1}
    small = build_small(tmp_path / "small", "qwen3moe", **options)
    large = build_small(tmp_path / "large", "qwen3moe", **options, experts=64, hidden=768, moe_ffn=512, head_dim=64)
    experts = 64 * 3 * 768 * 512 * 2
    assert (large / "model.safetensors").stat().st_size > experts > 150_000_000
    command = [sys.executable, "-c", CHILD, str(small), str(large), str(tmp_path / "x.gguf")]
    child = subprocess.run(command, capture_output=True, text=True, check=True)
    before, after = map(int, child.stdout.split())
    assert after - before < 60_000_000, f"{before / 1e6:.0f} MB, then {after / 1e6:.0f} MB"


@pytest.mark.parametrize("elements", [100, 1 << 19])
@pytest.mark.parametrize("name", CASES)
def test_slabs_cover_every_output_and_stay_within_an_expert(
    small: Small, monkeypatch: pytest.MonkeyPatch, name: str, elements: int
) -> None:
    monkeypatch.setattr(slabs, "SLAB_ELEMENTS", elements)
    model = plan(small(name), REGISTRY)
    next_row = dict.fromkeys((tensor.name for tensor in model.tensors), 0)
    for slab in slabs.slabs(model.tensors):
        tensor, rows = slab.tensor, slab.source.row_elements if slab.tensor.transposed else slab.rows
        assert slab.out_row == next_row[tensor.name] and slab.rows > 0
        assert slab.first_row >= 0 and slab.first_row + slab.rows <= slab.source.rows
        assert tensor.transposed or slab.rows * slab.source.row_elements <= max(elements, slab.source.row_elements)
        if len(tensor.shape) == 3:
            assert slab.out_row // tensor.shape[1] == (slab.out_row + rows - 1) // tensor.shape[1]
        next_row[tensor.name] += rows
    assert next_row == {tensor.name: tensor.rows for tensor in model.tensors}


# Rows of 256, so that these levels have blocks for them
WIDE = {"hidden": 256, "ffn": 256, "moe_ffn": 256, "shared_ffn": 256, "linear_head_dim": 64}
LATENT = {"q_rank": 256, "kv_rank": 256, "nope_dim": 32, "value_dim": 64}


def measured(folder: Path) -> Imatrix:
    """Other weights for every column of every expert."""
    with open_checkpoint(folder) as checkpoint:
        tensors = plan(checkpoint, REGISTRY).tensors
    rng = np.random.default_rng(1)
    sizes = {t.name: math.prod(t.shape[-3:-2]) * t.shape[-1] for t in tensors if len(t.shape) > 1}
    return Imatrix("i.gguf", {name: rng.uniform(0.01, 9, n).astype(np.float32) for name, n in sizes.items()}, (), 0)


@pytest.mark.parametrize("name", ["qwen3moe", "qwen35moe", "glm4moelite-no-mtp"])
def test_borders_of_slabs_change_no_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Each expert has its own importance: a slab over two of them would quantize one with the other's."""
    folder = build_small(tmp_path / "checkpoint", name, **WIDE, **LATENT)
    imatrix = measured(folder)
    made = []
    for elements in (1 << 19, 3 * 256):
        monkeypatch.setattr(slabs, "SLAB_ELEMENTS", elements)
        outputs = {level: tmp_path / f"{level}.gguf" for level in ("F16", "Q4_0")}
        convert(folder, outputs, threads=2, imatrix=imatrix)
        made.append([path.read_bytes() for path in outputs.values()])
    assert made[0] == made[1]
    convert(folder, {"Q4_0": tmp_path / "plain.gguf"}, threads=2)
    assert made[0][1][-10_000:] != (tmp_path / "plain.gguf").read_bytes()[-10_000:]
