"""pp512 and tg128 of one file, by the code that `edge bench` has for them, in a process of its own.

    python -m benchmarks.one_sequence MODEL.gguf THREADS

From an empty cache, flash attention as it is by default. Prints one JSON object.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from edge.bench.speed import ANSWER, PROMPT
from edge.bench.steps import Steps
from edge.llama.context import Context, cells_for
from edge.llama.model import Model

ROOT = Path(__file__).resolve().parents[1]


def measure(path: Path, threads: int) -> dict[str, float]:
    """Run this file as a program, so that nothing else is in its process."""
    command = [sys.executable, "-m", "benchmarks.one_sequence", str(path), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{path.name}:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout)


def main() -> None:
    path, threads = sys.argv[1], int(sys.argv[2])
    with (
        Model(path) as model,
        Context(model, cells_for(2 * PROMPT), threads=threads, threads_batch=threads) as context,
        Steps(context) as steps,
    ):
        steps.prefill(PROMPT)  # warms up
        steps.decode(8)
        print(json.dumps({"pp512": PROMPT / steps.prefill(PROMPT), "tg128": ANSWER / steps.decode(ANSWER)}))


if __name__ == "__main__":
    main()
