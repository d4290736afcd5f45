"""A model that is served for a comparison, and what becomes of its process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from convert.pipeline import convert
from edge.compare import contender
from edge.compare.contender import from_file
from edge.reference import parse

SERVES = """\
import sys, time
from pathlib import Path
from edge.compare.contender import from_file, serving
with serving(from_file("tiny", Path(sys.argv[1])), Path(sys.argv[2]), None, False) as served:
    print(served.process.pid, flush=True)
    time.sleep(60)
"""


def test_a_killed_comparison_leaves_no_model_in_memory(tmp_path: Path) -> None:
    """Its server went on for ever."""
    checkpoint = parse("tiny-qwen").checkpoint
    assert checkpoint is not None
    convert(checkpoint, {"Q4_0": (path := tmp_path / "tiny.gguf")})
    command = [sys.executable, "-c", SERVES, str(path), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        assert server.is_running()
        parent.kill()
    server.wait(20)  # raises where it is still there


@pytest.mark.parametrize("stem, base", [("qwen-Q4_0", "qwen"), ("qwen.q4_0", "qwen"), ("qwen", "qwen")])
def test_files_called_after_their_levels_are_levels_of_one_model(
    stem: str, base: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each was a model of its own, and the report had no differences between levels."""
    monkeypatch.setattr(contender, "read_sane", lambda path: None)
    monkeypatch.setattr(contender, "level_of", lambda file: "Q4_0")
    found = from_file(stem, Path(f"{stem}.gguf"))
    assert (found.name, found.base, found.level) == (f"{base}:Q4_0", base, "Q4_0")
