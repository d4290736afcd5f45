"""``python3 box.edge``, as somebody runs it who has nothing but Python."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge.kiosk.box.layout import Layout
from tests.edge.kiosk.box.boxes import MARK, OTHER_KEY, Maker, version_of


def run(box: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Isolated, and without any installed package."""
    return subprocess.run([sys.executable, "-I", "-S", str(box), *arguments], capture_output=True, text=True, cwd="/")


def test_install_and_verify(make_box: Maker, layout: Layout) -> None:
    box, root = make_box("1"), str(layout.root)
    done = run(box, "verify", "--key", MARK)
    assert done.returncode == 0, done.stderr
    assert f"every byte is the one that {MARK} signed" in done.stdout
    done = run(box, "install", "--key", MARK, "--root", root, "--no-service")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert f"run it: {root}/edge serve" in done.stdout
    assert version_of(layout) == "1"
    assert run(make_box("2"), "install", "--root", root, "--no-service").returncode == 0
    assert version_of(layout) == "2"


def test_what_is_wrong_is_one_line(make_box: Maker, layout: Layout) -> None:
    box = make_box(key=OTHER_KEY)
    done = run(box, "install", "--key", MARK, "--root", str(layout.root), "--no-service")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("error: this box is signed with another key")
    assert done.stderr.count("\n") == 1
    assert not layout.root.exists()


def test_show(make_box: Maker) -> None:
    box = make_box("1")
    assert "says it is signed by " + MARK in run(box, "show").stdout
    shown = json.loads(run(box, "show", "--json").stdout)
    assert (shown["name"], shown["key"], shown["bytes"]) == ("tiny", MARK, box.stat().st_size)
    tail = subprocess.run(f"tail -c {shown['archive_length']} {box} | sha256sum", shell=True, capture_output=True)
    assert tail.stdout.split()[0].decode() == shown["archive_sha256"]


@pytest.mark.parametrize("arguments", [[], ["install", "--min-speed", "2"], ["install", "--min-speed", "x"], ["eat"]])
def test_what_cannot_be_asked(make_box: Maker, arguments: list[str]) -> None:
    done = run(make_box(), *arguments)
    assert done.returncode == 2
    assert "usage: python3 BOX" in done.stderr


def test_a_share_that_is_none_is_told_in_words(make_box: Maker) -> None:
    """It was "invalid part value", by the name of a function."""
    assert "'5' is no number from 0 to 1" in run(make_box(), "install", "--min-speed", "5").stderr


def test_who_reads_may_stop_early(make_box: Maker) -> None:
    """``show | head -1`` ended in a traceback."""
    command = f"{sys.executable} -I -S {make_box()} show | true"
    assert subprocess.run(command, shell=True, capture_output=True).stderr == b""


def test_an_address_without_a_service_is_refused(make_box: Maker, layout: Layout) -> None:
    """It was taken, whatever it was, and then used by nothing."""
    done = run(make_box(), "install", "--key", MARK, "--root", str(layout.root), "--no-service", "--listen", "nonsense")
    assert done.returncode == 1
    assert done.stderr.startswith("error: --listen is for the service")
    assert not layout.root.exists()
