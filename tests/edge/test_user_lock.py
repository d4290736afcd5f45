"""The user's own lock beside the shipped one: what was learned is kept, and never against what is known."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from edge.lock import LockedFile, LockedModel, LockError, Source
from edge.lock_file import read_lock, write_lock
from edge.user_lock import known_models, lock_path, remember

A, B = "a" * 64, "b" * 64
SHIPPED = LockedModel("m-1b", sources=(Source("huggingface", "org/M"),), files=(LockedFile("config.json", 3, A),))


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty models folder, with a shipped lock of one model."""
    write_lock(tmp_path / "shipped.lock", {"m-1b": SHIPPED})
    monkeypatch.setenv("EDGE_LOCK", str(tmp_path / "shipped.lock"))
    return tmp_path / "models"


def test_what_was_learned_is_there_next_time(models: Path) -> None:
    assert known_models(models) == {"m-1b": SHIPPED}
    weights = LockedFile("model.safetensors", 9, B)
    remember(models, replace(SHIPPED, files=(*SHIPPED.files, weights)))
    remember(models, replace(SHIPPED, licence="mit"))
    known = known_models(models)["m-1b"]
    assert known.files == (*SHIPPED.files, weights) and known.licence == "mit"


def test_the_shipped_lock_is_never_written(models: Path, tmp_path: Path) -> None:
    before = (tmp_path / "shipped.lock").read_bytes()
    remember(models, replace(SHIPPED, licence="mit"))
    assert (tmp_path / "shipped.lock").read_bytes() == before


def learned_first(models: Path) -> None:
    remember(models, LockedModel("other", files=(LockedFile("config.json", 3, A),)))


def nothing(models: Path) -> None:
    """The shipped lock knows the hash."""


@pytest.mark.parametrize(("name", "before"), [("other", learned_first), ("m-1b", nothing)], ids=["user's", "shipped"])
def test_another_hash_is_refused_with_both(name: str, before: Callable[[Path], None], models: Path) -> None:
    before(models)
    text = lock_path(models).read_bytes() if lock_path(models).exists() else None
    with pytest.raises(LockError, match=rf"locked as {A}, but is {B}"):
        remember(models, LockedModel(name, files=(LockedFile("config.json", 3, B),)))
    assert (lock_path(models).read_bytes() if lock_path(models).exists() else None) == text


def test_a_damaged_lock_is_not_written_over(models: Path) -> None:
    models.mkdir()
    lock_path(models).write_text("version = 1\n[models")
    with pytest.raises(LockError, match="is damaged"):
        remember(models, SHIPPED)
    assert lock_path(models).read_text() == "version = 1\n[models"


def test_two_at_once_lose_nothing(models: Path) -> None:
    """Two models may be fetched at the same time: each holds its own model's lock, and both write this file."""
    names = [f"m-{i}" for i in range(24)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda name: remember(models, LockedModel(name, licence="mit")), names))
    assert set(read_lock(lock_path(models))) == set(names)
