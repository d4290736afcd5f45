"""What the engine's benchmarks are told, and what they say first."""

from __future__ import annotations

import argparse
import platform
from pathlib import Path

from benchmarks.convert import machine


def parser(description: str, runs: int = 5) -> argparse.ArgumentParser:
    """Of ``model``, ``runs`` and ``threads``."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("model", type=Path, nargs="?", help="a GGUF file (default: the real 0.5B at Q4_0)")
    made.add_argument("--runs", type=int, default=runs)
    made.add_argument("--threads", type=int, default=2)
    return made


def heading(options: argparse.Namespace) -> str:
    """Machine, threads, runs and Python, in a line."""
    return f"{machine()}; {options.threads} threads, {options.runs} runs; Python {platform.python_version()}"
