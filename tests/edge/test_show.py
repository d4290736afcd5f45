"""What ``edge show`` says fell back: rows that fit no block, and never a deliberate mix."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from convert import gguf_file
from convert.gguf_file import GgufFile, TensorInfo
from convert.levels import LEVELS, parse_level, tensor_types
from edge import tuned
from edge.cli.main import cli
from edge.cli.show import describe, describe_fallbacks, fallbacks
from edge.shapes import Named, model_facts
from edge.tuned import Tuned
from edge.tuned_text import explain
from tests.edge import tiny_gguf

METADATA: dict[str, Any] = {
    "general.architecture": "qwen3",
    "qwen3.block_count": 9,
    "qwen3.attention.head_count": 8,
    "qwen3.attention.head_count_kv": 2,
}
QUANTIZED = [name for name, level in LEVELS.items() if not level.is_float]


def model(level: str, ffn: int, hidden: int = 256, **more: Any) -> GgufFile:
    """A file as the converter makes it; ``more`` is metadata."""
    shapes = {"token_embd.weight": (300, hidden), "output.weight": (300, hidden), "output_norm.weight": (hidden,)}
    for i in range(9):
        shapes |= {f"blk.{i}.{part}.weight": (64, hidden) for part in ("attn_q", "attn_k", "attn_v", "attn_output")}
        shapes |= {f"blk.{i}.ffn_down.weight": (hidden, ffn), f"blk.{i}.ffn_norm.weight": (hidden,)}
    metadata = METADATA | {key.replace("__", "."): value for key, value in more.items()}
    tensors = [Named(name, shape) for name, shape in shapes.items()]
    has_imatrix = "quantize.imatrix.entries_count" in metadata
    types = tensor_types(parse_level(level), tensors, model_facts(metadata), has_imatrix)
    infos = [TensorInfo(tensor.name, tensor.shape[::-1], types[tensor.name].name, 0, 0) for tensor in tensors]
    return GgufFile(Path("x.gguf"), 3, metadata, infos, 0, 0)


@pytest.mark.parametrize("level", LEVELS)
def test_a_mix_is_no_fallback(level: str) -> None:
    """Q4_0 has Q6_K and Q4_1, Q3_K_M has Q5_K and Q4_K: all of them because the level wants it so."""
    for more in ({}, {"quantize__imatrix__entries_count": 3}, {"qwen3__expert_count": 8}):
        assert fallbacks(model(level, 512, **more), level) == {}


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("Q8_0", {}),
        ("Q6_K", {"Q8_0": 9}),
        ("Q5_K_M", {"Q8_0": 5, "Q5_1": 4}),
        ("Q5_K_S", {"Q5_1": 9}),
        ("Q5_0", {}),
        ("Q4_K_M", {"Q8_0": 5, "Q5_0": 4}),
        ("Q4_K_S", {"Q5_1": 1, "Q5_0": 8}),
        ("Q4_1", {}),
        ("IQ4_NL", {"Q5_1": 1}),
        ("IQ4_XS", {"Q5_1": 1, "IQ4_NL": 8}),
        ("Q3_K_M", {"Q5_0": 9}),
        ("Q2_K", {"Q4_0": 9}),
        ("BF16", {}),
    ],
)
def test_rows_of_288_fit_no_block_of_256(level: str, expected: dict[str, int]) -> None:
    found = fallbacks(model(level, 288), level)
    assert {kind: len(names) for kind, names in found.items()} == expected
    assert all("ffn_down" in name for names in found.values() for name in names)


@pytest.mark.parametrize("level", QUANTIZED)
def test_rows_of_40_fit_no_block_at_all(level: str) -> None:
    assert {kind: len(names) for kind, names in fallbacks(model(level, 40), level).items()} == {"F16": 9}


def test_the_output_matrix_wants_q6_k_also_in_q4_0() -> None:
    assert fallbacks(model("Q4_0", 288, hidden=288), "Q4_0") == {"Q8_0": ["output.weight"]}


def test_the_text_names_one_of_each() -> None:
    text = describe_fallbacks({"Q5_0": ["a", "b"], "Q8_0": ["c"]})
    assert text == "2 to Q5_0 (as a); 1 to Q8_0 (as c): rows are no multiple of the wanted block"
    assert describe_fallbacks({}) == "no tensor"


def test_counts_by_layer_and_an_unknown_level() -> None:
    facts = model_facts(METADATA | {"qwen3.attention.head_count_kv": np.array([0, 2], np.int32)})
    assert (facts.heads, facts.kv_heads) == (8, 0)
    assert fallbacks(model("Q4_K_M", 288), None) == {}


def test_odd_metadata_is_shown_as_unknown(tmp_path: Path) -> None:
    """Regression: an array where a number was expected ended in a TypeError."""
    odd = {"general.file_type": [1, 2], "qwen2.context_length": [1, 2]}
    shown = describe(tiny_gguf.write(tmp_path / "t.gguf", odd))
    assert shown["level"] == "file type unknown" and shown["context_length"] == 0


# --- settings


TUNED = Tuned(2, 4, True, 256, 4, made="2026-11-29T06:20:00+00:00", measured={"decode threads": {"1": 9.5, "2": 18.0}})


def shown(path: Path, *options: str) -> str:
    asked = CliRunner().invoke(cli, ["show", str(path), "--models-dir", str(path.parent), *options])
    assert asked.exit_code == 0, asked.output
    return asked.stdout


def test_tuned_settings_are_explained(tmp_path: Path) -> None:
    """What each is, and by which tokens/s it was chosen."""
    path = tiny_gguf.write(tmp_path / "t.gguf")
    last = shown(path).splitlines()[-1]
    assert last == f"settings      defaults; edge tune {path} finds what this machine likes"
    tuned.save(tmp_path, gguf_file.read(path), TUNED)
    heading, *lines = shown(path).splitlines()[-6:]
    assert heading == "settings      measured by edge tune on this machine, 2026-11-29T06:20:00+00:00:"
    assert lines == [f"{'':14}{line}" for line in explain(TUNED)]
    assert lines[0] == "              decode threads  2     of 1: 9.5, 2: 18.0 tokens/s"


def test_tuned_settings_as_json(tmp_path: Path) -> None:
    path = tiny_gguf.write(tmp_path / "t.gguf")
    assert json.loads(shown(path, "--json"))["tuned"] is None
    tuned.save(tmp_path, gguf_file.read(path), TUNED)
    assert json.loads(shown(path, "--json"))["tuned"] == asdict(TUNED)


def test_settings_that_are_damaged_or_anothers_are_not_shown(tmp_path: Path) -> None:
    path = tiny_gguf.write(tmp_path / "t.gguf")
    kept = tuned.save(tmp_path, gguf_file.read(path), TUNED)
    kept.write_text(kept.read_text(encoding="utf-8").replace("256", "-1"), encoding="utf-8")
    assert "settings      defaults; " in shown(path)
    other = tiny_gguf.write(tmp_path / "other.gguf", {"qwen2.block_count": 1}, one_layer())
    tuned.save(tmp_path, gguf_file.read(other), TUNED)
    assert "settings      defaults; " in shown(path) and "settings      measured " in shown(other)


def one_layer() -> dict[str, np.ndarray]:
    return {name: weights for name, weights in tiny_gguf.tensors().items() if not name.startswith("blk.1.")}


def test_settings_of_untrusted_words_stay_on_their_lines(tmp_path: Path) -> None:
    """A models folder may come from somebody else."""
    path = tiny_gguf.write(tmp_path / "t.gguf")
    hostile = replace(TUNED, made="now\x1b[2J\nsettings", measured={"decode threads": {"\x1b[31m\n1": 1.0}})
    tuned.save(tmp_path, gguf_file.read(path), hostile)
    text = shown(path)
    assert "\x1b" not in text and len(text.splitlines()[-6:]) == 6 and text.splitlines()[-6].startswith("settings ")
