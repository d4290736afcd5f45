"""A packed tiny-qwen: what is in the box is enough to serve it, on every CPU level that this CPU can run."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edge import machine
from edge.kiosk import builds
from edge.kiosk.box import ed25519
from edge.kiosk.box.container import copy, open_box
from edge.kiosk.box.manifest import parse
from edge.kiosk.pack import Packed
from edge.llama.library import instruction_sets

# What the launcher does, without it: only the box's packages and the standard library can be imported.
ANSWER = """
import json, os, sys
sys.path.insert(0, sys.argv[1])
os.environ["LLAMA_CPP_LIB_PATH"] = sys.argv[2]
import edge.cli.serve, edge.server.run
from edge.api import Engine
with Engine(sys.argv[3], slots=1) as llm:
    messages = [{"role": "user", "content": sys.argv[4]}]
    answer = llm.chat(messages, variables={"enable_thinking": False}, temperature=0, max_tokens=32).result
from edge.llama import library
libraries = sorted({line.split()[-1] for line in open("/proc/self/maps") if "ggml" in line or "libllama" in line})
print(json.dumps({"answer": answer.text, "libraries": libraries, "build": library.system_info().features["CPU"]}))
"""


@pytest.fixture(scope="module")
def unpacked(box: Packed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The box's files, every hash checked, with complete folders of libraries as an installation makes them."""
    root = tmp_path_factory.mktemp("unpacked")
    with box.box.open("rb") as file:
        for entry in box.manifest.files:
            target = root / entry.path
            target.parent.mkdir(parents=True, exist_ok=True)
            file.seek(entry.offset)
            with target.open("wb") as out:
                assert copy(file, out, entry.size, lambda nbytes: None) == entry.sha256, entry.path
    for level in box.manifest.cpu:
        for library in (root / "lib" / "common").iterdir():
            os.link(library, root / "lib" / level / library.name)
    return root


def test_the_box_is_signed_by_the_key_it_names(box: Packed) -> None:
    opened = open_box(box.box)
    assert hashlib.sha256(opened.key).hexdigest() == box.fingerprint
    assert ed25519.verify(opened.key, opened.manifest, opened.signature)
    assert parse(opened.manifest) == box.manifest


def test_the_printed_command_gives_the_hash_of_the_installer(box: Packed) -> None:
    shown = subprocess.run(box.check_command, shell=True, cwd=box.box.parent, capture_output=True, text=True)
    assert shown.stdout.split()[0] == box.archive.sha256


def test_each_level_is_compiled_for_what_it_says(unpacked: Path) -> None:
    for level in builds.LEVELS:
        assert instruction_sets(unpacked / "lib" / level.name / builds.CPU_LIBRARY) == level.sets


def test_nothing_of_the_packing_machine_is_needed(unpacked: Path) -> None:
    """Only glibc, and the C++ library that numpy's wheels expect of every system."""
    for path in (unpacked / "lib").rglob("*.so"):
        needed = subprocess.run(["readelf", "-d", str(path)], capture_output=True, text=True, check=True).stdout
        assert "RUNPATH" in needed and "[$ORIGIN]" in needed
        assert not any(word in needed for word in ("libgomp", "libstdc++", "libgcc_s")), path


@pytest.mark.parametrize("level", builds.LEVELS, ids=lambda level: level.name)
def test_every_level_gives_the_golden_answer(level: builds.Level, box: Packed, unpacked: Path) -> None:
    """In a Python that sees no other packages; a missing one, or one of another environment, would show."""
    if not level.sets <= machine.cpu().has:
        pytest.skip(f"this CPU cannot run {level.name}")
    folder, golden = unpacked / "lib" / level.name, box.manifest.golden
    arguments = [str(unpacked / "site"), str(folder), str(unpacked / "model" / "model.gguf"), golden.question]
    python = Path(sys.executable).resolve()  # of the system, not of the environment
    done = subprocess.run(
        [str(python), "-I", "-S", "-c", ANSWER, *arguments],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"], "EDGE_HOME": str(unpacked / "state")},
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["answer"].strip().startswith(golden.prefix)
    assert {Path(path).parent for path in said["libraries"]} == {folder}
    assert ("AVX512" in said["build"]) == (level is builds.AVX512)


@pytest.mark.parametrize(
    "arguments, code, says",
    (
        (["--help"], 0, "serve"),
        (["serve", "--help"], 0, "--kiosk"),
        (["plan", "--help"], 0, "--levels"),
        (["pull", "qwen2.5-7b"], 1, "error: this needs the package "),
        (["doctor"], 1, "error: this needs the package requests"),
    ),
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_the_command_line_works_and_says_what_it_lacks(
    arguments: list[str], code: int, says: str, unpacked: Path
) -> None:
    """A kiosk does not fetch: what that needs is not in the box."""
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from edge.cli.main import main; main()"
    python = str(Path(sys.executable).resolve())
    done = subprocess.run(
        [python, "-I", "-S", "-c", start, str(unpacked / "site"), *arguments], capture_output=True, text=True
    )
    assert done.returncode == code, done.stderr
    assert says in (done.stderr if code else done.stdout)
    assert "Traceback" not in done.stderr


def test_the_packages_leave_no_time_to_compile(unpacked: Path) -> None:
    """Every module has its .pyc, in the form that is not checked against the source."""
    unchecked = (1).to_bytes(4, "little")
    for source in (unpacked / "site" / "edge").rglob("*.py"):
        made = source.parent / "__pycache__" / f"{source.stem}.{sys.implementation.cache_tag}.pyc"
        assert made.read_bytes()[4:8] == unchecked, source


def test_the_update_shares_all_but_the_model(box: Packed, update: Packed) -> None:
    """So that an update of 8 GB disks copies little."""
    old = {entry.sha256 for entry in box.manifest.files}
    new = {entry.path for entry in update.manifest.files if entry.sha256 not in old}
    assert new == {"model/model.gguf", "model/lock.toml"}
