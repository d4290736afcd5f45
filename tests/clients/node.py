"""The npm package openai: installed once into the cache, and run by node."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.clients.command import ROOT

SOURCES = Path(__file__).parent / "npm"
FOLDER = ROOT / ".cache" / "openai-npm"


def install() -> Path:
    """The folder that holds our scripts beside their packages. Needs node 20, and npm's registry the first time."""
    assert shutil.which("node") and shutil.which("npm"), "install Node 20 or newer"
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted, there = SOURCES / "package.json", FOLDER / "package.json"
    installed = (FOLDER / "node_modules" / "openai").is_dir() and there.is_file()
    if not installed or there.read_bytes() != wanted.read_bytes():
        shutil.copy(wanted, there)
        options = ["--no-audit", "--no-fund", "--no-package-lock", "--ignore-scripts", "--no-update-notifier"]
        subprocess.run(["npm", "install", *options], cwd=FOLDER, check=True, timeout=300)
    for script in SOURCES.glob("*.mjs"):
        shutil.copy(script, FOLDER)
    return FOLDER


def run(script: Path, *arguments: str) -> str:
    """What it printed. Its failure is the test's."""
    done = subprocess.run(
        ["node", script.name, *arguments], cwd=script.parent, capture_output=True, encoding="utf-8", timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def results(folder: Path, cases: str, url: str, *arguments: str) -> dict[str, Any]:
    """What each case of a module gave."""
    return json.loads(run(folder / "run.mjs", cases, url, *arguments))
