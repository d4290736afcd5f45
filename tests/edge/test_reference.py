"""MODEL means the same to every command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from convert.errors import EdgeError
from edge import reference, store
from edge.errors import ModelNotFound
from tests.edge.reports import write_report


def put(models: Path, name: str, level: str, report: dict | None = None) -> Path:
    path = store.file_path(models, name, level)
    store.make_folder(path.parent)
    path.write_bytes(b"x")
    write_report(path, {"bytes": 1, **(report or {})})
    return path


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "My-Checkpoint"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_names_and_levels() -> None:
    assert reference.parse("my-model") == reference.Reference("my-model", "my-model", typed="my-model")
    found = reference.parse("qwen2.5-7b:q4_k_m")
    assert (found.name, found.level) == ("qwen2.5-7b", "Q4_K_M")


@pytest.mark.parametrize(
    ("text", "name", "level"),
    [
        ("qwen2.5:7b", "qwen2.5-7b", None),
        ("Qwen2.5:7B:q8_0", "qwen2.5-7b", "Q8_0"),
        ("Qwen/Qwen2.5-7B-Instruct", "qwen2.5-7b", None),
        ("qwen/qwen2.5-7b-instruct:Q4_0", "qwen2.5-7b", "Q4_0"),
        ("Someone/Their-Model:Q8_0", "someone--their-model", "Q8_0"),
    ],
)
def test_names_of_the_lock_and_of_hubs(text: str, name: str, level: str | None) -> None:
    found = reference.parse(text)
    assert (found.name, found.level, found.checkpoint) == (name, level, None)


def test_a_name_of_the_lock_finds_what_the_store_calls_otherwise(tmp_path: Path) -> None:
    """A checkpoint folder converted under its own name hid nothing, but the lock's spelling must not hide it either."""
    put(tmp_path, "Qwen2.5-7B-Instruct", "Q4_0")
    assert reference.gguf_path(reference.parse("Qwen2.5-7B-Instruct"), tmp_path).parent.name == "Qwen2.5-7B-Instruct"
    put(tmp_path, "qwen2.5-1.5b", "Q4_0")
    assert reference.gguf_path(reference.parse("Qwen2.5-1.5B-Instruct"), tmp_path).parent.name == "qwen2.5-1.5b"


def test_a_folder_that_is_here_is_a_path_and_no_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistyped path must not become a question to a hub."""
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFound, match="does not exist"):
        reference.parse("models/qwen")


def test_a_gguf_file(tmp_path: Path) -> None:
    (tmp_path / "x.gguf").write_bytes(b"")
    assert reference.parse(str(tmp_path / "x.gguf")).gguf == tmp_path / "x.gguf"
    with pytest.raises(ModelNotFound, match="there is no file"):
        reference.parse(str(tmp_path / "y.gguf"))


def test_a_checkpoint_folder(checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert reference.parse(str(checkpoint)).name == "My-Checkpoint"
    monkeypatch.chdir(checkpoint)
    assert reference.parse(".").name == "My-Checkpoint"
    monkeypatch.chdir(checkpoint.parent)
    assert reference.parse("My-Checkpoint").checkpoint is not None


def test_embedded_models_are_checkpoints() -> None:
    for name in reference.EMBEDDED:
        folder = reference.parse(f"{name}:Q8_0").checkpoint
        assert folder is not None and (folder / "model.safetensors").is_file()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("./nowhere", "does not exist"),
        (os.sep + "nowhere", "does not exist"),
        ("..", "has no config.json"),
        ("a:Q9", "no quant level"),
        ("a b", "cannot be a model's name"),
        ("", "MODEL is empty"),
        (":Q4_0", "no model is called"),
    ],
)
def test_what_is_wrong_is_said(text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "below").mkdir()
    monkeypatch.chdir(tmp_path / "below")
    with pytest.raises(EdgeError, match=says):
        reference.parse(text)


def test_finds_the_file_of_a_name(tmp_path: Path) -> None:
    for level in ("Q8_0", "Q4_K_M"):
        put(tmp_path, "a", level)
    assert reference.gguf_path(reference.parse("a"), tmp_path).name == "a-Q4_K_M.gguf"
    assert reference.gguf_path(reference.parse("a:q8_0"), tmp_path).name == "a-Q8_0.gguf"
    with pytest.raises(ModelNotFound, match="not there at Q4_0; there is Q8_0, Q4_K_M"):
        reference.gguf_path(reference.parse("a:Q4_0"), tmp_path)


def test_an_unknown_name_suggests_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="did you mean tiny-qwen"):
        reference.gguf_path(reference.parse("tiny-qwem"), tmp_path)


def test_a_file_made_from_an_earlier_state_of_the_checkpoint_does_not_count(checkpoint: Path, tmp_path: Path) -> None:
    """`edge run ./ckpt` answered from the old weights after the folder had changed."""
    wanted = reference.parse(str(checkpoint))
    put(tmp_path / "models", wanted.name, "Q8_0", {"fingerprint": store.fingerprint(checkpoint)})
    assert reference.find(wanted, tmp_path / "models") is not None
    (checkpoint / "config.json").write_text('{"changed": 1}')
    assert reference.find(wanted, tmp_path / "models") is None
