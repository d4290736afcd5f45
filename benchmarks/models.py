"""The files that benchmarks of several levels measure: the real 0.5B and both tiny models, converted once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from edge.reference import EMBEDDED, parse
from tests.oracle.source import CACHE
from tests.real.fetch import real_checkpoint

REAL = "0.5B"
LEVELS = ("BF16", "Q8_0", "Q6_K", "Q4_K_M", "Q4_0")
ROOT = Path(__file__).resolve().parents[1]


def level_files(name: str) -> dict[str, Path]:
    """Level -> GGUF of ``REAL`` or an embedded model."""
    checkpoint = real_checkpoint() if name == REAL else parse(name).checkpoint
    files = {level: CACHE / "benchmark" / f"{name}-{level}.gguf" for level in LEVELS}
    for level, path in files.items():
        if not path.is_file():
            path.parent.mkdir(parents=True, exist_ok=True)
            command = [sys.executable, "-m", "convert", str(checkpoint), str(path), "--level", level, "--no-check"]
            subprocess.run(command, check=True, cwd=ROOT)
    return files


def model_files() -> list[Path]:
    return [path for name in (REAL, *EMBEDDED) for path in level_files(name).values()]
