"""The state of each model, from a models folder as conversions, cuts, copies and users leave it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from edge import store
from edge.doctor.check import Check
from edge.doctor.models import MOST, model_checks
from edge.receipt import Receipt, fetched_now, write_receipt
from tests.edge import tiny_gguf
from tests.edge.reports import write_report

PASSED = {"passed": True}


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The default models folder, so that no command needs --models-dir."""
    monkeypatch.setenv("EDGE_HOME", str(tmp_path))
    return tmp_path / "models"


def add(models: Path, name: str = "tiny-qwen", level: str = "Q8_0", **report: Any) -> Path:
    """A model of the store, converted as ``report`` says; without one it was put there by hand."""
    path = store.file_path(models, name, level)
    path.parent.mkdir(parents=True, exist_ok=True)
    tiny_gguf.write(path)
    if report:
        write_report(path, {"level": level, "bytes": path.stat().st_size, **report})
    return path


def only(models: Path) -> Check:
    [check] = model_checks(models)
    return check


def test_no_models_yet(models: Path):
    assert (only(models).status, only(models).name) == ("ok", "models")
    models.mkdir()
    assert only(models).status == "ok"


def test_a_whole_model(models: Path):
    add(models, gate=PASSED)
    check = only(models)
    assert (check.name, check.status, check.todo) == ("model tiny-qwen:Q8_0", "ok", "")
    assert check.found.endswith("MB, gate passed")


def test_a_file_that_was_cut(models: Path):
    path = add(models, gate=PASSED)
    size = path.stat().st_size
    os.truncate(path, size - 100)
    check = only(models)
    assert check.status == "bad"
    assert check.found == f"{size - 100} bytes, but {size} were written"
    assert check.todo == "edge convert tiny-qwen --level Q8_0"


def test_a_cut_file_without_a_report(models: Path):
    path = add(models, name="mine")
    os.truncate(path, path.stat().st_size - 100)
    check = only(models)
    assert check.status == "bad"
    assert "the file ends inside the data of tensor" in check.found
    assert check.todo == "edge rm mine:Q8_0", "nothing tells what it was made from"


def test_a_file_that_would_end_the_process(models: Path):
    path = add(models, gate=PASSED)
    tiny_gguf.write(path, {"qwen2.attention.head_count": 0})
    write_report(path, {"bytes": path.stat().st_size, "gate": PASSED})
    check = only(models)
    assert check.status == "bad"
    assert "0 attention heads" in check.found


@pytest.mark.parametrize(
    ("gate", "words", "todo"),
    [
        ({"passed": None}, "gate not run", "edge convert tiny-qwen --level Q8_0"),
        ({"passed": None, "needs_gb": 20}, "needs 20 GB", "convert it where so much memory is free"),
    ],
)
def test_a_model_that_was_not_checked(models: Path, gate: dict[str, Any], words: str, todo: str):
    add(models, gate=gate)
    check = only(models)
    assert (check.status, check.todo) == ("warn", todo)
    assert words in check.found


def test_a_file_that_was_put_there(models: Path):
    add(models, name="mine")
    check = only(models)
    assert (check.status, check.todo) == ("warn", "")
    assert "gate unknown: it was not converted here" in check.found


def test_the_command_names_the_folder_it_was_made_from(models: Path, tmp_path: Path):
    source = tmp_path / "my models" / "mine"
    source.mkdir(parents=True)
    add(models, name="mine", gate={"passed": None}, checkpoint=str(source))
    assert only(models).todo == "", "a folder that is gone cannot be converted"
    (source / "config.json").touch()
    assert only(models).todo == f"edge convert '{source}' --name mine --level Q8_0"


def test_a_name_of_the_lock_is_converted_by_its_name(models: Path):
    add(models, name="qwen2.5-7b", level="Q4_K_M", gate={"passed": None})
    assert only(models).todo == "edge convert qwen2.5-7b --level Q4_K_M"


def test_commands_for_another_models_folder_name_it(tmp_path: Path):
    add(tmp_path, gate={"passed": None})
    assert only(tmp_path).todo == f"edge convert tiny-qwen --level Q8_0 --models-dir {tmp_path}"


# --- checkpoints


def fetch(models: Path, *, complete: bool = True) -> Path:
    folder = store.checkpoint_path(models, "qwen3-4b")
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(b"{}")
    files = {path.name: fetched_now(path, "0" * 64) for path in sorted(folder.iterdir())}
    write_receipt(folder, Receipt("qwen3-4b", files, complete))
    return folder


def test_a_whole_checkpoint(models: Path):
    fetch(models)
    assert (only(models).name, only(models).status) == ("model qwen3-4b:checkpoint", "ok")


def test_a_checkpoint_that_is_still_being_fetched(models: Path):
    fetch(models, complete=False)
    assert (only(models).status, only(models).todo) == ("warn", "edge pull qwen3-4b")
    (store.checkpoint_path(models, "qwen3-4b") / ".edge-pull.json").unlink()
    assert (only(models).status, only(models).todo) == ("warn", "edge pull qwen3-4b")


@pytest.mark.parametrize("damage", ["removed", "cut"])
def test_a_checkpoint_that_lost_something(models: Path, damage: str):
    weights = fetch(models) / "model.safetensors"
    if damage == "removed":
        weights.unlink()
    else:
        weights.write_bytes(b"{")
    check = only(models)
    assert (check.status, check.todo) == ("bad", "edge verify qwen3-4b --repair")
    assert "model.safetensors" in check.found


def test_a_checkpoint_that_was_copied(models: Path):
    """Same sizes, other times: only hashing tells, and that is for edge verify."""
    os.utime(fetch(models) / "config.json", ns=(1, 1))
    assert (only(models).status, only(models).todo) == ("warn", "edge verify qwen3-4b")


# --- all of them


def test_of_many_the_worst_come_first_and_the_rest_is_counted(models: Path):
    for number in range(MOST + 3):
        path = add(models, name=f"m{number:02}", gate=PASSED if number != 21 else {"passed": None})
        if number == MOST + 2:
            os.truncate(path, 100)
    lines = model_checks(models)
    assert len(lines) == MOST + 1
    assert [(line.name, line.status) for line in lines[:3]] == [
        ("model m22:Q8_0", "bad"),
        ("model m21:Q8_0", "warn"),
        ("model m00:Q8_0", "ok"),
    ]
    assert (lines[-1].name, lines[-1].status, lines[-1].found) == ("models", "ok", "3 more: 3 ok")


def test_too_many_bad_ones_are_counted_as_such(models: Path):
    for number in range(MOST + 2):
        os.truncate(add(models, name=f"m{number:02}"), 100)
    last = model_checks(models)[-1]
    assert (last.status, last.found) == ("bad", "2 more: 2 bad")


def test_a_models_folder_that_is_a_file(tmp_path: Path):
    (tmp_path / "models").touch()
    [check] = [check for check in model_checks(tmp_path / "models") if check.name == "models"]
    assert check.status == "bad"
    assert "is not a folder" in check.found
    assert "--models-dir" in check.todo


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), OSError(5, "Input/output error")])
def test_a_models_folder_that_cannot_be_read(models: Path, monkeypatch: pytest.MonkeyPatch, error: OSError):
    add(models)

    def refuse(self: Path) -> None:
        error.filename = str(self)
        raise error

    monkeypatch.setattr(Path, "iterdir", refuse)
    check = only(models)
    assert check.status == "bad"
    assert str(error.strerror) in check.found
    assert "mend its rights" in check.todo


def test_a_lock_that_cannot_be_read_hides_no_model(models: Path):
    add(models, gate=PASSED)
    (models / "models.lock").write_text("= nonsense")
    lock, model = model_checks(models)
    assert (lock.name, lock.status) == ("models.lock", "bad")
    assert model.status == "ok"
