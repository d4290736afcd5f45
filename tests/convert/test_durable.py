"""A file is the old one or the new one, never a part."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from convert.durable import publish, write_text


def test_publish_replaces(tmp_path: Path) -> None:
    (tmp_path / "a.partial").write_text("new")
    (tmp_path / "a").write_text("old")
    publish(tmp_path / "a.partial", tmp_path / "a")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "new")]


def test_text_is_the_same_bytes_on_every_system(tmp_path: Path) -> None:
    write_text(tmp_path / "a", "你好\n")
    assert (tmp_path / "a").read_bytes() == "你好\n".encode()
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_text("old")

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space left"):
        write_text(tmp_path / "a", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "old")]


@pytest.mark.skipif(os.name == "nt", reason="Windows cannot open a folder")
def test_bytes_are_on_disk_before_the_name_and_the_name_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In another order a power cut could leave an empty file under the right name."""
    steps: list[str] = []
    real_fsync, real_replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        steps.append("sync folder" if os.path.samestat(os.fstat(descriptor), tmp_path.stat()) else "sync file")
        real_fsync(descriptor)

    def replace(self: Path, target: Any) -> Path:
        steps.append("rename")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    write_text(tmp_path / "a", "new")
    assert steps == ["sync file", "rename", "sync folder"]


@pytest.mark.skipif(os.name == "nt", reason="there a file is named after its process")
def test_kills_do_not_pile_up_partial_files(tmp_path: Path) -> None:
    """The bug: each partial file was named after its process, so that one stayed for ever with each kill."""
    code = "import os, sys; from convert import durable; durable.publish = lambda *_: os.kill(os.getpid(), 9)\n"
    code += "durable.write_text(__import__('pathlib').Path(sys.argv[1]), 'x' * 100)"
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a")])
        assert done.returncode == -9
    assert [path.name for path in tmp_path.iterdir()] == ["a.partial"]
    write_text(tmp_path / "a", "new")
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("a", "new")]


@pytest.mark.skipif(os.name == "nt", reason="links there are for administrators")
def test_a_link_in_place_of_the_partial_file(tmp_path: Path) -> None:
    """The bug: what a link led to was emptied and written; a report that root writes could have been any file."""
    (tmp_path / "precious").write_text("precious")
    (tmp_path / "a.partial").symlink_to(tmp_path / "precious")
    with pytest.raises(OSError, match="symbolic"):
        write_text(tmp_path / "a", "new")
    assert (tmp_path / "precious").read_text() == "precious" and not (tmp_path / "a").exists()


def test_many_writers_of_one_file(tmp_path: Path) -> None:
    """Each puts a whole file there, and none fails or takes another's partial one away."""
    texts = [str(number) * 10_000 for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(20):
            list(pool.map(lambda text: write_text(tmp_path / "a", text), texts))
            assert (tmp_path / "a").read_text() in texts
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
