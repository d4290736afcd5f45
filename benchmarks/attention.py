"""What flash attention costs and saves on this machine: milliseconds of one step, by rows and tokens in the cache.

    python -m benchmarks.attention MODEL.gguf [--threads 2]

The clock is around llama_decode alone, the best of several; the rows belong to one sequence of random tokens.
"""

from __future__ import annotations

import argparse
import random
import time
from pathlib import Path

from edge.llama.batch import Batch
from edge.llama.context import Context
from edge.llama.model import Model

SIZES = (1, 4, 8, 16, 32, 64, 128, 256)
DEPTHS = (0, 512, 1024, 2048)
REPEATS = 3


def fill(context: Context, batch: Batch, start: int, count: int) -> float:
    """Decode random tokens at the positions from ``start`` on; seconds."""
    batch.clear()
    for position in range(start, start + count):
        batch.add(random.randrange(context.model.n_vocab), position, want_logits=position == start + count - 1)
    started = time.perf_counter()
    context.decode(batch)
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description="Times steps with and without flash attention.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    print(f"{'':14}" + "".join(f"{size:>8}" for size in SIZES) + "  rows")
    with Model(options.model) as model:
        for depth in DEPTHS:
            for flash_attn in (True, False):
                with (
                    Context(
                        model, 4096, threads=options.threads, threads_batch=options.threads, flash_attn=flash_attn
                    ) as context,
                    Batch(512) as batch,
                ):
                    for start in range(0, depth, 512):
                        fill(context, batch, start, 512)
                    best = []
                    for size in SIZES:
                        seconds = []
                        for _ in range(REPEATS):
                            seconds.append(fill(context, batch, depth, size))
                            context.memory_rm(0, depth)
                        best.append(min(seconds))
                name = f"{depth:5} {'flash' if flash_attn else 'plain'}"
                print(f"{name:14}" + "".join(f"{1e3 * one:8.0f}" for one in best), flush=True)


if __name__ == "__main__":
    main()
