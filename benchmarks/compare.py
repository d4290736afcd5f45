"""`edge compare` on the real 0.5B at three levels and on `llama-server` over HTTP: the report that README speaks of.

    python -m benchmarks.compare [--suite starter] [--levels BF16,Q8_0,Q4_0] [-o .cache/compare]

`llama-server` is built from the sdist and has the file of the last level, with one slot of the same context; it runs
from beginning to end and does nothing until it is asked. Writes DEST.html, DEST.md and DEST.json. Goes on where it was
cut.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from benchmarks import peer_bench
from benchmarks.models import LEVELS, REAL, ROOT, level_files
from benchmarks.servers import Setup, llama_server, running
from edge.compare.contender import LONG_CONTEXT
from tests.oracle.source import CACHE

PORT = 18733  # always the same: a run that was cut knows a server by its address


def main() -> None:
    options = argparse.ArgumentParser(description="Compares levels of the real 0.5B and llama-server.")
    options.add_argument("--suite", default="starter")
    options.add_argument("--levels", default="BF16,Q8_0,Q4_0", help=f"of {', '.join(LEVELS)}")
    options.add_argument("-o", "--output", type=Path, default=CACHE / "compare", help="without a suffix")
    options.add_argument("-r", "--repeats", type=int, default=1)
    options.add_argument("-t", "--threads", type=int, default=2)
    given = options.parse_args()
    made = level_files(REAL)
    files = [made[level] for level in given.levels.split(",")]
    peer_bench.build(given.threads)
    with running(llama_server, Setup(files[-1], given.threads, 1, LONG_CONTEXT), PORT):
        command = [sys.executable, "-m", "edge", "compare", *map(str, files), f"http://127.0.0.1:{PORT}/v1"]
        command += ["--suite", given.suite, "-r", str(given.repeats)]
        outputs = [part for kind in ("html", "md", "json") for part in ("-o", f"{given.output}.{kind}")]
        raise SystemExit(subprocess.run([*command, *outputs], cwd=ROOT).returncode)


if __name__ == "__main__":
    main()
