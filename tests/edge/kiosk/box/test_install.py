"""Installing on this machine, with a fake runtime that is started and asked as a real one is."""

from __future__ import annotations

import errno
import json
import os
import stat
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from convert.errors import EdgeError
from edge.kiosk import prove
from edge.kiosk.box import install as installing
from edge.kiosk.box import store
from edge.kiosk.box.errors import BoxError
from edge.kiosk.box.install import Ways
from edge.kiosk.box.layout import Layout, current_slot, holding, leftovers
from edge.kiosk.box.rollback import roll_back
from edge.kiosk.box.status import read_status, verify_current
from edge.kiosk.box.target import Target, read_target
from tests.edge.kiosk.box.boxes import MARK, OTHER_KEY, SHARED, Maker, fingerprint, nothing, version_of
from tests.edge.kiosk.box.conftest import Installer, pass_at_once


def logged(layout: Layout) -> str:
    return layout.log.read_text()


def everything(folder: Path) -> dict[str, Any]:
    """What would show a change: kinds, modes, sizes, times and links."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        if not path.is_relative_to(folder / "log"):
            seen = path.lstat()
            found[str(path)] = (seen.st_mode, seen.st_size, seen.st_mtime_ns, seen.st_nlink, seen.st_ino)
    return found


# --- what works


def test_install_update_roll_back(make_box: Maker, put: Installer, layout: Layout) -> None:
    put(make_box("1"))
    assert (version_of(layout), version_of(layout, "previous")) == ("1", None)
    assert layout.trusted.read_text() == f"{MARK}\n"
    put(make_box("2"), Ways())  # the key is pinned
    assert (version_of(layout), version_of(layout, "previous")) == ("2", "1")
    put(make_box("3"), Ways())
    assert (version_of(layout), version_of(layout, "previous")) == ("3", "2")
    roll_back(layout, None, put.said.append)
    assert (version_of(layout), version_of(layout, "previous")) == ("2", "3")
    roll_back(layout, None, put.said.append)
    assert (version_of(layout), version_of(layout, "previous")) == ("3", "2")
    put(make_box("4"), Ways())
    assert (version_of(layout), version_of(layout, "previous")) == ("4", "3")
    assert "decodes 50.00 tokens/s of 50.00 planned" in logged(layout)
    assert "rolled back to slot" in logged(layout)
    assert leftovers(layout) == set()


def test_two_versions_share_what_is_the_same(make_box: Maker, put: Installer, layout: Layout, untried: None) -> None:
    put(make_box("1"))
    first = {path.name for path in layout.store.iterdir()}
    put(make_box("2"))
    assert len({path.name for path in layout.store.iterdir()} - first) == 1  # the file that holds the version
    models = [layout.slot(name) / "model" / "model.gguf" for name in "ab"]
    assert models[0].samefile(models[1])
    put(make_box("3"))
    names = {path.name for path in layout.store.iterdir()}
    assert len(first - names) == 1  # what only version 1 had
    assert all(path.stat().st_nlink > 1 for path in layout.store.iterdir())


def test_each_level_has_its_libraries_in_one_folder(
    make_box: Maker, put: Installer, layout: Layout, untried: None
) -> None:
    put(make_box())
    for level in ("plain", "never"):
        folder = layout.current / "lib" / level
        assert {path.name for path in folder.iterdir()} == {"libggml-cpu.so", "libllama.so"}
        assert (folder / "libggml-cpu.so").read_bytes() == level.encode()


@pytest.mark.parametrize("umask", [0o000, 0o077, 0o777])
def test_an_odd_umask(make_box: Maker, put: Installer, layout: Layout, umask: int) -> None:
    """The service runs as another user, who must be able to read; nobody else may write."""
    box = make_box()
    before = os.umask(umask)
    try:
        put(box)
    finally:
        os.umask(before)
    for path in [layout.root, *layout.root.rglob("*")]:
        mode = stat.S_IMODE(path.lstat().st_mode)
        if path.is_symlink() or path.name in (".lock", ".trial-lock"):
            continue
        assert mode & 0o022 == 0, path
        assert mode & 0o444 == 0o444, path
        if path.is_dir() or path.name in ("tool", "edge"):
            assert mode & 0o111 == 0o111, path
    assert version_of(layout) == "1"


def test_the_same_box_again_changes_nothing(make_box: Maker, put: Installer, layout: Layout) -> None:
    box = make_box("1")
    put(make_box("0"))
    put(box)
    before = everything(layout.slots) | everything(layout.store)
    put(box)
    assert put.said[-1].endswith("is installed already, and sound")
    assert everything(layout.slots) | everything(layout.store) == before
    assert version_of(layout, "previous") == "0"


def test_the_same_box_again_mends_what_suffered(make_box: Maker, put: Installer, layout: Layout, untried: None) -> None:
    """A damaged version is nothing to go back to, and a damaged file of the store is not linked again."""
    box = make_box("1")
    put(box)
    model = layout.current / "model" / "model.gguf"
    model.chmod(0o644)
    with model.open("r+b") as file:
        file.write(b"X")
    model.chmod(0o444)
    assert verify_current(layout, nothing)[1] == ["model/model.gguf is damaged"]
    put(box)
    assert (version_of(layout), version_of(layout, "previous")) == ("1", None)
    assert any("was damaged on this disk" in line for line in put.said)
    assert [path.name for path in layout.slots.iterdir()] == [current_slot(layout)]


def test_the_launcher_runs_the_current_version(make_box: Maker, layout: Layout, tmp_path: Path, untried: None) -> None:
    layout = Layout(tmp_path / "a 'root' with $signs")
    Installer(layout)(make_box(behaviour={"planned": 7.5}))
    done = subprocess.run([layout.launcher, "plan"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["levels"][1]["decode"] == 7.5


# --- the trial


@pytest.mark.parametrize(
    ("behaviour", "words"),
    [
        ({"answer": "London"}, "it answered 'London', which does not begin with 'Paris'"),
        ({"speed": 39.9}, "it decodes 39.90 tokens/s, less than 0.8 of the planned 50.00"),
        ({"fails": "no memory"}, "it ended while it started: error: no memory"),
        ({"dies": True}, "it ended while it answered: error: something broke"),
        ({"answer": None}, "it answered ''"),
        ({"speed": "fast"}, "no timings"),
        ({"planned": "fast"}, "its plan cannot be read"),
    ],
)
def test_a_version_that_fails_its_trial(
    make_box: Maker,
    put: Installer,
    layout: Layout,
    behaviour: dict[str, Any],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        pass_at_once(patch)
        put(make_box("1"))
        put(make_box("2"))
    before = everything(layout.slots)
    with pytest.raises(BoxError, match=words):
        put(make_box("3", behaviour=behaviour))
    assert (version_of(layout), version_of(layout, "previous")) == ("2", "1")
    assert {path: seen for path, seen in everything(layout.slots).items() if path != str(layout.slots)}.keys() == {
        path for path in before if path != str(layout.slots)
    }
    assert words.replace("\\", "") in logged(layout)
    assert leftovers(layout) == set()
    assert all(path.stat().st_nlink > 1 for path in layout.store.iterdir())


def test_a_first_version_that_fails_leaves_nothing_current(make_box: Maker, put: Installer, layout: Layout) -> None:
    with pytest.raises(BoxError, match="London"):
        put(make_box(behaviour={"answer": "London"}))
    assert current_slot(layout) is None
    assert not layout.trusted.exists()
    assert list(layout.store.iterdir()) == list(layout.slots.iterdir()) == []


def test_another_bound_of_speed(make_box: Maker, put: Installer, layout: Layout) -> None:
    put(make_box("1", behaviour={"speed": 39.9}), Ways(MARK, min_speed=0.5))
    put(make_box("2", behaviour={"planned": "fast", "speed": None}), Ways(min_speed=0))
    assert version_of(layout) == "2"


def test_a_long_system_prompt_does_not_slow_the_trial(make_box: Maker, put: Installer, layout: Layout) -> None:
    """The bug: the speed was measured while the server computed the visitors' system prompt, which it begins at its
    start; with a long one every box was refused as too slow."""
    put(make_box("1", behaviour={"system": "You are the guide of the Museum of Rivers."}))
    assert version_of(layout) == "1"


# --- what is refused before anything is written


def refused(put: Installer, box: Path, words: str, ways: Ways = Ways(MARK)) -> None:  # noqa: B008 - is frozen
    there = put.layout.root.exists()
    before = everything(put.layout.root) if there else {}
    with pytest.raises(BoxError, match=words):
        put(box, ways)
    assert put.layout.root.exists() == there
    assert not there or everything(put.layout.root) == before


def test_keys(make_box: Maker, put: Installer, layout: Layout, untried: None) -> None:
    refused(put, make_box("1"), "no key is trusted here yet", Ways())
    refused(put, make_box("1"), "64 hex digits", Ways("abc"))
    refused(put, make_box("1", key=OTHER_KEY), "another key")
    put(make_box("1"), Ways(":".join(MARK[n : n + 2] for n in range(0, 64, 2)).upper()))
    refused(put, make_box("2", key=OTHER_KEY), "another key", Ways())
    assert "was not installed: this box is signed with another key" in logged(layout)
    put(make_box("2", key=OTHER_KEY), Ways(fingerprint(OTHER_KEY)))
    assert set(layout.trusted.read_text().split()) == {MARK, fingerprint(OTHER_KEY)}
    put(make_box("3"), Ways())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"machine": "vax"}, "this box is for vax"),
        ({"python": "3.4"}, "needs Python 3.4"),
        ({"glibc": "99.0"}, "needs glibc 99.0"),
        ({"cpu": {"plain": ("avx9000",)}}, "needs: avx9000"),
        ({"memory": 1 << 43}, "of memory"),
    ],
)
def test_a_box_for_another_machine(
    make_box: Maker, put: Installer, changes: dict[str, Any], words: str, untried: None
) -> None:
    box = make_box("2", **changes)
    refused(put, box, words)
    put(make_box("1"))
    refused(put, box, words)


def test_a_disk_that_is_too_small(
    make_box: Maker, put: Installer, layout: Layout, untried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "free_disk", lambda place: 40 << 20)
    large = make_box("2", extra={"more": bytes(9 << 20)})
    refused(put, large, "has 40 MiB of disk free, and this box needs 4[23] MiB")
    put(make_box("1"))
    refused(put, large, "make room")
    assert version_of(layout) == "1"


def test_the_version_to_go_back_to_makes_room(
    make_box: Maker, put: Installer, layout: Layout, untried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An 8 GB disk can hold an update, though not three versions."""

    def free(place: Path) -> int:
        used = sum(path.stat().st_size for path in layout.store.iterdir()) if layout.store.exists() else 0
        return (55 << 20) - used

    monkeypatch.setattr(store, "free_disk", free)
    for version in "123":
        put(make_box(version, extra={"more": version.encode() * (9 << 20)}))
    assert (version_of(layout), version_of(layout, "previous")) == ("3", "2")
    assert any("was removed, to make room" in line for line in put.said)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("name", ["open", "replace", "link", "mkdir", "fsync", "symlink", "unlink"])
def test_a_disk_that_fails(
    make_box: Maker,
    put: Installer,
    layout: Layout,
    untried: None,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    number: int,
) -> None:
    """Full, read-only, not ours, failing: a sentence, and what was current still is."""
    put(make_box("1"))
    box = make_box("2")
    real = getattr(os, name)

    def fails(*arguments: Any, **options: Any) -> Any:
        writes = name != "open" or (len(arguments) > 1 and arguments[1] & os.O_WRONLY)
        if writes and not str(arguments[0]).endswith("kiosk.log"):
            raise OSError(number, os.strerror(number), arguments[0] if isinstance(arguments[0], str) else None)
        return real(*arguments, **options)

    with monkeypatch.context() as patch, pytest.raises(BoxError, match="cannot change"):
        patch.setattr(os, name, fails)
        put(box)
    assert version_of(layout) == "1"
    put(box)
    assert (version_of(layout), version_of(layout, "previous")) == ("2", "1")


# --- who may change it


def test_one_at_a_time(make_box: Maker, put: Installer, layout: Layout, untried: None) -> None:
    put(make_box("1"))
    with holding(layout):
        with pytest.raises(BoxError, match="another install or rollback"):
            put(make_box("2"))
        with pytest.raises(BoxError, match="another install or rollback"):
            roll_back(layout, None, put.said.append)


def test_links_that_were_planted(
    make_box: Maker, put: Installer, layout: Layout, tmp_path: Path, untried: None
) -> None:
    """Nothing outside the root is written, read as ours, or removed, whatever a link in it leads to."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(SHARED)
    put(make_box("1"))
    for path in (layout.trial, layout.new("b"), layout.old("b"), layout.slot("b")):
        path.symlink_to(outside)
    for path in (layout.root / ".current.partial", layout.root / ".edge.partial", layout.previous):
        path.symlink_to(outside / "precious")
    model = next(path for path in layout.store.iterdir() if path.stat().st_size == len(SHARED))
    model.unlink()
    model.symlink_to(outside / "precious")
    before = everything(outside)
    with pytest.raises(BoxError, match="previous"):
        put(make_box("2"))
    layout.previous.unlink()
    put(make_box("2"))
    assert everything(outside) == before
    assert (version_of(layout), version_of(layout, "previous")) == ("2", "1")
    assert not (layout.slot("b") / "model" / "model.gguf").samefile(outside / "precious")


@pytest.mark.parametrize("which", ["store", "slots", "log"])
def test_a_folder_that_is_a_link_or_open_to_others(
    make_box: Maker, put: Installer, layout: Layout, tmp_path: Path, untried: None, which: str
) -> None:
    put(make_box("1"))
    folder, away = layout.root / which, tmp_path / "away"
    folder.chmod(0o777)
    with pytest.raises(BoxError, match="others may write"):
        put(make_box("2"))
    folder.chmod(0o755)
    folder.rename(away)
    folder.symlink_to(away)
    with pytest.raises(BoxError):
        put(make_box("2"))


def test_a_root_that_others_may_change(make_box: Maker, put: Installer, layout: Layout) -> None:
    layout.root.mkdir()
    layout.root.chmod(0o775)
    refused(put, make_box(), "others may write")


@pytest.mark.parametrize("target", ["/etc", "slots/c", "slots/../slots/a", "slots/a/", "store"])
def test_a_current_that_leads_elsewhere(
    make_box: Maker, put: Installer, layout: Layout, untried: None, target: str
) -> None:
    put(make_box("1"))
    layout.current.unlink()
    layout.current.symlink_to(target)
    for act in (lambda: put(make_box("2")), lambda: roll_back(layout, None, print), lambda: read_status(layout, None)):
        with pytest.raises(BoxError, match="leads to no slot"):
            act()
    layout.current.unlink()
    put(make_box("2"))
    assert version_of(layout) == "2"


def test_keys_that_only_root_may_see(
    make_box: Maker, put: Installer, layout: Layout, untried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug: who forgot sudo saw a traceback, since Path.is_file raises where a folder may not be searched."""
    made, is_file = put(make_box("1")), Path.is_file

    def refused(path: Path) -> bool:
        if path.parent == layout.keys:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return is_file(path)

    monkeypatch.setattr(Path, "is_file", refused)
    with pytest.raises(BoxError, match="keys: Permission denied; run this as root"):
        installing.unit_files(layout, made)
    with pytest.raises(EdgeError, match="run this as root"):
        prove.installed(layout)


# --- what is told of it


def test_status_and_verify(make_box: Maker, put: Installer, layout: Layout, untried: None) -> None:
    empty = read_status(layout, None).as_json()
    assert (empty["current"], empty["previous"], empty["service"], empty["log"]) == (None, None, "absent", ())
    with pytest.raises(BoxError, match="nothing is installed"):
        verify_current(layout, nothing)
    put(make_box("1"))
    put(make_box("2"))
    told = json.loads(json.dumps(read_status(layout, None).as_json()))
    assert (told["current"]["version"], told["previous"]["version"]) == ("2", "1")
    assert told["current"]["key"] == MARK
    assert told["current"]["bytes"] > len(SHARED)
    assert "switched to slot b" in told["log"][-1]
    assert verify_current(layout, nothing)[1] == []


def test_verify_names_what_is_wrong(make_box: Maker, put: Installer, layout: Layout, untried: None) -> None:
    put(make_box())
    slot = layout.slot("a")
    (slot / "site" / "empty.py").unlink()
    (slot / "site" / "sitecustomize.py").write_text("import this")
    (slot / "site" / "folder").symlink_to("/etc")
    (slot / "bin" / "tool").chmod(0o755)
    assert verify_current(layout, nothing)[1] == [
        "site/empty.py is missing, or has another size",
        "bin/tool is damaged",
        "site/folder is not of the box",
        "site/sitecustomize.py is not of the box",
    ]
    (slot / "manifest.json").chmod(0o644)
    with (slot / "manifest.json").open("ab") as file:
        file.write(b" ")
    with pytest.raises(BoxError, match="signature"):
        verify_current(layout, nothing)


def test_nothing_to_go_back_to(make_box: Maker, put: Installer, layout: Layout, untried: None) -> None:
    with pytest.raises(BoxError, match="nothing is installed"):
        roll_back(layout, None, put.said.append)
    assert not layout.root.exists()
    put(make_box())
    with pytest.raises(BoxError, match="no version to go back to"):
        roll_back(layout, None, put.said.append)


def test_the_target_is_read_once_a_time(
    make_box: Maker, put: Installer, untried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CPU without any flag still runs a library that needs none."""
    bare: Target = replace(read_target(), flags=frozenset())
    monkeypatch.setattr(installing, "read_target", lambda: bare)
    put(make_box())


def test_a_refusal_is_logged_in_a_folder_of_ours_alone(make_box: Maker, put: Installer, layout: Layout) -> None:
    """A link that somebody put there would lead root elsewhere."""
    elsewhere = layout.root.with_name("elsewhere")
    elsewhere.mkdir()
    layout.root.mkdir()
    layout.log.parent.symlink_to(elsewhere)
    with pytest.raises(BoxError):
        put(make_box("1"), Ways("0" * 64))
    assert not list(elsewhere.iterdir())
