"""The peer of the engine: llama.cpp's own llama-bench and llama-batched-bench, compiled as `make setup` compiles it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peer import OPTIONS
from tests.oracle.source import CACHE, llama_cpp_source

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))  # its files are scripts, run from their folder
from tools import setup

BUILD = CACHE / "peer-bench"
PROGRAMS = ("llama-bench", "llama-batched-bench")
# The same for both programs, and for our side in benchmarks/engine.py.
SETTINGS = ("-ub", "512", "-b", "2048", "-fa", "on", "-ctk", "f16", "-ctv", "f16", "-ngl", "0")


def build(threads: int) -> None:
    """Compile both programs for this machine where they are missing; minutes the first time."""
    if all((BUILD / "bin" / program).is_file() for program in PROGRAMS):
        return
    if not shutil.which("cmake"):
        raise SystemExit("cmake is not installed; pip install cmake ninja")
    print("building llama-bench and llama-batched-bench, about 12 minutes on two cores", flush=True)
    environment = setup.build_environment(os.environ, cuda=False)  # without AMX where the compiler cannot
    source = str(llama_cpp_source())
    subprocess.run(["cmake", "-S", source, "-B", str(BUILD), *OPTIONS], env=environment, check=True)
    targets = ["--target", *PROGRAMS, "-j", str(threads)]
    subprocess.run(["cmake", "--build", str(BUILD), *targets], env=environment, check=True)


def single(model: Path, threads: int, prompt: int, answer: int) -> tuple[float, float]:
    """llama-bench: tokens/s of a prompt and of an answer that begins in an empty cache."""
    sizes = ["-p", str(prompt), "-n", str(answer), "-r", "1", "-o", "json"]
    tests = json.loads(run("llama-bench", model, threads, sizes))
    rates = {bool(test["n_gen"]): float(test["avg_ts"]) for test in tests}
    return rates[False], rates[True]


def batched(model: Path, threads: int, prompt: int, answer: int, widths: Sequence[int]) -> dict[int, float]:
    """llama-batched-bench: width -> tokens/s of that many answers at once, after prompts of their own."""
    cells = max(widths) * (prompt + answer)
    sizes = ["-npp", str(prompt), "-ntg", str(answer), "-npl", ",".join(map(str, widths)), "-c", str(cells)]
    options = [*sizes, "-tb", str(threads), "-fit", "off", "--output-format", "jsonl"]
    lines = [line for line in run("llama-batched-bench", model, threads, options).splitlines() if line.startswith("{")]
    tests: list[dict[str, Any]] = [json.loads(line) for line in lines]
    return {test["pl"]: float(test["speed_tg"]) for test in tests}


def run(program: str, model: Path, threads: int, options: Sequence[str]) -> str:
    """What it prints to stdout."""
    command = [str(BUILD / "bin" / program), "-m", str(model), "-t", str(threads), *SETTINGS, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
