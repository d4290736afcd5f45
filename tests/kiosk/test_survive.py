"""Small runs of tests/survive: that its programs work, and that what they found stays mended."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.survive.common import ROOT


def survive(program: str, *arguments: str) -> dict[str, Any]:
    """What a program's last line says. Nothing may be wrong."""
    command = [sys.executable, "-m", f"tests.survive.{program}", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("operation", ["convert", "pull", "pack", "install", "state"])
def test_kills(operation: str) -> None:
    found = survive("kill", "--count", "4", "--only", operation)
    assert found["counts"][operation]["in time"] == 2 == found["counts"][operation]["exact"]


@pytest.mark.parametrize("kind", ["tiny-qwen", "tiny-glm", "state", "lock", "box"])
def test_damaged_files(kind: str) -> None:
    found = survive("mutate", "--count", "60", "--only", kind)
    assert sum(row["cases"] for row in found["counts"].values()) == 60
    assert sum(row.get("refused", 0) for row in found["counts"].values()) > 30


@pytest.mark.skipif(
    subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0, reason="no user namespaces here"
)
@pytest.mark.parametrize("operation", ["convert", "pull", "pack", "install", "state"])
def test_disks(operation: str) -> None:
    found = survive("disk", "--count", "2", "--only", operation)
    row = found["counts"][operation]
    assert row["small disks"] == 1 == row["disks that fill"] and row["odd places"] == 8 and row["refused"] >= 2


def test_bad_clients() -> None:
    # In so short a time memory is still being found for the first of everything.
    found = survive("soak", "--minutes", "0.3", "--model", "tiny-qwen", "--growth", "1.3")
    assert found["counts"]["whole stream"]["ended well"] > 5
