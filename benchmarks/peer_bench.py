"""The peer of the engine: llama.cpp's own benchmarks and server, compiled as `make setup` compiles it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peer import OPTIONS
from tests.oracle.source import CACHE, llama_cpp_source

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tools"))  # its files are scripts, run from their folder
from tools import setup

BUILD = CACHE / "peer-bench"
PROGRAMS = ("llama-bench", "llama-batched-bench", "llama-server")
FLASH_ATTN = "off"  # so that both sides compute the same; the default of both is auto, which means on
# The same for both programs, and for our side in benchmarks/engine.py.
SETTINGS = ("-ub", "512", "-b", "2048", "-ctk", "f16", "-ctv", "f16", "-ngl", "0")


def build(threads: int) -> None:
    """compile the programs for this machine where they are missing; minutes the first time."""
    if all((BUILD / "bin" / program).is_file() for program in PROGRAMS):
        return
    if not shutil.which("cmake"):
        raise SystemExit("cmake is not installed; pip install cmake ninja")
    print("building llama.cpp's benchmarks and server, about 15 minutes on two cores", flush=True)
    environment = setup.build_environment(os.environ, cuda=False)  # without AMX where the compiler cannot
    source = str(llama_cpp_source())
    subprocess.run(["cmake", "-S", source, "-B", str(BUILD), *OPTIONS], env=environment, check=True)
    targets = ["--target", *PROGRAMS, "-j", str(threads)]
    subprocess.run(["cmake", "--build", str(BUILD), *targets], env=environment, check=True)


def prefill(model: Path, threads: int, prompt: int, depth: int = 0) -> float:
    """llama-bench: tokens/s of a prompt that begins behind ``depth`` tokens."""
    return single(model, threads, ["-p", str(prompt), "-n", "0", "-d", str(depth)])


def decode(model: Path, threads: int, answer: int, depth: int = 0, flash_attn: str = FLASH_ATTN) -> float:
    """llama-bench: tokens/s of an answer that begins behind ``depth`` tokens."""
    return single(model, threads, ["-p", "0", "-n", str(answer), "-d", str(depth)], flash_attn)


def single(model: Path, threads: int, sizes: Sequence[str], flash_attn: str = FLASH_ATTN) -> float:
    options = [*sizes, "-fa", flash_attn, "-r", "1", "-o", "json"]
    (test,) = json.loads(run("llama-bench", model, threads, options))
    return float(test["avg_ts"])


def batched(model: Path, threads: int, prompt: int, answer: int, width: int, flash_attn: str = FLASH_ATTN) -> float:
    """llama-batched-bench: tokens/s of ``width`` answers at once, after prompts of their own."""
    sizes = ["-npp", str(prompt), "-ntg", str(answer), "-npl", str(width), "-c", str(width * (prompt + answer))]
    options = [*sizes, "-fa", flash_attn, "-tb", str(threads), "-fit", "off", "--output-format", "jsonl"]
    lines = [line for line in run("llama-batched-bench", model, threads, options).splitlines() if line.startswith("{")]
    (test,) = map(json.loads, lines)
    return float(test["speed_tg"])


def run(program: str, model: Path, threads: int, options: Sequence[str]) -> str:
    """What it prints to stdout."""
    command = [str(BUILD / "bin" / program), "-m", str(model), "-t", str(threads), *SETTINGS, *options]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout
