"""The one file of a box: what is written is read, and a changed byte anywhere is found."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from edge.kiosk.box import archive, manifest
from edge.kiosk.box.check import check_box
from edge.kiosk.box.container import SHEBANG, Blob, distinct, offsets, open_box, write_box
from edge.kiosk.box.errors import BoxError
from edge.kiosk.box.manifest import BOOTSTRAP, KEY, MANIFEST, SIGNATURE
from tests.edge.kiosk.box.boxes import MARK, OTHER_KEY, SHARED, Maker, fingerprint, nothing
from tests.edge.kiosk.box.test_manifest import entry, value

KEYS = frozenset({MARK})


def test_what_is_packed_is_found(make_box: Maker) -> None:
    box = make_box("7")
    checked = check_box(box, KEYS, nothing)
    assert (checked.manifest.version, checked.key) == ("7", MARK)
    model = next(file for file in checked.manifest.files if file.path == manifest.MODEL)
    with box.open("rb") as file:
        assert file.seek(model.offset) == model.offset
        assert file.read(model.size) == SHARED
    assert os.access(box, os.X_OK)


def test_the_same_content_is_stored_once(make_box: Maker) -> None:
    once, twice = make_box(), make_box(extra={"licences/copy": SHARED})
    assert twice.stat().st_size - once.stat().st_size < 1000


def test_the_hash_that_pack_prints_is_of_the_end_of_the_file(make_box: Maker, tmp_path: Path) -> None:
    blob = make_box.blob("blob", b"content")
    members = {MANIFEST: b"{}", SIGNATURE: b"", KEY: b"", BOOTSTRAP: b"print()"}
    written = write_box(tmp_path / "box", [blob], members)
    data = (tmp_path / "box").read_bytes()
    assert data == SHEBANG + b"content" + data[-written.length :]
    assert hashlib.sha256(data[-written.length :]).hexdigest() == written.sha256
    assert open_box(tmp_path / "box").archive == written


def test_a_changed_byte_anywhere_is_found(make_box: Maker) -> None:
    """The first line, every file, every member of the archive, its headers and times: a bit of each is turned over."""
    box = make_box()
    opened = open_box(box)
    files = check_box(box, KEYS, nothing).manifest.files
    draw = random.Random(1)
    places = {0, 1, len(SHEBANG) - 1, opened.archive.start, opened.size - 1}
    places |= {file.offset + draw.randrange(file.size) for file in files if file.size}
    places |= {draw.randrange(opened.archive.start, opened.size) for _ in range(60)}
    places |= {opened.size - 1 - n for n in range(0, archive.END.size + 60, 3)}
    data = box.read_bytes()
    for place in places:
        with box.open("r+b") as file:
            file.seek(place)
            file.write(bytes([data[place] ^ 1 << draw.randrange(8)]))
        with pytest.raises(BoxError):
            check_box(box, KEYS, nothing)
        with box.open("r+b") as file:
            file.seek(place)
            file.write(data[place : place + 1])
    check_box(box, KEYS, nothing)


@pytest.mark.parametrize("left", [0, 1, 21, 22, 100, 10_000, -1, -22, -23, -5000])
def test_a_box_that_was_cut_short(make_box: Maker, left: int) -> None:
    box = make_box()
    os.truncate(box, left if left >= 0 else box.stat().st_size + left)
    with pytest.raises(BoxError):
        check_box(box, KEYS, nothing)


def test_something_was_put_before_or_behind_or_between(make_box: Maker) -> None:
    box = make_box()
    data, start = box.read_bytes(), open_box(box).archive.start
    for changed in (data + b"\0", b"\0" + data, data[:start] + b"x" + data[start:], data + data[start:]):
        box.write_bytes(changed)
        with pytest.raises(BoxError):
            check_box(box, KEYS, nothing)


def test_keys(make_box: Maker) -> None:
    box = make_box(key=OTHER_KEY)
    with pytest.raises(BoxError, match="another key"):
        check_box(box, KEYS, nothing)
    with pytest.raises(BoxError, match="no key is trusted here yet"):
        check_box(box, frozenset(), nothing)
    assert check_box(box, KEYS | {fingerprint(OTHER_KEY)}, nothing).key == fingerprint(OTHER_KEY)


def members(box: Path) -> dict[str, bytes]:
    return dict(open_box(box).members)


def with_members(box: Path, changed: dict[str, bytes]) -> None:
    """The box with another archive, as well made as the first."""
    start = open_box(box).archive.start
    box.write_bytes(box.read_bytes()[:start] + archive.make(changed))


def test_a_signature_of_something_else(make_box: Maker) -> None:
    box, other = make_box("1"), make_box("2")
    with_members(box, members(box) | {SIGNATURE: members(other)[SIGNATURE]})
    with pytest.raises(BoxError, match="signature"):
        check_box(box, KEYS, nothing)


@pytest.mark.parametrize("name", ["__main__.py", "box/install.py", "box/more.py", "other.py"])
def test_the_code_that_would_run_first_is_signed_too(make_box: Maker, name: str) -> None:
    """A well-made archive with other code in it, beside a signature that fits."""
    box = make_box()
    with_members(box, members(box) | {name: b"print('other code')"})
    with pytest.raises(BoxError, match="not the signed one"):
        check_box(box, KEYS, nothing)


@pytest.mark.parametrize("missing", ["__main__.py", MANIFEST, SIGNATURE, KEY])
def test_an_archive_that_lacks_a_part(make_box: Maker, missing: str) -> None:
    box = make_box()
    with_members(box, {name: data for name, data in members(box).items() if name != missing})
    with pytest.raises(BoxError, match="not in the box"):
        check_box(box, KEYS, nothing)


def test_signed_offsets_that_are_not_so(make_box: Maker) -> None:
    """Signed by the right key, by a packer with a bug: a gap, an overlap, an end beyond the file."""
    blobs = [make_box.blob(str(n), bytes([n]) * 10) for n in range(4)]
    paths = ("model/model.gguf", "box/launch.py", BOOTSTRAP, "lib/x/y.so")
    places = offsets(blobs)
    good = [
        entry(path, 0, size=10, sha256=blob.sha256, offset=places[blob.sha256])
        for path, blob in zip(paths, blobs, strict=True)
    ]
    changes = [(3, {"size": 11}), (3, {"offset": 2**40}), (0, {"offset": 24}), (1, {"offset": 23}), (3, {"size": 9})]
    for index, change in changes:
        files = [{**file, **change} if n == index else file for n, file in enumerate(good)]
        signed = json.dumps(value(files=files, cpu={"x": []})).encode()
        with pytest.raises(BoxError, match=r"(where|than) its manifest says"):
            check_box(make_box.pack("wrong.edge", blobs, signed), KEYS, nothing)


def test_a_source_that_changes_while_it_is_packed(make_box: Maker, tmp_path: Path) -> None:
    good = make_box.blob("blob", b"content")
    for blob in (Blob(good.source, 6, good.sha256), Blob(good.source, 7, "0" * 64), Blob(good.source, 8, good.sha256)):
        with pytest.raises(BoxError, match="changed while it was packed"):
            write_box(tmp_path / "box", [blob], {BOOTSTRAP: b""})
    assert not list(tmp_path.glob("*box*"))


def test_what_a_killed_pack_left_is_taken_over(make_box: Maker, tmp_path: Path) -> None:
    """The bug: it was named after its process, so that each kill left gigabytes for ever. While another pack runs,
    nothing of its file is touched."""
    partial = make_box.folder / ".box1.edge.partial"
    partial.write_bytes(bytes(1 << 20))
    with partial.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(BoxError, match="another process"):
            make_box()
    assert partial.stat().st_size == 1 << 20
    make_box.count = 0
    check_box(make_box(), frozenset((MARK,)), nothing)
    assert not partial.exists()


def test_places_follow_the_order(make_box: Maker) -> None:
    one, two = make_box.blob("1", b"one"), make_box.blob("2", b"second")
    start = len(SHEBANG)
    assert offsets([one, two, one]) == {one.sha256: start, two.sha256: start + 3}
    assert list(distinct([two, one, two])) == [two.sha256, one.sha256]


def test_a_box_of_more_than_4_gib_runs(make_box: Maker, tmp_path: Path) -> None:
    """The bug it prevents: Python 3.11 cannot run an archive with ZIP64 in it, which offsets beyond 4 GiB need."""
    box = make_box("large")
    opened, data = open_box(box), box.read_bytes()
    large = tmp_path / "large.edge"
    with large.open("wb") as file:
        file.write(SHEBANG)
        file.truncate(5 << 30)  # a hole
        file.seek(0, os.SEEK_END)
        file.write(data[opened.archive.start :])
    assert open_box(large).archive.start == 5 << 30
    done = subprocess.run([sys.executable, "-I", large, "show"], capture_output=True, text=True)
    assert "edge large" in done.stdout, done.stderr


@pytest.mark.parametrize("seed", range(30))
def test_ends_of_rubbish(tmp_path: Path, seed: int) -> None:
    """Whatever the end says of sizes and places: an error in words, at once, and little memory."""
    draw = random.Random(seed)
    counts, sizes = [draw.getrandbits(16) for _ in range(4)], [draw.getrandbits(draw.choice((8, 32))) for _ in range(2)]
    end = archive.END.pack(b"PK\5\6", *counts, *sizes, 0)
    (tmp_path / "box").write_bytes(SHEBANG + draw.randbytes(500) + end)
    with pytest.raises(BoxError):
        open_box(tmp_path / "box")
