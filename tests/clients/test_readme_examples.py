"""The examples of README's section on serving, as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.clients.command import ROOT, Command

ADDRESS = "http://127.0.0.1:8080"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


EXAMPLES = [(kind, text) for kind, text in FENCE.findall(section("Serve it")) if ADDRESS in text]


def test_there_is_one_for_every_client():
    assert {kind for kind, _ in EXAMPLES} == {"sh", "python", "js"}


@pytest.mark.parametrize(("kind", "text"), EXAMPLES, ids=[kind for kind, _ in EXAMPLES])
def test_it_prints_an_answer(kind: str, text: str, served, npm: Path, tmp_path: Path):
    server: Command = served("tiny-qwen")
    text = text.replace(ADDRESS, server.url)
    if kind == "sh":
        command = ["sh", "-e", "-c", text]
    elif kind == "python":
        command = [sys.executable, "-c", text]
    else:
        script = npm / "example.mjs"
        script.write_text(text, encoding="utf-8")
        command = ["node", script.name]
    where = npm if kind == "js" else tmp_path
    env = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(command, cwd=where, env=env, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"\w+", done.stdout)) >= 3 and "error" not in done.stdout, done.stdout
