"""Decoding against the transformers script that people start with: bf16 on the CPU, greedy.

    python -m benchmarks.decode_transformers [MODEL.gguf] [--runs 3] [--threads 2]

Both sides answer the same question with the real Qwen2.5-Coder-0.5B-Instruct (tests/real/fetch.py; REAL_MODEL says
where it lies): transformers from the checkpoint in bf16, edge.Engine from MODEL, the same at Q4_0 unless given. Each
measurement is a process of its own; the two sides alternate, the other first in the next run. A process answers once
with WARM_UP tokens, then with TOKENS, which must all come; greedy on both sides, without penalties.

The rate is that of decoding: from the moment when the first token of the answer is handed out until the last is, over
the tokens between. The prompt, loading and importing do not count. A ratio is of one run, and printed is the median.
The last line is JSON.
"""

# pyright: reportMissingImports=false
# (torch is only in .venv-oracle)

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.convert import ROOT, machine
from benchmarks.engine import default_model
from benchmarks.options import heading, parser
from edge.api import Engine
from edge.engine.types import rate
from tests.real.fetch import real_checkpoint

AT_LEAST = 4.0
OURS, THEIRS = SIDES = ("edge", "transformers")
MESSAGES = [{"role": "user", "content": "Why is the sky blue? Explain it in detail."}]
TOKENS, WARM_UP = 64, 8


def transformers_rate(threads: int) -> float:
    """Tokens/s of transformers' ``generate``."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.generation.streamers import BaseStreamer

    class Clock(BaseStreamer):
        """When the prompt and then each token was handed out."""

        def __init__(self) -> None:
            self.times: list[float] = []

        def put(self, value: Any) -> None:
            self.times.append(time.perf_counter())

        def end(self) -> None:
            pass

    torch.set_num_threads(threads)
    checkpoint = real_checkpoint()
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model: Any = AutoModelForCausalLM.from_pretrained(checkpoint, dtype=torch.bfloat16)
    prompt = tokenizer.apply_chat_template(MESSAGES, add_generation_prompt=True, return_dict=True, return_tensors="pt")
    options = {"do_sample": False, "repetition_penalty": 1.0, "temperature": None, "top_p": None, "top_k": None}
    model.generate(**prompt, max_new_tokens=WARM_UP, **options)
    clock = Clock()
    model.generate(**prompt, max_new_tokens=TOKENS, streamer=clock, **options)
    times = clock.times[1:]
    check(len(times))
    return rate(TOKENS - 1, times[-1] - times[0])


def engine_rate(path: Path, threads: int) -> float:
    """Tokens/s of ``edge.Engine``, from its own timings, which are of the same tokens."""
    options: dict[str, Any] = {"temperature": 0, "repeat_penalty": 1.0}
    with Engine(path, threads=threads, threads_batch=threads) as engine:
        engine.chat(MESSAGES, max_tokens=WARM_UP, **options).result  # noqa: B018
        timings = engine.chat(MESSAGES, max_tokens=TOKENS, **options).result.timings
    check(timings.generated_tokens)
    return timings.decode_rate


def check(count: int) -> None:
    if count != TOKENS:
        raise SystemExit(f"the answer has {count} tokens, not {TOKENS}")


def in_a_process(side: str, path: Path, threads: int) -> float:
    command = [sys.executable, "-m", "benchmarks.decode_transformers", str(path), "--threads", str(threads)]
    done = subprocess.run([*command, "--side", side], capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{side} failed:\n{done.stderr[-2000:]}")
    return float(done.stdout)


def parse() -> argparse.Namespace:
    made = parser("Times greedy decoding against transformers in bf16.", runs=3)
    made.add_argument("--side", choices=SIDES, help="measure this side once, in this process; print tokens/s")
    return made.parse_args()


def main() -> None:
    options = parse()
    path = options.model or default_model()
    if options.side:
        print(transformers_rate(options.threads) if options.side == THEIRS else engine_rate(path, options.threads))
        return
    print(f"{heading(options)}; torch {version('torch')}, transformers {version('transformers')}; {path.name}")
    rates: dict[str, list[float]] = defaultdict(list)
    for run in range(options.runs):
        for side in SIDES if run % 2 else reversed(SIDES):
            rates[side].append(in_a_process(side, path, options.threads))
    ratios = [ours / theirs for ours, theirs in zip(rates[OURS], rates[THEIRS], strict=True)]
    for side in SIDES:
        found = rates[side]
        print(f"{side:12} {statistics.median(found):6.2f} tokens/s ({min(found):.2f} to {max(found):.2f})")
    ratio = statistics.median(ratios)
    verdict = f"{'ok' if ratio >= AT_LEAST else 'MISSED'}, at least {AT_LEAST}"
    print(f"{'ratio':12} {ratio:6.2f} ({min(ratios):.2f} to {max(ratios):.2f})  {verdict}")
    results = {side: round(statistics.median(rates[side]), 2) for side in SIDES} | {"ratio": round(ratio, 3)}
    print(json.dumps({"machine": machine(), "model": path.name, "threads": options.threads, "results": results}))


if __name__ == "__main__":
    main()
