"""The receipt beside a checkpoint: what need not be hashed again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from edge.lock import LockedFile
from edge.receipt import NAME, Fetched, Receipt, fetched_now, read_receipt, write_receipt

HASH = "a" * 64
SOUND = (
    '{"model": "m", "complete": true, "files":'
    ' {"a.json": {"size": 1, "mtime_ns": 2, "ctime_ns": 3, "sha256": "' + HASH + '"}}}'
)


@pytest.fixture
def receipt(tmp_path: Path) -> Receipt:
    """Of one file that is there."""
    (tmp_path / "config.json").write_bytes(b"12345")
    return Receipt("m", {"config.json": fetched_now(tmp_path / "config.json", HASH)}, complete=True)


def test_what_is_written_is_read(receipt: Receipt, tmp_path: Path) -> None:
    write_receipt(tmp_path, receipt)
    assert read_receipt(tmp_path, "m") == receipt and receipt.holds(tmp_path)


def test_a_file_that_changed_is_not_held(receipt: Receipt, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    stat = path.stat()
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1_000_000_000))
    assert not receipt.holds(tmp_path)
    path.write_bytes(b"123456")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert not receipt.holds(tmp_path)
    path.unlink()
    assert not receipt.holds(tmp_path)


def test_some_files_alone_are_not_all(receipt: Receipt, tmp_path: Path) -> None:
    assert not Receipt("m", receipt.files, complete=False).holds(tmp_path)


def test_it_agrees_with_the_lock(receipt: Receipt) -> None:
    assert receipt.agrees([LockedFile("config.json", 5, HASH), LockedFile("b.json", 5, "b" * 64)])
    assert not receipt.agrees([LockedFile("config.json", 5, "b" * 64)], unknown_ok=True)
    assert receipt.agrees([], unknown_ok=True) and not receipt.agrees([])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"files": {}}',
        '{"complete": true, "files": []}',
        '{"complete": true, "files": {"a": 1}}',
        '{"complete": true, "files": {"a": {"size": 1}}}',
        SOUND.replace("}}}", ', "more": 3}}}'),
        SOUND.replace(HASH, "x"),
        SOUND.replace(f'"{HASH}"', "5"),
        SOUND.replace("a.json", "../a.json"),
        SOUND.replace('"m"', '"another"'),
        SOUND.replace("2", "2.5"),
        "[" * 100_000,
        "\udcff",
    ],
    ids=lambda text: ascii(text[:60]),
)
def test_a_damaged_one_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(text.encode(errors="surrogateescape"))
    assert read_receipt(tmp_path, "m") == Receipt("m")


def test_a_sound_one_is_read(tmp_path: Path) -> None:
    (tmp_path / NAME).write_text(SOUND)
    assert read_receipt(tmp_path, "m") == Receipt("m", {"a.json": Fetched(1, 2, 3, HASH)}, complete=True)


def test_without_a_config_it_is_not_whole(tmp_path: Path) -> None:
    """The bug: a receipt of no file at all said that there was nothing to fetch."""
    assert not Receipt("m", {}, complete=True).holds(tmp_path)


def test_none_at_all(tmp_path: Path) -> None:
    assert read_receipt(tmp_path / "nowhere", "m") == Receipt("m")
    assert not Fetched(5, 5, 5, HASH).still(tmp_path / "nothing")
