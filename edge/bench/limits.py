"""What this machine can do at most: bytes read from memory and operations a second, as numpy reaches them.

The yardstick of "share of bandwidth" and "share of FLOP/s", on purpose not llama.cpp's own. ``python -m
edge.bench.limits THREADS`` measures in a process of its own, because a BLAS reads its number of threads when it is
loaded; its threads would also stand in the way of llama.cpp's.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from convert.errors import EdgeError
from edge import machine

READ = 256 << 20  # bytes that each thread reads: far more than any cache holds
LEAST = 1 << 20  # bytes, however short memory is
SHARE = 8  # all of them take at most this part of the free memory
SIDE = 1536  # of the square matrices that are multiplied
ROUNDS = 5  # of each, the best counts
BLAS_THREADS = ("OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class MachineLimits:
    """``bandwidth`` in bytes/s, ``flops`` in float32 operations/s, with ``threads`` threads each."""

    threads: int
    bandwidth: float
    flops: float


def machine_limits(threads: int) -> MachineLimits:
    """About two seconds. Raises EdgeError."""
    environment = os.environ | dict.fromkeys(BLAS_THREADS, str(threads))
    command = [sys.executable, "-P", "-m", "edge.bench.limits", str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    try:
        return MachineLimits(**json.loads(done.stdout))
    except (ValueError, TypeError) as error:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise EdgeError(f"this machine's limits cannot be measured: {last[0]}", "close other programs") from error


def bandwidth(threads: int) -> float:
    """Bytes/s that ``threads`` threads read together, each from an array of its own."""
    nbytes = max(LEAST, min(READ, machine.memory().available // SHARE // threads))
    with ThreadPoolExecutor(threads) as pool:
        # Each thread makes its own: memory belongs to the processor that wrote it first.
        arrays = list(pool.map(lambda _: np.ones(nbytes // 8, np.int64), range(threads)))

        def once() -> float:
            started = time.perf_counter()
            list(pool.map(np.bitwise_or.reduce, arrays))
            return time.perf_counter() - started

        return threads * nbytes / min(once() for _ in range(ROUNDS))


def flops() -> float:
    """Operations/s of a product of float32 matrices: 2 n^3 of them."""
    a = np.ones((SIDE, SIDE), np.float32)

    def once() -> float:
        started = time.perf_counter()
        np.dot(a, a)
        return time.perf_counter() - started

    once()
    return 2 * SIDE**3 / min(once() for _ in range(ROUNDS))


if __name__ == "__main__":
    count = int(sys.argv[1])
    print(json.dumps({"threads": count, "bandwidth": bandwidth(count), "flops": flops()}))
