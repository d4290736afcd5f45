"""Damaged files of every kind that is read, each opened in a child process by the code that people reach.

    python -m tests.survive.mutate [--count 2000] [--only tiny-qwen state ...] [--seed 1] [--case 17]

Kinds: ``tiny-qwen``, ``tiny-glm``: headers and metadata of the embedded models' GGUFs (more than half of all), read,
checked, loaded by llama.cpp where the checks accept them, and a token decoded. ``state``: kept prefixes and device
keys, at a warm start. ``lock``: models.lock. ``box``: whole boxes, and manifests that are signed but wrong. Ways: bits
flipped, lengths and counts of 0, -1, 2^31, 2^63 ..., cut short, sections swapped, bytes inserted or lost, types
changed, nested deep; for GGUFs also well-formed nonsense: odd values, tensors and tokens, hostile chat templates.

Violations: the child ends by a signal, or takes more than 20 s or 2 GB for a case; an exception that is no EdgeError (a
traceback, for a person); a refusal without a reason in one line; a damaged state or box that is accepted.

A case is repeated with the same ``--seed``, ``--only`` its kind, and ``--case``; its file is kept then, and named.
"""

from __future__ import annotations

import json
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from tests.survive.common import ROOT, Tally, environment, parser, python
from tests.survive.opening import KINDS

PATIENCE = 20.0  # seconds for a case
STARTING = 120.0
MOST_MEMORY = 2 << 30  # bytes
SHARES = {"tiny-qwen": 0.3, "tiny-glm": 0.3, "state": 0.1, "lock": 0.15, "box": 0.15}
CASES_A_CHILD = 300  # so that what one case leaves behind in C does not stay for all


class Child:
    """Opens cases until one ends it."""

    def __init__(self, kind: str, seed: int, folder: Path) -> None:
        folder.mkdir()
        command = python("-m", "tests.survive.opening", kind, str(seed), str(folder))
        self.process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment(EDGE_HOME=str(folder), MALLOC_ARENA_MAX="2"),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=(folder / "errors").open("wb"),
            encoding="utf-8",
        )
        self.folder, self.done = folder, 0
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        threading.Thread(target=self._listen, daemon=True).start()
        if self._next(STARTING) is None:
            raise SystemExit(f"{kind}: the child does not start:\n{self.errors()}")

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line)
        self._lines.put(None)

    def _next(self, patience: float) -> dict[str, Any] | None:
        """The next line; None where the child ended. Raises queue.Empty."""
        line = self._lines.get(timeout=patience)
        return None if line is None else json.loads(line)

    def open(self, case: int) -> dict[str, Any]:
        """What became of it; where the child did not live to tell, the outcome says how it ended."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{case}\n")
        self.process.stdin.flush()
        self.done += 1
        told: dict[str, Any] = {"case": case, "way": "?"}
        try:
            told = self._next(STARTING) or told
            if (result := self._next(PATIENCE)) is not None:
                return result
            code = self.process.wait()
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        except queue.Empty:
            how = f"more than {PATIENCE:.0f} s"
            self.close()
        return {**told, "outcome": how, "why": self.errors()[-1500:]}

    @property
    def lives(self) -> bool:
        return self.process.poll() is None and self.done < CASES_A_CHILD

    def errors(self) -> str:
        return (self.folder / "errors").read_text("utf-8", "replace")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def open_all(kind: str, cases: list[int], seed: int, work: Path, tally: Tally) -> None:
    child, children = None, 0
    for case in cases:
        if child is None or not child.lives:
            if child is not None:
                child.close()
                shutil.rmtree(child.folder)
            children += 1
            child = Child(kind, seed, work / f"{kind}-{children}")
        judge(kind, child.open(case), seed, tally)
    if child is not None:
        child.close()


def judge(kind: str, result: dict[str, Any], seed: int, tally: Tally) -> None:
    row, outcome = f"{kind}: {result['way']}", result["outcome"]
    tally.add(row, "cases")
    again = f"--only {kind} --seed {seed} --case {result['case']}"
    if outcome in ("refused", "loaded"):
        tally.add(row, outcome)
    else:
        tally.violation(row, f"{outcome} ({again}) {result.get('why', '')}")
    key = f"{kind} peak bytes"
    tally.figures[key] = max(tally.figures.get(key, 0), result.get("peak", 0))
    if result.get("peak", 0) > MOST_MEMORY:
        tally.violation(row, f"{result['peak'] >> 20} MiB of memory ({again})")


def survive(kinds: list[str], count: int, seed: int) -> Tally:
    """``count`` cases in all."""
    tally, whole = Tally(), sum(SHARES[kind] for kind in kinds)
    with tempfile.TemporaryDirectory(prefix="survive-") as work:
        for kind in kinds:
            share = round(count * SHARES[kind] / whole)
            open_all(kind, list(range(share)), seed, Path(work), tally)
            print(f"{kind}: {share} cases", flush=True)
    return tally


def one_case(kind: str, case: int, seed: int) -> int:
    """Open one, print all of it, and keep its file."""
    folder = Path(tempfile.mkdtemp(prefix="survive-case-"))
    child = Child(kind, seed, folder / "case")
    print(json.dumps(child.open(case), indent=1))
    child.close()
    print(child.errors())
    print("its files:", *sorted(str(path) for path in child.folder.rglob("*") if path.is_file()), sep="\n ")
    return 0


def main() -> int:
    made = parser("Opens damaged files, each in a child process.", list(KINDS), 2000)
    made.add_argument("--case", type=int, help="only this one, of the one kind that --only names")
    options = made.parse_args()
    if options.case is not None:
        return one_case(options.only[0], options.case, options.seed)
    return survive(options.only, options.count, options.seed).finish("mutate")


if __name__ == "__main__":
    sys.exit(main())
