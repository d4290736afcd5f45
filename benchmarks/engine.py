"""The engine against llama.cpp's own benchmarks: the same file, the same threads, one after the other.

    python -m benchmarks.engine [MODEL.gguf] [--runs 5] [--threads 2]

MODEL is the real Qwen2.5-Coder-0.5B-Instruct at Q4_0 unless given, converted here from tests/real/fetch.py's
checkpoint. The peer is llama-bench and llama-batched-bench from the source that llama-cpp-python ships, compiled for
this machine. Both sides: the CPU alone, KV cache f16, micro-batches of 512, flash attention off, so
that both compute the same; rows named "auto" let the peer choose as it is shipped, which means on. The cache of each
sequence is apart, on both sides.

One run measures everything once, the peer and ours one after the other, the other first in the next run; a ratio is of
one run, and printed is the median of them.
Each of our measurements has a process and an engine of its own, warmed up with a prompt of 512 tokens as the peer is,
and an empty cache. The clocks:

pp512         ours: from before `submit` of 512 random tokens until its Finished is read, by the caller's thread. The
              peer: around llama_decode. In steps of at most 250 ms, as the engine is shipped; beside it, at once.
tg128, tgN    ours: from the start of the first llama_decode with a row for each of N sequences to the start of the
              last such, so all that the engine does between two steps counts. The peer: around its loop. One sequence
              begins in an empty cache and has 128 steps; two and four have prompts of 128 tokens and 32 steps.
unsampled     the next token is random and the logits are waited for, but not read, as the peer does it.
greedy        the most likely token, from llama.cpp's chain.
Python        of the greedy steps: the time between two starts of llama_decode, less that inside it and inside
              llama_sampler_sample. The median of all steps, and the mean.
four at once  from before the first `submit` until the last Finished, of four requests with 1,100 tokens in common, 8
              of their own and 16 to answer; over the same of one request. The engine as shipped.

The last line is JSON.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

from benchmarks import peer_bench
from benchmarks.convert import machine
from benchmarks.engine_child import ANSWER, DEEP, PROMPT, WIDE_ANSWER, WIDE_PROMPT
from benchmarks.options import heading, parser
from tests.oracle.source import CACHE
from tests.real.fetch import real_checkpoint

ROOT = Path(__file__).resolve().parents[1]
# measurement -> what it must reach: at least, of a ratio of rates; at most, of the others
AT_LEAST = {"pp512": 0.97, "tg128": 0.97, "tg2": 0.97, "tg4": 0.97, "greedy": 0.95}
AT_MOST = {"python1_ms": 0.3, "python4_ms": 1.0, "four/one": 1.3}
EXPLAINED = {
    "pp512": "prompt of 512, ours/llama-bench",
    "pp512 at once": "the same in one step",
    "tg128": "decode, ours unsampled/llama-bench",
    "tg128 auto": "decode, ours/llama-bench with its own choice of attention",
    "tg32 deep auto": "the same behind 1,024 tokens",
    "tg2": "2 at once, ours unsampled/llama-batched-bench",
    "tg4": "4 at once, ours unsampled/llama-batched-bench",
    "tg4 auto": "the same with the peer's own choice of attention",
    "greedy": "decode, ours greedy/llama-bench",
    "python1_ms": "Python a step, 1 sequence, median, ms",
    "python1_mean_ms": "mean",
    "python4_ms": "Python a step, 4 sequences, median, ms",
    "python4_mean_ms": "mean",
    "four/one": "4 requests with a shared prefix/1, wall time",
}


def ours(path: Path, threads: int, name: str) -> dict[str, float]:
    """One of ``engine_child.MEASUREMENTS``, in a fresh process, as the peer's programs are."""
    command = [sys.executable, "-m", "benchmarks.engine_child", str(path), str(threads), name]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def measure(path: Path, threads: int, run: int) -> dict[str, float]:
    """Every measurement once. The peer goes first in every other run: the machine may tire."""
    peers = {
        "pp512": lambda: peer_bench.prefill(path, threads, PROMPT),
        "pp512 at once": lambda: peer_bench.prefill(path, threads, PROMPT),
        "tg128": lambda: peer_bench.decode(path, threads, ANSWER),
        "greedy": lambda: peer_bench.decode(path, threads, ANSWER),
        "tg128 auto": lambda: peer_bench.decode(path, threads, ANSWER, flash_attn="auto"),
        "tg32 deep auto": lambda: peer_bench.decode(path, threads, WIDE_ANSWER, DEEP, flash_attn="auto"),
        "tg2": lambda: peer_bench.batched(path, threads, WIDE_PROMPT, WIDE_ANSWER, 2),
        "tg4": lambda: peer_bench.batched(path, threads, WIDE_PROMPT, WIDE_ANSWER, 4),
        "tg4 auto": lambda: peer_bench.batched(path, threads, WIDE_PROMPT, WIDE_ANSWER, 4, flash_attn="auto"),
    }
    found: dict[str, float] = {}
    mine: dict[str, dict[str, float]] = {}
    for name, peer in peers.items():
        theirs = 0.0 if run % 2 else peer()
        mine[name] = ours(path, threads, name.removesuffix(" auto"))
        found[name] = mine[name]["rate"] / (theirs or peer())
    for width, name in ((1, "greedy"), (4, "greedy4")):
        steps = mine.get(name) or ours(path, threads, name)
        found[f"python{width}_ms"], found[f"python{width}_mean_ms"] = steps["python_ms"], steps["python_mean_ms"]
    found["four/one"] = ours(path, threads, "four/one")["ratio"]
    return found


def row(name: str, values: list[float]) -> str:
    value = statistics.median(values)
    verdict = ""
    if name in AT_LEAST:
        verdict = f"{'ok' if value >= AT_LEAST[name] else 'MISSED'}, at least {AT_LEAST[name]}"
    elif name in AT_MOST:
        verdict = f"{'ok' if value <= AT_MOST[name] else 'MISSED'}, at most {AT_MOST[name]}"
    return f"{name:16} {value:7.3f}  ({min(values):.3f} to {max(values):.3f})  {verdict:22} {EXPLAINED[name]}"


def default_model() -> Path:
    """The real 0.5B at Q4_0; converted the first time."""
    path = CACHE / "benchmark" / "0.5B-Q4_0.gguf"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "convert", str(real_checkpoint()), str(path), "--level", "Q4_0", "--no-check"]
        subprocess.run(command, check=True, cwd=ROOT)
    return path


def main() -> None:
    options = parser("Times the engine against llama-bench and llama-batched-bench.").parse_args()
    peer_bench.build(options.threads)
    path = options.model or default_model()
    print(f"{heading(options)}; {path.name}")
    print("medians (and smallest to largest); the clocks are in the docstring", flush=True)
    runs: dict[str, list[float]] = defaultdict(list)
    for run in range(options.runs):
        found = measure(path, options.threads, run)
        for name, value in found.items():
            runs[name].append(value)
        print(f"run {run + 1}:", *(f"{name} {value:.3f}" for name, value in found.items()), sep="  ", flush=True)
    for name in EXPLAINED:
        print(row(name, runs[name]))
    medians = {name: round(statistics.median(values), 4) for name, values in runs.items()}
    print(json.dumps({"machine": machine(), "model": path.name, "threads": options.threads, "results": medians}))


if __name__ == "__main__":
    main()
