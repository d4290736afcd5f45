"""One measurement of the engine, in a process of its own, as the peer's programs are; see benchmarks/engine.py.

    python -m benchmarks.engine_child MODEL.gguf THREADS MEASUREMENT

Prints one JSON object.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.steps import Step, python_seconds, rate, recorded
from edge.engine.engine import Engine
from edge.engine.scheduler import Limits
from edge.engine.types import Request
from edge.llama.context import Context, cells_for
from edge.llama.model import Model
from edge.llama.sampler import Sampling

SLOTS = 4
CELLS = 2048  # of each slot
ROWS = 512
PROMPT, ANSWER = 512, 128  # of llama-bench's two tests
WIDE_PROMPT, WIDE_ANSWER = 128, 32
DEEP = 1024
SHARED, OWN, REPLY = 1100, 8, 16
GREEDY = Sampling(temperature=0)


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
        options = {"threads": self.threads, "threads_batch": self.threads, "kv_type": "f16", "flash_attn": False}
        with Context(
            self.model, SLOTS * cells_for(CELLS), n_batch=ROWS, n_ubatch=ROWS, n_seq_max=SLOTS, **options
        ) as context:
            limits = Limits(ROWS, SLOTS, step, ctx=CELLS)
            with Engine(self.model, context, limits) as engine:
                engine.submit(self.request(self.tokens(PROMPT), 1)).result()
                pace = engine.pace
            context.memory_clear()
            with Engine(self.model, context, limits) as engine:
                engine.pace = pace
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

    def decode(self, width: int, prompt: int, answer: int, *, sampled: bool) -> list[Step]:
        """The steps of ``width`` answers at once, after prompts of their own."""
        requests = [self.request(self.tokens(prompt), answer + 1) for _ in range(width)]
        with recorded(self.model, sampled=sampled) as steps:
            self.wall(requests, None)
        return steps

    def shared_prefix(self) -> float:
        """Wall time of four requests at once over that of one."""
        prefix = self.tokens(SHARED)
        requests = [self.request((*prefix, *self.tokens(OWN)), REPLY) for _ in range(4)]
        one = self.wall(requests[:1], Limits.step)
        return self.wall(requests, Limits.step) / one


def decode_rates(bench: Bench, width: int, prompt: int, answer: int, *, sampled: bool) -> dict[str, float]:
    steps = bench.decode(width, prompt, answer, sampled=sampled)
    milliseconds = [1e3 * seconds for seconds in python_seconds(steps, width)]
    return {
        "rate": rate(steps, width),
        "python_ms": statistics.median(milliseconds),
        "python_mean_ms": statistics.mean(milliseconds),
    }


MEASUREMENTS = {
    "pp512": lambda bench: {"rate": bench.prefill(Limits.step)},
    "pp512 at once": lambda bench: {"rate": bench.prefill(None)},
    "tg128": lambda bench: decode_rates(bench, 1, 1, ANSWER, sampled=False),
    "tg32 deep": lambda bench: decode_rates(bench, 1, DEEP, WIDE_ANSWER, sampled=False),
    "tg2": lambda bench: decode_rates(bench, 2, WIDE_PROMPT, WIDE_ANSWER, sampled=False),
    "tg4": lambda bench: decode_rates(bench, 4, WIDE_PROMPT, WIDE_ANSWER, sampled=False),
    "greedy": lambda bench: decode_rates(bench, 1, 1, ANSWER, sampled=True),
    "greedy4": lambda bench: decode_rates(bench, 4, WIDE_PROMPT, WIDE_ANSWER, sampled=True),
    "four/one": lambda bench: {"ratio": bench.shared_prefix()},
}

if __name__ == "__main__":
    path, threads, name = sys.argv[1:]
    with Model(Path(path)) as loaded:
        print(json.dumps(MEASUREMENTS[name](Bench(loaded, int(threads)))))
