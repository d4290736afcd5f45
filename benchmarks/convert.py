"""Conversion against llama.cpp's two steps, on the same machine with the same threads: time and peak memory.

    python -m benchmarks.convert [--runs 3] [--models 0.5B 7B 30B-A3B] [--levels Q4_K_M Q8_0 Q4_0]

Three checkpoints: the real Qwen2.5-Coder-0.5B-Instruct (tests/real/fetch.py; REAL_MODEL says where it lies), and two
with random weights, made here: 8 layers of the shape of Qwen2.5-7B (about 6 GB), and 3 of Qwen3-30B-A3B with its 128
experts (about 5 GB). The peer is
convert_hf_to_gguf.py to bf16, then llama-quantize, both from the source that llama-cpp-python ships, the second
compiled for this machine.

The clock of a program runs from before its process starts until it has ended, so starting Python counts on both
sides. Ours runs without the gate. Neither is charged for the other: files are synced and removed in between, and
the checkpoint is read once before, so that it is in the page cache as far as that is large enough. One
repetition is: the peer's first step, once, as it is the same work for every level; then for each level the peer's
second step and ours; the two files must hold the same bytes. A level's peer time is both steps. Printed are medians
over the repetitions, and the largest peak. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks import peer
from benchmarks.shaped import SHAPES, shaped_checkpoint
from tests.goldens.listing import same_data
from tests.oracle.source import CACHE
from tests.real.fetch import real_checkpoint

ROOT = Path(__file__).resolve().parents[1]
PEAK = 400e6  # bytes
# model -> level -> the largest ratio of our time to the peer's
DEMANDS = {
    "0.5B": {"Q4_K_M": 0.5, "Q8_0": 0.3, "Q4_0": 0.3},
    "7B": {"Q4_K_M": 0.9, "Q8_0": 0.45, "Q4_0": 0.45},
    "30B-A3B": {},
}


@dataclass(frozen=True)
class Run:
    """One process: seconds from before its start to its end, peak resident bytes."""

    seconds: float
    peak: int


def timed(command: list[str], environment: Mapping[str, str], scratch: Path) -> Run:
    os.sync()
    result = scratch / "run.json"
    launcher = [sys.executable, "-S", "-E", str(ROOT / "benchmarks" / "timed.py"), str(result)]
    subprocess.run([*launcher, *command], env=dict(environment), check=True, cwd=ROOT)
    return Run(**json.loads(result.read_text()))


def warm(checkpoint: Path) -> None:
    for file in checkpoint.glob("*.safetensors"):
        with file.open("rb", buffering=0) as weights:
            while weights.read(1 << 24):
                pass


def compare(checkpoint: Path, levels: list[str], options: argparse.Namespace) -> dict[str, dict[str, list[Run]]]:
    """Level -> "step 1", "step 2", "ours" -> one Run a repetition."""
    scratch, threads = options.work, options.threads
    program = peer.build_quantize(threads)
    runs: dict[str, dict[str, list[Run]]] = {level: defaultdict(list) for level in levels}
    middle, theirs, ours = (scratch / f"{name}.gguf" for name in ("peer-bf16", "peer", "ours"))
    warm(checkpoint)
    for _ in range(options.runs):
        command = peer.convert_command(options.peer_python, checkpoint, middle)
        first = timed(command, peer.environment(threads), scratch)
        for level in levels:
            runs[level]["step 1"].append(first)
            command = peer.quantize_command(program, middle, theirs, level, threads)
            runs[level]["step 2"].append(timed(command, peer.environment(threads), scratch))
            command = [sys.executable, "-m", "convert", str(checkpoint), str(ours), "--level", level]
            command += ["--no-check", "--threads", str(threads)]
            runs[level]["ours"].append(timed(command, os.environ, scratch))
            if not same_data(theirs, ours):
                raise SystemExit(f"{checkpoint.name} {level}: the two files differ, so the times mean nothing")
            for made in (theirs, *scratch.glob("ours.gguf*")):
                made.unlink()
        middle.unlink()
    return runs


def summary(model: str, level: str, runs: Mapping[str, list[Run]]) -> dict[str, Any]:
    median = {what: statistics.median(run.seconds for run in made) for what, made in runs.items()}
    peak = {what: max(run.peak for run in made) for what, made in runs.items()}
    ratio = median["ours"] / (median["step 1"] + median["step 2"])
    return {
        "model": model,
        "level": level,
        "peer_step_1_s": round(median["step 1"], 2),
        "peer_step_2_s": round(median["step 2"], 2),
        "ours_s": round(median["ours"], 2),
        "ratio": round(ratio, 3),
        "ratio_demanded": DEMANDS[model].get(level),
        "peer_peak_mb": round(max(peak["step 1"], peak["step 2"]) / 1e6),
        "ours_peak_mb": round(peak["ours"] / 1e6),
        "peak_demanded_mb": round(PEAK / 1e6),
        "runs": len(runs["ours"]),
    }


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
        cpu = names[0] if names else cpu
    memory = psutil.virtual_memory().total / 1e9
    return f"{cpu}, {os.cpu_count()} cores, {memory:.0f} GB memory, {platform.system()} {platform.release()}"


def row(result: Mapping[str, Any]) -> str:
    def against(value: float, demand: float | None, unit: str = "") -> str:
        if demand is None:
            return f"{value}{unit}"
        return f"{value}{unit} ({'ok' if value <= demand else 'MISSED'}, at most {demand}{unit})"

    steps = f"{result['peer_step_1_s']} + {result['peer_step_2_s']} s"
    ratio = against(result["ratio"], result["ratio_demanded"], "x")
    peak = against(result["ours_peak_mb"], result["peak_demanded_mb"], " MB")
    return (
        f"{result['model']:5} {result['level']:7} peer {steps:18} ours {result['ours_s']:7} s  {ratio:28} "
        f"peak {peak}, peer {result['peer_peak_mb']} MB"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times conversion against llama.cpp's two steps.")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--models", nargs="+", choices=DEMANDS, default=list(DEMANDS))
    parser.add_argument("--levels", nargs="+", default=["Q4_K_M", "Q8_0", "Q4_0"])
    parser.add_argument("--work", type=Path, default=CACHE / "benchmark", help="needs about 20 GB")
    parser.add_argument("--peer-python", default=sys.executable, help="one with torch and transformers")
    return parser.parse_args()


def main() -> None:
    if sys.platform == "win32":
        raise SystemExit("this benchmark needs Linux or macOS: it asks the kernel for peak memory")
    options = parse()
    options.work.mkdir(parents=True, exist_ok=True)
    real = real_checkpoint()
    print(f"{machine()}; {options.threads} threads, {options.runs} runs; Python {platform.python_version()}")
    print("clock: process start to process end; medians; peak: largest ru_maxrss, mapped pages counted")
    results = []
    for model in options.models:
        checkpoint = real
        if model in SHAPES:
            checkpoint = shaped_checkpoint(options.work / model, real, model)
        for level, runs in compare(checkpoint, options.levels, options).items():
            results.append(summary(model, level, runs))
            print(row(results[-1]), flush=True)
    print(json.dumps({"machine": machine(), "threads": options.threads, "results": results}))


if __name__ == "__main__":
    main()
