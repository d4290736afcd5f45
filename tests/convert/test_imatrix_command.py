"""``--imatrix`` as a person types it: both kinds of file, what is written, and what is refused before anything is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from convert import gguf_file
from convert.architecture import plan
from convert.architectures import REGISTRY
from convert.checkpoint import open_checkpoint
from edge.cli.main import cli
from tests.checkpoints import build
from tests.convert.test_imatrix import TAIL, dat, entry, write, write_gguf

OPTIONS: dict[str, Any] = {"family": "qwen3moe", "layers": 1, "moe_ffn": 256, "experts": 3}
KEYS = ["file", "dataset", "entries_count", "chunks_count"]
ENDING = [f"quantize.imatrix.{key}" for key in KEYS]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("model") / "checkpoint", **OPTIONS)


def sums(folder: Path) -> dict[str, np.ndarray]:
    """Squared activations [experts, row] of every matrix, each column another."""
    with open_checkpoint(folder) as checkpoint:
        tensors = [tensor for tensor in plan(checkpoint, REGISTRY).tensors if len(tensor.shape) > 1]
    rng = np.random.default_rng(2)
    shapes = {tensor.name: (*(tensor.shape[:-2] or (1,)), tensor.shape[-1]) for tensor in tensors}
    return {name: rng.uniform(0.01, 9, shape).astype(np.float32) for name, shape in shapes.items()}


def as_gguf(path: Path, measured: dict[str, np.ndarray]) -> Path:
    tensors = {f"{name}.in_sum2": values for name, values in measured.items()}
    counts = {f"{name}.counts": np.full((len(values), 1), 4, np.float32) for name, values in measured.items()}
    return write_gguf(path, tensors | counts)


def as_dat(path: Path, measured: dict[str, np.ndarray]) -> Path:
    """The older form holds what was summed over, times a number of calls."""
    return write(path, dat(*(entry(name.encode(), 4, values) for name, values in measured.items()), tail=TAIL))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(cli, ["convert", *map(str, arguments)])


@pytest.mark.parametrize("make", [as_gguf, as_dat], ids=["gguf", "dat"])
def test_an_imatrix_guides_quantization_and_is_named_last(tmp_path: Path, folder: Path, make: Any) -> None:
    measured = sums(folder)
    imatrix = make(tmp_path / "i.any", measured)
    made = run(folder, tmp_path / "x.gguf", "-l", "Q4_K_M", "--imatrix", imatrix, "--no-check")
    assert made.exit_code == 0, made.output
    metadata = gguf_file.read(tmp_path / "x.gguf").metadata
    assert list(metadata)[-4:] == ENDING
    chunks, dataset = (12, "a.txt") if make is as_gguf else (33, "calib.txt")
    assert [metadata[key] for key in ENDING] == [str(imatrix), dataset, len(measured), chunks]

    assert run(folder, tmp_path / "plain.gguf", "-l", "Q4_K_M", "--no-check").exit_code == 0
    plain = gguf_file.read(tmp_path / "plain.gguf")
    assert not any(key.startswith("quantize.imatrix") for key in plain.metadata)
    size = sum(tensor.nbytes for tensor in plain.tensors) // 2
    assert (tmp_path / "x.gguf").read_bytes()[-size:] != (tmp_path / "plain.gguf").read_bytes()[-size:]


def test_both_kinds_of_file_give_the_same_weights(tmp_path: Path, folder: Path) -> None:
    blobs = []
    for make in (as_gguf, as_dat):
        imatrix = make(tmp_path / "i.any", sums(folder))
        assert run(folder, tmp_path / "x.gguf", "-l", "Q4_0", "--imatrix", imatrix, "--no-check").exit_code == 0
        start = gguf_file.read(tmp_path / "x.gguf").data_offset
        blobs.append((tmp_path / "x.gguf").read_bytes()[start:])
    assert blobs[0] == blobs[1]


def test_float_levels_beside_quantized_ones_go_without(tmp_path: Path, folder: Path) -> None:
    imatrix = as_gguf(tmp_path / "i.gguf", sums(folder))
    place = ("--models-dir", tmp_path / "m", "--no-check")
    assert run(folder, *place, "-l", "F16,Q4_0", "--imatrix", imatrix).exit_code == 0
    found = [gguf_file.read(path).metadata for path in sorted((tmp_path / "m").rglob("*.gguf"))]
    assert [ENDING[0] in metadata for metadata in found] == [False, True]


OTHER = {
    "fewer experts": {**OPTIONS, "experts": 2},
    "longer rows": {**OPTIONS, "hidden": 512},
    "another family": {"family": "qwen", "layers": 1},
}


@pytest.mark.parametrize("dry", [[], ["--dry-run"]], ids=["for real", "dry run"])
@pytest.mark.parametrize("other", OTHER)
def test_the_imatrix_of_another_model_is_refused_before_anything_is_written(
    tmp_path: Path, folder: Path, other: str, dry: list[str]
) -> None:
    measured = sums(build(tmp_path / "other", **OTHER[other]))
    if other == "another family":
        measured = {name: values for name, values in measured.items() if "attn_qkv" in name}
    imatrix = as_gguf(tmp_path / "i.gguf", measured)
    result = run(folder, tmp_path / "x.gguf", "-l", "Q4_K_M", "--imatrix", imatrix, *dry)
    assert result.exit_code == 1 and result.stdout == ""
    assert result.stderr.count("\n") == 1 and result.stderr.startswith("error: i.gguf")
    assert "another" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"other", "i.gguf"}


@pytest.mark.parametrize("levels", ["F16", "BF16,F32"])
def test_only_float_levels_have_no_use_for_it(tmp_path: Path, folder: Path, levels: str) -> None:
    imatrix = as_gguf(tmp_path / "i.gguf", sums(folder))
    result = run(folder, "--models-dir", tmp_path / "m", "-l", levels, "--imatrix", imatrix, "--dry-run")
    assert result.exit_code == 2 and "--imatrix has no use at" in result.stderr and "Traceback" not in result.output
    assert {path.name for path in tmp_path.iterdir()} == {"i.gguf"}


@pytest.mark.parametrize("name", ["nothing.gguf", "checkpoint"])
def test_a_file_that_cannot_be_read(tmp_path: Path, folder: Path, name: str) -> None:
    path = folder if name == "checkpoint" else tmp_path / name
    result = run(folder, tmp_path / "x.gguf", "--imatrix", path)
    assert result.exit_code == 1 and result.stderr.startswith("error: cannot read ") and result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_dry_run_with_an_imatrix_says_the_same_size(tmp_path: Path, folder: Path) -> None:
    """Low levels choose finer types where nothing is measured, so that the imatrix changes the size."""
    imatrix = as_gguf(tmp_path / "i.gguf", sums(folder))
    arguments = (folder, tmp_path / "x.gguf", "-l", "Q2_K", "--imatrix", imatrix, "--json")
    planned = json.loads(run(*arguments, "--dry-run").stdout)["outputs"][0]["bytes"]
    assert run(*arguments, "--no-check").exit_code == 0
    assert (tmp_path / "x.gguf").stat().st_size == planned
    plain = run(folder, tmp_path / "x.gguf", "-l", "Q2_K", "--json", "--dry-run")
    assert json.loads(plain.stdout)["outputs"][0]["bytes"] != planned
