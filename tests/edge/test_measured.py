"""What a benchmark found, kept for plans; what is damaged counts as not measured."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert import gguf_file
from convert.gguf_file import GgufFile
from edge import machine
from edge.errors import StoreError
from edge.kept import MAX_BYTES
from edge.measured import FIGURES, figures, load, path_for, save
from tests.edge import tiny_gguf
from tests.edge.report.sample import sample

FOUND = {"pp512": 190.2, "tg128": 30.1, "decode": 27.0, "ttft": 2.7, "load": 0.8, "peak_memory": 520000000.0}


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> GgufFile:
    return gguf_file.read(tiny_gguf.write(tmp_path_factory.mktemp("measured") / "tiny.gguf"))


def test_the_figures_of_a_level_come_back(file: GgufFile, tmp_path: Path) -> None:
    """Those that a plan can be compared with, and no others."""
    models = tmp_path / "not" / "there"
    assert load(models, file) == {}
    save(models, file, {**FOUND, "level": "Q4_0", "tg128@4096": 22.0, "widths": {"0": {"1": 30.1}}})
    assert load(models, file) == FOUND
    assert path_for(models, file).parent == models / ".measured"
    save(models, file, {"pp512": 3})
    assert load(models, file) == {"pp512": 3.0}


def test_a_level_of_a_real_result() -> None:
    """The names are those of ``edge bench``."""
    level = sample()["levels"][0]
    found = figures(level)
    assert {"pp512", "tg128"} <= found.keys()
    assert found == {key: level[key] for key in FIGURES if key in level}


@pytest.mark.parametrize(
    "value", [0, -1.0, None, "30", True, [1.0], float("nan"), float("inf"), float("-inf"), 10**400, -(10**400)], ids=str
)
def test_what_is_no_rate_is_left_out(value: Any, file: GgufFile, tmp_path: Path) -> None:
    """A number of 401 digits was an OverflowError in every plan."""
    assert figures({"pp512": value, "tg128": 2.0}) == {"tg128": 2.0}
    save(tmp_path, file, {"tg128": 2.0})
    path_for(tmp_path, file).write_text(json.dumps({"pp512": value, "tg128": 2.0}), encoding="utf-8")
    assert load(tmp_path, file) == {"tg128": 2.0}


@pytest.mark.parametrize(
    "content", [b"", b"{", b"null", b"[1]", b"\xff", b"[" * 50_000, b" " * MAX_BYTES + b"{}"], ids=lambda c: repr(c[:8])
)
def test_a_damaged_file_counts_as_not_measured(content: bytes, file: GgufFile, tmp_path: Path) -> None:
    save(tmp_path, file, FOUND)
    path_for(tmp_path, file).write_bytes(content)
    assert load(tmp_path, file) == {}


@settings(deadline=None)
@given(
    st.dictionaries(st.sampled_from(FIGURES) | st.text(max_size=4), st.floats() | st.integers() | st.none() | st.text())
)
def test_figures_are_positive_numbers(value: dict[str, Any]) -> None:
    found = figures(value)
    assert found.keys() <= value.keys() & set(FIGURES)
    assert all(type(one) is float and 0 < one < float("inf") for one in found.values())
    assert figures(found) == found


def test_another_machine_or_model_has_its_own(file: GgufFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path, file, FOUND)
    assert load(tmp_path, replace(file, tensors=file.tensors[:-1])) == {}
    cpu = replace(machine.cpu(), name="another")
    monkeypatch.setattr(machine, "cpu", lambda: cpu)
    assert load(tmp_path, file) == {}


def test_a_folder_that_cannot_be_written(file: GgufFile, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot make"):
        save(tmp_path / "models", file, FOUND)
    assert load(tmp_path / "models", file) == {}
    path_for(tmp_path, file).mkdir(parents=True)
    with pytest.raises(StoreError, match="cannot write"):
        save(tmp_path, file, FOUND)
    assert load(tmp_path, file) == {}
