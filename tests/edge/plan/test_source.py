"""What is known of a model before it is here, from files, checkpoints and locks."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from convert import gguf_file
from convert.errors import CheckpointError, EdgeError
from convert.gguf_file import GgufError
from convert.levels import LEVELS
from edge import store
from edge.errors import ModelNotFound
from edge.lock import LockedFile, LockedModel, LockError
from edge.lock_file import write_lock
from edge.plan.source import Source, download_bytes, find_source, read_config
from edge.receipt import Receipt, write_receipt
from edge.reference import parse
from edge.shapes import from_checkpoint_config, from_gguf
from edge.user_lock import lock_path
from tests.checkpoints import build
from tests.edge import tiny_gguf
from tests.edge.plan.conftest import stored
from tests.edge.plan.sample import KNOWN, LOCK, locked_shape
from tests.edge.reports import write_report


def refused(model: str, models: Path, error: type[EdgeError] = EdgeError) -> str:
    with pytest.raises(error) as caught:
        find_source(model, models)
    return str(caught.value)


# --- from the lock


@pytest.mark.parametrize("name", KNOWN)
def test_every_model_of_the_lock_is_known_without_a_file(name: str, models: Path) -> None:
    found = find_source(name, models)
    assert found == Source(name, locked_shape(name), {}, found.download, None)
    assert found.download and found.download > found.shape.parameters
    assert not models.exists()


@pytest.mark.parametrize(
    ("model", "level"),
    [
        ("qwen2.5:7b", None),
        ("Qwen/Qwen2.5-7B-Instruct", None),
        ("qwen2.5-7b:q4_k_m", "Q4_K_M"),
        ("Qwen/Qwen2.5-7B-Instruct:Q8_0", "Q8_0"),
    ],
)
def test_all_spellings_of_a_name(model: str, level: str | None, models: Path) -> None:
    found = find_source(model, models)
    assert (found.name, found.level, found.shape) == ("qwen2.5-7b", level, locked_shape("qwen2.5-7b"))


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("org/repo", "nothing is known of org/repo yet; run: edge lock org/repo, which"),
        ("org/repo:Q8_0", "nothing is known of org/repo yet; run: edge lock org/repo, which"),
        ("glm-z1-9b-0414", "nothing is known of glm-z1-9b-0414 yet; run: edge lock glm-z1-9b-0414, which"),
    ],
)
def test_what_nothing_is_known_of_is_to_be_locked_first(model: str, says: str, models: Path) -> None:
    """A plan is made before a download: who asked for a name whose sizes the lock lacks was told to convert it."""
    assert refused(model, models).startswith(says)


def test_an_unknown_name_has_a_near_one(models: Path) -> None:
    assert "did you mean tiny-qwen?" in refused("tiny-qwem", models, ModelNotFound)
    assert "MODEL is empty" in refused("", models, ModelNotFound)
    assert "there is no quant level 'Q9'" in refused("qwen2.5-7b:Q9", models)


def test_what_edge_lock_learned_is_known(models: Path) -> None:
    """Under the name of the user's lock; and sizes that the shipped entry lacks."""
    models.mkdir(parents=True)
    sizes = {"architecture": "Qwen2ForCausalLM", "context_length": 999, "config": LOCK["qwen2.5-7b"].config}
    write_lock(lock_path(models), {"org--repo": LockedModel("org--repo", **sizes)})
    found = find_source("org--repo", models)
    assert (found.shape.context_length, found.shape.parameters) == (999, locked_shape("qwen2.5-7b").parameters)
    learned = {"architecture": "Glm4ForCausalLM", "context_length": 32768, "config": LOCK["glm-4-9b-0414"].config}
    write_lock(lock_path(models), {"glm-z1-9b-0414": LockedModel("glm-z1-9b-0414", **learned)})
    assert find_source("glm-z1-9b-0414", models).shape == locked_shape("glm-4-9b-0414")


def test_a_damaged_lock_is_one_line(models: Path) -> None:
    models.mkdir(parents=True)
    lock_path(models).write_text("version = ", encoding="utf-8")
    refused("qwen2.5-7b", models, LockError)


# --- how much there is to fetch


def test_bytes_to_fetch(models: Path) -> None:
    shape = locked_shape("qwen2.5-7b")
    files = (LockedFile("a.safetensors", 7, "a" * 64), LockedFile("config.json", 5, "b" * 64))
    locked = LockedModel("qwen2.5-7b", files=files)
    assert download_bytes(locked, shape, models) == 2 * shape.parameters, "more files may be needed"
    assert download_bytes(replace(locked, complete=True), shape, models) == 12
    folder = store.checkpoint_path(models, "qwen2.5-7b")
    folder.mkdir(parents=True)
    write_receipt(folder, Receipt("qwen2.5-7b", {}, complete=False))
    assert download_bytes(locked, shape, models) == 2 * shape.parameters
    write_receipt(folder, Receipt("qwen2.5-7b", {}, complete=True))
    assert download_bytes(locked, shape, models) == 0
    assert find_source("qwen2.5-7b", models).download == 0


# --- from checkpoints


def test_an_embedded_model(models: Path) -> None:
    found = find_source("tiny-qwen:Q8_0", models)
    checkpoint = parse("tiny-qwen").checkpoint
    assert checkpoint is not None
    assert found == Source("tiny-qwen", from_checkpoint_config(read_config(checkpoint)), {}, 0, "Q8_0")


def test_a_checkpoint_folder(models: Path, tmp_path: Path) -> None:
    found = find_source(str(build(tmp_path / "mine")), models)
    assert (found.name, found.download, found.level) == ("mine", 0, None)
    assert found.shape.architecture == "qwen2"


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe{}", b"[" * 100_000])
def test_a_config_that_cannot_be_read(content: bytes, models: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_bytes(content)
    says = refused(str(tmp_path / "mine"), models)
    assert says.startswith(f"cannot read config.json of {tmp_path / 'mine'}: ")
    assert says.endswith("; fetch the checkpoint again")


@pytest.mark.parametrize("content", [[], {}, {"architectures": ["Qwen2ForCausalLM"]}, None])
def test_a_config_that_makes_no_sense(content: object, models: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "config.json").write_text(json.dumps(content), encoding="utf-8")
    refused(str(tmp_path / "mine"), models, CheckpointError)


# --- from files


@pytest.mark.parametrize(
    ("ftype", "level"),
    [(int(LEVELS["Q4_0"].ftype), "Q4_0"), (int(LEVELS["F32"].ftype), "F32"), (19, "mine"), (None, "mine")],
)
def test_a_file_says_its_level_or_has_its_name(ftype: int | None, level: str, models: Path, tmp_path: Path) -> None:
    path = tiny_gguf.write(tmp_path / "mine.gguf", {"general.file_type": ftype})
    found = find_source(str(path), models)
    assert (found.name, found.download, list(found.files)) == ("mine", None, [level])
    assert found.files[level].path == path and found.shape == from_gguf(gguf_file.read(path))


def test_a_level_that_is_no_number(models: Path, tmp_path: Path) -> None:
    """An array where a number was expected ended in a TypeError."""
    path = tiny_gguf.write(tmp_path / "mine.gguf", {"general.file_type": [1, 2]})
    assert list(find_source(str(path), models).files) == ["mine"]


@pytest.mark.parametrize("keep", [0, 4, 2000, -1000])
def test_a_file_that_was_cut(keep: int, models: Path, tmp_path: Path) -> None:
    path = tiny_gguf.write(tmp_path / "mine.gguf")
    os.truncate(path, keep % path.stat().st_size)
    assert refused(str(path), models, GgufError).startswith("mine.gguf: ")


def test_a_file_that_is_not_there_and_a_folder(models: Path, tmp_path: Path) -> None:
    (tmp_path / "x.gguf").mkdir()
    (tmp_path / "folder").mkdir()
    assert "there is no file" in refused(str(tmp_path / "x.gguf"), models)
    assert "there is no file" in refused(str(tmp_path / "y.gguf"), models)
    assert "is not a checkpoint: it has no config.json" in refused(str(tmp_path / "folder"), models)


def test_a_file_that_llama_cpp_would_trip_over(models: Path, tmp_path: Path) -> None:
    path = tiny_gguf.write(tmp_path / "mine.gguf", {"qwen2.attention.head_count_kv": 3})
    assert "cannot share" in refused(str(path), models, GgufError)


def test_files_of_the_store_are_known_beside_the_lock(models: Path) -> None:
    """Plan and file may tell of different tensors; the shape is the lock's."""
    path = stored(models, "qwen2.5-7b", "Q4_0")
    found = find_source("qwen2.5-7b", models)
    assert {level: file.path for level, file in found.files.items()} == {"Q4_0": path}
    assert found.shape == locked_shape("qwen2.5-7b") and found.download


def test_files_of_the_store_alone(models: Path) -> None:
    """A model of one's own, whose checkpoint is elsewhere; nothing can be converted."""
    stored(models, "mine", "Q4_0")
    path = stored(models, "mine", "Q8_0")
    found = find_source("mine", models)
    assert (list(found.files), found.download) == (["Q8_0", "Q4_0"], None)
    assert found.shape == from_gguf(gguf_file.read(path))
    assert find_source("mine:Q4_0", models).level == "Q4_0"
    stored(models, "glm-z1-9b-0414", "Q8_0")
    assert find_source("glm-z1-9b-0414", models).download is None


def test_a_damaged_file_of_the_store_names_itself(models: Path) -> None:
    path = stored(models, "qwen2.5-7b", "Q4_0")
    os.truncate(path, 3000)
    assert refused("qwen2.5-7b", models, GgufError).startswith("qwen2.5-7b-Q4_0.gguf: the file ends after 3000 bytes")


def test_files_of_a_checkpoint_that_was_converted(models: Path, tmp_path: Path) -> None:
    folder = build(tmp_path / "mine")
    for level in ("Q4_0", "Q8_0"):
        path = stored(models, "mine", level)
        made_from = store.fingerprint(folder) if level == "Q4_0" else "what it was before"
        write_report(path, {"bytes": path.stat().st_size, "fingerprint": made_from})
    found = find_source(str(folder), models)
    assert (list(found.files), found.download) == (["Q4_0"], 0), "the other would be converted again"
    shutil.rmtree(folder)
    found = find_source("mine", models)
    assert (list(found.files), found.download) == (["Q8_0", "Q4_0"], None)
