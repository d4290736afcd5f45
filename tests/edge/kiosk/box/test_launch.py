"""The real launcher, in a slot whose ``edge`` tells what it was started with."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.kiosk.box import manifest
from edge.kiosk.box.container import open_box
from tests.edge.kiosk.box.boxes import CODE, Maker

TELL = """
import json, os, subprocess, sys
def main():
    child = [sys.executable, "-c", "import edge, sys; print(edge.__file__)"]
    print(json.dumps({
        "arguments": sys.argv,
        "path": sys.path,
        "libraries": os.environ["LLAMA_CPP_LIB_PATH"],
        "root": os.environ["EDGE_KIOSK_ROOT"],
        "home": os.environ.get("EDGE_HOME"),
        "child": subprocess.run(child, capture_output=True, text=True).stdout.strip(),
        "modules": sorted(name for name in sys.modules if name == "box" or name.startswith("box.")),
    }))
"""


@pytest.fixture
def slot(make_box: Maker, tmp_path: Path) -> Path:
    """Laid out by hand: no box may hold another launcher than the one that the tests of installing fake."""
    folder = tmp_path / "root" / "slots" / "a"
    for part in ("box", "site/edge/cli", "lib/plain"):
        (folder / part).mkdir(parents=True)
    for path in CODE.glob("*.py"):
        (folder / "box" / path.name).write_bytes(path.read_bytes())
    for path, text in {"edge/__init__.py": "", "edge/cli/__init__.py": "", "edge/cli/main.py": TELL}.items():
        (folder / "site" / path).write_text(text)
    (folder / manifest.MANIFEST).write_bytes(open_box(make_box()).manifest)
    return folder


def launch(slot: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(slot / "box" / "launch.py"), *arguments]
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "EDGE", "STATE"))}
    return subprocess.run(command, capture_output=True, text=True, env={**plain, **environment}, cwd="/")


def told(slot: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    done = launch(slot, *arguments, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_command_line_of_the_slot(slot: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    found = told(slot, "plan", "x", "--json", PYTHONPATH=str(tmp_path / "elsewhere"))
    assert found["arguments"] == ["edge", "plan", "x", "--json"]
    assert found["libraries"] == str(slot / "lib" / "plain")
    assert found["root"] == str(slot.parent.parent)
    assert found["path"][0] == str(slot / "site")
    assert not [path for path in found["path"][1:] if path.endswith("-packages") or str(tmp_path) in path]
    assert found["modules"] == []
    assert found["child"] == str(slot / "site" / "edge" / "__init__.py")


def test_through_the_link_to_the_current_slot(slot: Path) -> None:
    link = slot.parent.parent / "current"
    link.symlink_to("slots/a")
    assert told(link, "list")["libraries"] == str(slot / "lib" / "plain")


def test_the_service(slot: Path, tmp_path: Path) -> None:
    model = str(slot / "model" / "model.gguf")
    found = told(slot, "serve", "--socket", "s", STATE_DIRECTORY=f"{tmp_path}:/other")
    begin = ["edge", "serve", model, "--alias", "tiny"]
    assert found["arguments"] == [*begin, "--state-dir", str(tmp_path), "--ctx", "256", "--socket", "s"]
    assert found["home"] == str(tmp_path)
    (slot / "kiosk.toml").write_text("")
    own = str(slot.parent.parent / "state")
    page = ["--kiosk", str(slot / "kiosk.toml")]
    assert told(slot, "serve")["arguments"] == [*begin, *page, "--state-dir", own, "--ctx", "256"]


def test_keys_that_systemd_hands_on(slot: Path, tmp_path: Path) -> None:
    keys = tmp_path / "operator-keys"
    keys.write_text("secret\n")
    found = told(slot, "serve", "--queue", "3", STATE_DIRECTORY=str(tmp_path), CREDENTIALS_DIRECTORY=str(tmp_path))
    assert found["arguments"][-4:] == ["--operator-key-file", str(keys), "--queue", "3"]


def test_no_byte_code_is_left_in_the_slot(slot: Path) -> None:
    """The slot stays what was signed."""
    before = sorted(slot.rglob("*"))
    told(slot, "list")
    assert sorted(slot.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"python": "3.4"}, "error: this box needs Python 3.4, and this is 3."),
        ({"cpu": {"plain": ("avx9000",)}}, "error: no library in this box is for this CPU; install a box that"),
    ],
)
def test_a_machine_that_changed(slot: Path, change: dict[str, Any], words: str) -> None:
    """A newer Python came with an update of the system, or the disk was put into another machine."""
    made = manifest.parse((slot / manifest.MANIFEST).read_bytes())
    (slot / manifest.MANIFEST).write_bytes(manifest.to_bytes(dataclasses.replace(made, **change)))
    done = launch(slot, "serve")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(words)
    (slot / manifest.MANIFEST).unlink()
    assert launch(slot, "serve").stderr.startswith("error: cannot read")
