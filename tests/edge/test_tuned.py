"""Kept settings: of one machine and one model; what is damaged counts as none."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert import gguf_file
from convert.gguf_file import GgufFile
from edge import machine, tuned
from edge.errors import StoreError
from edge.kept import MAX_BYTES
from edge.llama import library
from edge.tuned import COUNTS, Tuned, checked, gpu_libraries, load, machine_key, model_key, path_for, save
from tests.edge import tiny_gguf

TUNED = Tuned(
    threads=4,
    threads_batch=8,
    flash_attn=True,
    rows=256,
    width=4,
    made="2026-11-29T06:20:00+00:00",
    measured={"decode threads": {"1": 10.5, "4": 30.25}, "batch size": {}},
)
GOOD = asdict(TUNED)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> GgufFile:
    return gguf_file.read(tiny_gguf.write(tmp_path_factory.mktemp("tuned") / "tiny.gguf"))


# --- keeping


def test_what_is_kept_comes_back(file: GgufFile, tmp_path: Path) -> None:
    models = tmp_path / "not" / "there"
    assert load(models, file) is None
    path = save(models, file, TUNED)
    assert path == path_for(models, file) and path.parent == models / ".tuned"
    assert load(models, file) == TUNED
    save(models, file, replace(TUNED, threads=2))
    assert load(models, file) == replace(TUNED, threads=2)
    assert list(path.parent.iterdir()) == [path], "nothing unfinished is left"


@settings(deadline=None, max_examples=40)
@given(
    st.builds(
        Tuned,
        threads=st.integers(1, 512),
        threads_batch=st.integers(1, 512),
        flash_attn=st.booleans(),
        rows=st.integers(1, 4096),
        width=st.integers(1, 256),
        gpu_layers=st.integers(-1, 2**31),
        made=st.text(max_size=40),
        measured=st.dictionaries(
            st.text(max_size=20), st.dictionaries(st.text(max_size=8), st.floats(0, 1e9) | st.integers(0, 10**9))
        ),
    )
)
def test_everything_that_can_be_kept_is_accepted(one: Tuned) -> None:
    assert checked(json.loads(json.dumps(asdict(one)))) == one


def test_a_folder_that_cannot_be_written(file: GgufFile, tmp_path: Path) -> None:
    (tmp_path / "models").write_text("a file", encoding="utf-8")
    with pytest.raises(StoreError, match="cannot make"):
        save(tmp_path / "models", file, TUNED)
    assert load(tmp_path / "models", file) is None
    path_for(tmp_path, file).mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot write .*; choose another place with --models-dir"):
        save(tmp_path, file, TUNED)
    assert load(tmp_path, file) is None


# --- damage


@pytest.mark.parametrize(
    "changed",
    [
        {"threads": 0},
        {"threads": -1},
        {"threads": 513},
        {"threads": True},
        {"threads": 4.0},
        {"threads": "4"},
        {"threads": None},
        {"threads_batch": 10**30},
        {"rows": 4097},
        {"rows": 0},
        {"width": 257},
        {"flash_attn": 1},
        {"flash_attn": None},
        {"gpu_layers": 1.5},
        {"gpu_layers": False},
        {"made": 3},
        {"measured": []},
        {"measured": {"decode threads": [1.0]}},
        {"measured": {"decode threads": {"1": "fast"}}},
        {"measured": {"decode threads": {"1": True}}},
        {"measured": {"decode threads": {"1": float("nan")}}},
        {"measured": {"decode threads": {"1": float("-inf")}}},
        {"measured": {"decode threads": {"1": 10**400}}},
        {"more": 1},
    ],
    ids=str,
)
def test_a_value_that_tuning_would_not_have_written(changed: dict[str, Any], file: GgufFile, tmp_path: Path) -> None:
    """A rate of 401 digits was an OverflowError in everything that loads a model."""
    with pytest.raises(ValueError):
        checked(GOOD | changed)
    path = save(tmp_path, file, TUNED)
    path.write_text(json.dumps(GOOD | changed), encoding="utf-8")
    assert load(tmp_path, file) is None


@pytest.mark.parametrize("key", GOOD)
def test_a_value_that_is_missing(key: str) -> None:
    with pytest.raises(ValueError, match="not the settings"):
        checked({name: value for name, value in GOOD.items() if name != key})


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"null", b"[]", b"\xff\xfe", b'"text"', b"[" * 50_000, b"1" * 5000, b" " * MAX_BYTES + b"{}"],
    ids=lambda content: repr(content[:8]),
)
def test_a_damaged_file_counts_as_none(content: bytes, file: GgufFile, tmp_path: Path) -> None:
    path = save(tmp_path, file, TUNED)
    path.write_bytes(content)
    assert load(tmp_path, file) is None


def test_a_file_that_grew_is_not_read(file: GgufFile, tmp_path: Path) -> None:
    path = save(tmp_path, file, TUNED)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.ljust(MAX_BYTES), encoding="utf-8")
    assert load(tmp_path, file) == TUNED
    path.write_text(text.ljust(MAX_BYTES + 1), encoding="utf-8")
    assert load(tmp_path, file) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from([*GOOD, "other"]), JSON, max_size=3), st.sets(st.sampled_from(list(GOOD))))
def test_any_json_is_settings_or_a_value_error(changed: dict[str, Any], without: set[str]) -> None:
    value = {name: one for name, one in (GOOD | changed).items() if name in changed or name not in without}
    try:
        found = checked(value)
    except ValueError:
        return
    assert asdict(found) == value
    assert all(1 <= value[name] <= most for name, most in COUNTS.items())


# --- of which machine


def changed_machine(monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    cpu, cores = machine.cpu(), machine.cores()
    match what:
        case "another CPU":
            monkeypatch.setattr(machine, "cpu", lambda: replace(cpu, name="another"))
        case "other CPUs to use":  # taskset, or a quota
            monkeypatch.setattr(machine, "cores", lambda *_: replace(cores, usable=cores.usable + 1))
        case "other performance cores":
            fast = machine.usable_cores()
            monkeypatch.setattr(machine, "usable_cores", lambda: fast + 1)
        case "another version":
            monkeypatch.setattr(library, "version", lambda: "0.0.0")
        case "another build":
            monkeypatch.setattr(library, "built_for", lambda: frozenset({"AVX1024"}))
        case "a build for GPUs":
            monkeypatch.setattr(tuned, "gpu_libraries", lambda: ["libggml-cuda.so"])


CHANGES = (
    "another CPU",
    "other CPUs to use",
    "other performance cores",
    "another version",
    "another build",
    "a build for GPUs",
)


@pytest.mark.parametrize("what", CHANGES)
def test_settings_of_another_machine_are_none(
    what: str, file: GgufFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A models folder may be carried from one to another."""
    save(tmp_path, file, TUNED)
    with monkeypatch.context() as patch:
        changed_machine(patch, what)
        assert load(tmp_path, file) is None
        save(tmp_path, file, replace(TUNED, threads=1))
    assert load(tmp_path, file) == TUNED, "both are kept"


def test_the_machine_stays_the_same() -> None:
    assert machine_key() == machine_key()
    assert len(machine_key()) == 16 and int(machine_key(), 16) >= 0


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity to set here")
def test_another_affinity_is_another_machine() -> None:
    """``taskset`` and containers leave fewer CPUs."""
    all_of_them = os.sched_getaffinity(0)
    if len(all_of_them) < 2:
        pytest.skip("there is one CPU")
    before = machine_key()
    try:
        os.sched_setaffinity(0, {min(all_of_them)})
        assert machine_key() != before
    finally:
        os.sched_setaffinity(0, all_of_them)
    assert machine_key() == before


def test_libraries_for_gpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("libggml-base.so", "libggml-cpu.so", "libggml-cuda.so", "ggml-vulkan.dll", "libllama.so"):
        (tmp_path / name).touch()
    monkeypatch.setattr(library, "folder", lambda: tmp_path)
    assert gpu_libraries() == ["ggml-vulkan.dll", "libggml-cuda.so"]
    monkeypatch.setattr(library, "folder", lambda: None)
    assert gpu_libraries() == []


# --- of which model


def test_the_weights_do_not_matter_but_their_types_do(file: GgufFile, tmp_path: Path) -> None:
    other = tiny_gguf.write(tmp_path / "other.gguf", {"general.name": "other"}, tiny_gguf.tensors(seed=2))
    assert model_key(gguf_file.read(other)) == model_key(file)
    kinds = [replace(one, type="F16") if one.name == "token_embd.weight" else one for one in file.tensors]
    assert model_key(replace(file, tensors=kinds)) != model_key(file)
    assert model_key(replace(file, tensors=file.tensors[:-1])) != model_key(file)
    shapes = [replace(one, shape=one.shape[::-1]) for one in file.tensors]
    assert model_key(replace(file, tensors=shapes)) != model_key(file)
    assert model_key(replace(file, metadata=file.metadata | {"general.architecture": "x"})) != model_key(file)
