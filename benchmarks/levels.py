"""Does `edge bench` say what llama.cpp's own benchmarks say? Five levels of the real 0.5B.

    python -m benchmarks.levels [--runs 5] [--threads 2] [--levels Q4_0,...] [--depths 0,4096] [--single]

--single: llama-bench alone on their side, and no knee; quicker, so that more runs fit between a machine's moods. Ours
is all of `edge bench` in any case.

The peers are llama-bench and llama-batched-bench from the source that llama-cpp-python ships, compiled for this
machine; `benchmarks/peer_bench.py` says with which settings. Ours is what `edge bench` runs for a level, repeated once.
One run measures every level with both, one after the other, the other first in the next run; a ratio is of one run,
printed is the median. Both sides: flash attention off, KV cache f16, micro-batches of 512, random tokens. The knee is
that of the medians of each side, by edge.bench.speed.knee. The last line is JSON.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

from benchmarks import peer_bench
from benchmarks.convert import machine
from benchmarks.models import LEVELS, REAL, level_files
from benchmarks.options import heading, parser
from edge.bench.speed import ANSWER, PROMPT, WIDE_ANSWER, Options, key, knee

WITHIN = 0.05
WIDTHS = (1, 2, 4, 8)
ROOT = Path(__file__).resolve().parents[1]

Figures = dict[str, float]


def ours(path: Path, threads: int, depths: tuple[int, ...]) -> Figures:
    """What `edge bench` measures of one file."""
    options = Options(threads, threads, flash_attn=False, depths=depths, widths=WIDTHS, repeats=1)
    command = [sys.executable, "-m", "edge.bench.speed_child", str(path), json.dumps(asdict(options))]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    last = json.loads(done.stdout.splitlines()[-1]) if done.stdout else {}
    if "found" not in last:
        raise SystemExit(f"{path.name} failed:\n{done.stdout[-500:]}{done.stderr[-2000:]}")
    found = last["found"]
    plain = {key(name, depth): found[key(name, depth)] for depth in depths for name in ("pp512", "tg128")}
    return plain | {f"x{width}": found["widths"]["0"][str(width)] for width in WIDTHS}


def llama_bench(path: Path, threads: int, depths: tuple[int, ...]) -> Figures:
    found: Figures = {}
    for depth in depths:
        found[key("pp512", depth)] = peer_bench.prefill(path, threads, PROMPT, depth)
        found[key("tg128", depth)] = peer_bench.decode(path, threads, ANSWER, depth)
    return found


def both_benches(path: Path, threads: int, depths: tuple[int, ...]) -> Figures:
    """llama-bench, and several sequences by llama-batched-bench."""
    found = llama_bench(path, threads, depths)
    return found | {f"x{width}": peer_bench.batched(path, threads, 1, WIDE_ANSWER, width) for width in WIDTHS}


def knee_of(runs: list[Figures]) -> int:
    return knee({width: statistics.median(run[f"x{width}"] for run in runs) for width in WIDTHS})


def main() -> None:
    options = parser("Compares edge bench with llama-bench and llama-batched-bench.")
    options.add_argument("--levels", default=",".join(LEVELS))
    options.add_argument("--depths", default="0")
    options.add_argument("--single", action="store_true")
    given = options.parse_args()
    peer_bench.build(given.threads)
    depths = tuple(map(int, given.depths.split(",")))
    files = {level: path for level, path in level_files(REAL).items() if level in given.levels.split(",")}
    print(f"{heading(given)}; ours / theirs", flush=True)
    sides: dict[str, tuple[list[Figures], list[Figures]]] = defaultdict(lambda: ([], []))
    them = llama_bench if given.single else both_benches
    for run in range(given.runs):
        for level, path in files.items():
            order = (ours, them) if run % 2 == 0 else (them, ours)
            found = {side: side(path, given.threads, depths) for side in order}
            sides[level][0].append(found[ours])
            sides[level][1].append(found[them])
            each = (f"{name} {found[ours][name] / found[them][name]:.3f}" for name in found[them])
            print(f"run {run + 1}: {level:7}", *each, sep="  ", flush=True)
    results: dict[str, float] = {}
    for level, (mine, peers) in sides.items():
        for name in peers[0]:
            ratios = [one[name] / other[name] for one, other in zip(mine, peers, strict=True)]
            ratio = statistics.median(ratios)
            demanded = not name.startswith("x")
            verdict = ("ok" if abs(ratio - 1) <= WITHIN else "MISSED") if demanded else ""
            rate = statistics.median(one[name] for one in mine)
            print(f"{level:7} {name:11} {rate:8.1f}  {ratio:.3f}  ({min(ratios):.3f} to {max(ratios):.3f})  {verdict}")
            results[f"{level} {name}"] = round(ratio, 4)
        if given.single:
            continue
        print(f"{level:7} knee at {knee_of(mine)} sequences, by llama-batched-bench at {knee_of(peers)}", flush=True)
        results[f"{level} knee"], results[f"{level} knee, peer"] = knee_of(mine), knee_of(peers)
    print(json.dumps({"machine": machine(), "threads": given.threads, "results": results}))


if __name__ == "__main__":
    main()
