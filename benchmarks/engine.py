"""The engine against llama.cpp's own benchmarks: the same file, the same threads, one after the other.

    python -m benchmarks.engine [MODEL.gguf] [--runs 5] [--threads 2]

MODEL is the real Qwen2.5-Coder-0.5B-Instruct at Q4_0 unless given, converted here from tests/real/fetch.py's
checkpoint. The peer is llama-bench and llama-batched-bench from the source that llama-cpp-python ships, compiled for
this machine. Both sides: the CPU alone, flash attention on, KV cache f16, micro-batches of 512. The cache is laid out
as each ships it: ours is one for all sequences, llama-batched-bench's is apart for each.

One run measures everything once, the peer and ours in turn; a ratio is of one run, and printed is the median of them.
Each of our measurements has a context of its own, warmed up with 16 tokens as the peer's is, then emptied. The clocks:

pp512         ours: from before `submit` of 512 random tokens until its Finished is read, by the caller's thread. The
              peer: around llama_decode. Beside it, with steps of at most 250 ms, as the engine is shipped.
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

import argparse
import json
import platform
import random
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import peer_bench
from benchmarks.convert import machine
from benchmarks.steps import Step, python_seconds, rate, recorded
from edge.engine.engine import Engine
from edge.engine.scheduler import Limits
from edge.engine.types import Request
from edge.llama.batch import Batch
from edge.llama.context import Context
from edge.llama.model import Model
from edge.llama.sampler import Sampling
from tests.oracle.source import CACHE
from tests.real.fetch import real_checkpoint

SLOTS = 4
CELLS = 2048  # of each slot
ROWS = 512
PROMPT, ANSWER = 512, 128  # of llama-bench's two tests
WIDE = (2, 4)
WIDE_PROMPT, WIDE_ANSWER = 128, 32
SHARED, OWN, REPLY = 1100, 8, 16
GREEDY = Sampling(temperature=0)
# measurement -> what it must reach: at least, of a ratio of rates; at most, of the others
AT_LEAST = {"pp512": 0.97, "tg128": 0.97, "tg2": 0.97, "tg4": 0.97, "greedy/peer": 0.95, "greedy/own": 0.95}
AT_MOST = {"python1_ms": 0.3, "python4_ms": 1.0, "four/one": 1.3}
EXPLAINED = {
    "pp512": "prompt of 512, ours/llama-bench",
    "pp512 250 ms": "the same in steps of 250 ms, as shipped",
    "tg128": "decode, ours unsampled/llama-bench",
    "tg2": "2 at once, ours unsampled/llama-batched-bench",
    "tg4": "4 at once, ours unsampled/llama-batched-bench",
    "greedy/own": "decode, ours greedy/ours unsampled",
    "greedy/peer": "decode, ours greedy/llama-bench",
    "python1_ms": "Python a step, 1 sequence, median, ms",
    "python1_mean_ms": "mean",
    "python4_ms": "Python a step, 4 sequences, median, ms",
    "python4_mean_ms": "mean",
    "four/one": "4 requests with a shared prefix/1, wall time",
}


@dataclass
class Bench:
    """Our side: one model in memory; every measurement has a fresh context."""

    model: Model
    threads: int
    dice: random.Random = field(default_factory=lambda: random.Random(0))

    def tokens(self, count: int) -> tuple[int, ...]:
        return tuple(self.dice.randrange(self.model.n_vocab) for _ in range(count))

    def request(self, tokens: tuple[int, ...], answer: int) -> Request:
        return Request(tokens, GREEDY, max_tokens=answer, ignore_eos=True)

    @contextmanager
    def engine(self, step: float | None) -> Iterator[Engine]:
        """A warm engine with an empty cache, as edge.Engine makes it; ``step`` as in Limits."""
        options = {"threads": self.threads, "threads_batch": self.threads, "kv_type": "f16", "flash_attn": True}
        with Context(
            self.model, SLOTS * CELLS, n_batch=ROWS, n_ubatch=ROWS, n_seq_max=SLOTS, kv_unified=True, **options
        ) as context:
            with Batch(16) as batch:
                for position, token in enumerate(self.tokens(16)):
                    batch.add(token, position)
                context.decode(batch)
            context.memory_clear()
            with Engine(self.model, context, Limits(ROWS, SLOTS, step, ctx=CELLS)) as engine:
                yield engine

    def wall(self, requests: list[Request], step: float | None) -> float:
        """Seconds until all of them, submitted at once, are answered."""
        with self.engine(step) as engine:
            started = time.perf_counter()
            for ticket in [engine.submit(request) for request in requests]:
                ticket.result()
            return time.perf_counter() - started

    def prefill(self, step: float | None) -> float:
        """Tokens/s of one prompt."""
        request = self.request(self.tokens(PROMPT), 1)
        with recorded(self.model, sampled=False):
            return PROMPT / self.wall([request], step)

    def decode(self, width: int, *, sampled: bool) -> list[Step]:
        """The steps of ``width`` answers at once; as many prompts come first, of a single token for one alone."""
        prompt, answer = (1, ANSWER + 1) if width == 1 else (WIDE_PROMPT, WIDE_ANSWER + 1)
        requests = [self.request(self.tokens(prompt), answer) for _ in range(width)]
        with recorded(self.model, sampled=sampled) as steps:
            self.wall(requests, None)
        return steps

    def shared_prefix(self) -> float:
        """Wall time of four requests at once over that of one."""
        prefix = self.tokens(SHARED)
        requests = [self.request((*prefix, *self.tokens(OWN)), REPLY) for _ in range(4)]
        one = self.wall(requests[:1], Limits.step)
        return self.wall(requests, Limits.step) / one


def measure(bench: Bench, path: Path) -> dict[str, float]:
    """Every measurement once."""
    found: dict[str, float] = {}
    peer_pp, peer_tg = peer_bench.single(path, bench.threads, PROMPT, ANSWER)
    unsampled = rate(bench.decode(1, sampled=False), 1)
    greedy = bench.decode(1, sampled=True)
    found["pp512"] = bench.prefill(None) / peer_pp
    found["pp512 250 ms"] = bench.prefill(Limits.step) / peer_pp
    found["tg128"] = unsampled / peer_tg
    found["greedy/own"] = rate(greedy, 1) / unsampled
    found["greedy/peer"] = rate(greedy, 1) / peer_tg
    for width, peer_rate in peer_bench.batched(path, bench.threads, WIDE_PROMPT, WIDE_ANSWER, WIDE).items():
        found[f"tg{width}"] = rate(bench.decode(width, sampled=False), width) / peer_rate
    for width, steps in ((1, greedy), (4, bench.decode(4, sampled=True))):
        milliseconds = [1e3 * seconds for seconds in python_seconds(steps, width)]
        found[f"python{width}_ms"] = statistics.median(milliseconds)
        found[f"python{width}_mean_ms"] = statistics.mean(milliseconds)
    found["four/one"] = bench.shared_prefix()
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
        subprocess.run(command, check=True, cwd=Path(__file__).resolve().parents[1])
    return path


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Times the engine against llama-bench and llama-batched-bench.")
    parser.add_argument("model", type=Path, nargs="?", help="a GGUF file")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


def main() -> None:
    options = parse()
    peer_bench.build(options.threads)
    path = options.model or default_model()
    print(
        f"{machine()}; {options.threads} threads, {options.runs} runs; Python {platform.python_version()}; {path.name}"
    )
    print("medians (and smallest to largest); the clocks are in the docstring", flush=True)
    runs: dict[str, list[float]] = defaultdict(list)
    with Model(path) as model:
        bench = Bench(model, options.threads)
        for _ in range(options.runs):
            for name, value in measure(bench, path).items():
                runs[name].append(value)
    for name in EXPLAINED:
        print(row(name, runs[name]))
    medians = {name: round(statistics.median(values), 4) for name, values in runs.items()}
    print(json.dumps({"machine": machine(), "model": path.name, "threads": options.threads, "results": medians}))


if __name__ == "__main__":
    main()
