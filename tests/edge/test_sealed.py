"""Sealed files: whatever was done to one, it is refused before its content is looked at."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge import sealed
from edge.sealed import SealError

KEY, ABOUT, CONTENT = bytes(range(32)), b"a" * 32, b"what is kept, some bytes of it"
MOST = 1000

posix = pytest.mark.skipif(os.name == "nt", reason="no such rights, no such files")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    sealed.write(tmp_path / "kept.state", KEY, ABOUT, CONTENT)
    return tmp_path / "kept.state"


@contextmanager
def umask(mask: int) -> Iterator[None]:
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def refused(path: Path, key: bytes = KEY, about: bytes = ABOUT, most: int = MOST) -> None:
    with pytest.raises((SealError, OSError)):
        sealed.read(path, key, about, most)


def test_what_was_written_is_read(path: Path) -> None:
    assert sealed.read(path, KEY, ABOUT, MOST) == CONTENT
    assert sealed.read(path, KEY, ABOUT, len(CONTENT)) == CONTENT
    assert [one.name for one in path.parent.iterdir()] == ["kept.state"]
    sealed.write(path, KEY, ABOUT, b"")
    assert sealed.read(path, KEY, ABOUT, 0) == b""


def test_every_byte_counts(path: Path) -> None:
    whole = path.read_bytes()
    assert len(whole) == sealed.AROUND + len(CONTENT)
    for place in range(len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        refused(path)


def test_cut_or_longer(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        refused(path)
    for more in (b"\0", whole):
        path.write_bytes(whole + more)
        refused(path)


def test_of_another_key_or_about_something_else(path: Path) -> None:
    refused(path, key=b"b" * 32)
    with pytest.raises(SealError, match="about something else"):
        sealed.read(path, KEY, b"b" * 32, MOST)


def test_nothing_is_read_that_cannot_be_right(path: Path) -> None:
    """A sparse file costs nobody anything to make, and gigabytes of memory to read."""
    refused(path, most=len(CONTENT) - 1)
    os.truncate(path, 2 << 30)
    began = time.monotonic()
    refused(path)
    assert time.monotonic() - began < 1


@posix
def test_what_is_no_file(tmp_path: Path, path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(path)
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "link", "pipe"):  # a pipe without a writer would keep a reader waiting for ever
        refused(tmp_path / name)
        with pytest.raises((SealError, OSError)):
            sealed.read_key(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        sealed.read(tmp_path / "missing", KEY, ABOUT, MOST)


@posix
@pytest.mark.parametrize("mask", [0, 0o022, 0o777])
def test_for_this_user_alone_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    with umask(mask):
        sealed.write(tmp_path / "kept.state", KEY, ABOUT, CONTENT)
        key = sealed.make_key(tmp_path / "key")
    for name in ("kept.state", "key"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    assert sealed.read_key(tmp_path / "key") == key and len(key) == 32
    assert sealed.make_key(tmp_path / "key") != key


@posix
def test_keys_that_are_not_taken(tmp_path: Path) -> None:
    path = tmp_path / "key"
    key = sealed.make_key(path)
    for mode in (0o640, 0o604, 0o666, 0o620):
        path.chmod(mode)
        with pytest.raises(SealError, match="not this user's alone"):
            sealed.read_key(path)
    path.chmod(0o600)
    for wrong in (b"", key[:31], key + b"\0"):
        path.write_bytes(wrong)
        with pytest.raises(SealError, match="bytes, not 32"):
            sealed.read_key(path)


@posix
def test_a_new_key_goes_into_no_link(tmp_path: Path) -> None:
    (other := tmp_path / "other").write_bytes(b"mine")
    (tmp_path / "key").symlink_to(other)
    key = sealed.make_key(tmp_path / "key")
    assert other.read_bytes() == b"mine" and sealed.read_key(tmp_path / "key") == key


def test_a_full_disk_leaves_what_was_there(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        sealed.write(path, KEY, ABOUT, b"something newer")
    assert [one.name for one in path.parent.iterdir()] == ["kept.state"]
    assert sealed.read(path, KEY, ABOUT, MOST) == CONTENT
