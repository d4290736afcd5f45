"""What ``edge serve --state-dir`` keeps for its next start, without a server: ``saving.py GGUF STATE_DIR SYSTEM``.

What the server would log as a failure is an error here.
"""

from __future__ import annotations

import sys
from pathlib import Path

from edge.api import Engine
from edge.warm import Warm

EXPECTED = "what was kept is of another"


def main() -> int:
    gguf, folder, system = sys.argv[1:]
    failures: list[str] = []
    with Engine(gguf, ctx=512, slots=1, threads=1) as engine:
        warm = Warm(Path(folder), system, ["Where is the lift?"], failures.append)
        warm.restore(engine)
        warm.compute(engine)
    failures = [text for text in failures if EXPECTED not in text]
    for text in failures:
        print(f"error: {text}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
