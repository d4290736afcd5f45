"""How far off is `edge plan`? Its figures against what llama.cpp does, for the real 0.5B and the tiny models.

    python -m benchmarks.plan [--runs 3] [--threads 2] [MODEL.gguf ...]

Without files: the real Qwen2.5-Coder-0.5B at five levels and both tiny models at five, converted here. One run plans
every file and measures it right after, in processes of their own; printed are medians, and the median of how far off
each plan was, since a shared machine is now quick, now slow.
pp512 and tg128 as `edge bench` has them (edge/bench/speed.py says where its clocks are). The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from benchmarks import one_sequence
from benchmarks.convert import machine
from benchmarks.models import model_files

WITHIN = 0.25
ROOT = Path(__file__).resolve().parents[1]

PLAN = """
import json, sys
from pathlib import Path
from edge.plan.make import make_plan
(plan,) = make_plan(sys.argv[1], Path(sys.argv[1]).parent, threads=int(sys.argv[2])).levels
print(json.dumps({"pp512": plan.prefill, "tg128": plan.decode}))
"""


def run(code: str, path: Path, threads: int) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), str(threads)], capture_output=True, text=True, cwd=ROOT
    )
    if done.returncode:
        raise SystemExit(f"{path.name}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def main() -> None:
    options = argparse.ArgumentParser(description="Compares plans with measurements.")
    options.add_argument("models", type=Path, nargs="*")
    options.add_argument("--runs", type=int, default=3)
    options.add_argument("--threads", type=int, default=2)
    given = options.parse_args()
    files = given.models or model_files()
    planned: dict[Path, list[dict[str, float]]] = defaultdict(list)
    measured: dict[Path, list[dict[str, float]]] = defaultdict(list)
    for _ in range(given.runs):
        for path in files:
            planned[path].append(run(PLAN, path, given.threads))
            measured[path].append(one_sequence.measure(path, given.threads))
    print(f"{machine()}; {given.threads} threads, medians of {given.runs} runs; tokens/s, plan / measured")
    ratios: dict[str, float] = {}
    for path in files:
        cells = []
        for key in ("pp512", "tg128"):
            plan, real = (statistics.median(one[key] for one in found[path]) for found in (planned, measured))
            pairs = zip(planned[path], measured[path], strict=True)
            ratio = ratios[f"{path.stem} {key}"] = round(
                statistics.median(one[key] / two[key] for one, two in pairs), 3
            )
            mark = "" if abs(ratio - 1) <= WITHIN else " MISSED"
            cells.append(f"{key} {plan:8.1f} / {real:8.1f}: {ratio:.2f}{mark:7}")
        print(f"{path.stem:24}", *cells, sep="  ", flush=True)
    print(json.dumps({"machine": machine(), "threads": given.threads, "results": ratios}))


if __name__ == "__main__":
    main()
