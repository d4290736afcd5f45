"""What the programs here share: counts, the table they print, and commands in processes of their own."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 300  # seconds for a command that should end by itself


@dataclass
class Tally:
    """Counts by row and column, and what went wrong."""

    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    violations: list[str] = field(default_factory=list)
    figures: dict[str, float] = field(default_factory=dict)

    def add(self, row: str, column: str, number: int = 1) -> None:
        self.counts[row][column] += number

    def violation(self, row: str, text: str) -> None:
        """Also told at once: a long run may be stopped before its end."""
        self.counts[row]["violations"] += 1
        self.violations.append(f"{row}: {text}")
        print(f"VIOLATION {row}: {text}", flush=True)

    def table(self) -> str:
        columns = sorted({column for row in self.counts.values() for column in row} - {"violations"})
        columns.append("violations")
        width = max(map(len, [*self.counts, "all"]), default=3)
        lines = [" ".join([" " * width, *columns])]
        for name, row in self.counts.items():
            numbers = (f"{row[column]:>{len(column)}}" for column in columns)
            lines.append(" ".join([f"{name:<{width}}", *numbers]))
        return "\n".join(lines)

    def finish(self, what: str) -> int:
        """Print the table, then all as one line of JSON. Returns the exit code."""
        print(self.table())
        counts = {row: dict(columns) for row, columns in self.counts.items()}
        result = {"what": what, "counts": counts, "figures": self.figures, "violations": self.violations}
        print(json.dumps(result, ensure_ascii=False), flush=True)
        return 1 if self.violations else 0


def parser(description: str, names: Sequence[str], count: int | None) -> argparse.ArgumentParser:
    """With ``--only``, ``--seed`` and, where something is counted, ``--count``."""
    made = argparse.ArgumentParser(description=description)
    if names:
        made.add_argument("--only", nargs="+", choices=names, default=list(names))
    if count is not None:
        made.add_argument("--count", type=int, default=count, help=f"in all (default: {count})")
    made.add_argument("--seed", type=int, default=1)
    return made


@dataclass(frozen=True)
class Ended:
    """How a command ended; ``seconds`` from its start."""

    code: int
    output: str
    errors: str
    seconds: float

    @property
    def complaint(self) -> str:
        """What is wrong with how it failed: a failure is one line that says what to do; empty when nothing is."""
        errors = [line for line in self.errors.splitlines() if line.startswith("error: ")]
        if self.code < 0:
            return f"ended by {signal.Signals(-self.code).name}"
        if "Traceback" in self.errors or "unexpected" in self.errors:
            return f"exit code {self.code}, with a traceback: {self.errors.strip()[-300:]!r}"
        if self.code and (self.code != 1 or len(errors) != 1):
            return f"exit code {self.code}, with {len(errors)} lines of error: {self.errors.strip()[-300:]!r}"
        return ""


def start(command: Sequence[str], env: Mapping[str, str], umask: int = -1) -> subprocess.Popen[str]:
    """In a process group of its own, so that all of it can be killed at once, as by a power cut."""
    return subprocess.Popen(
        command,
        env=dict(env),
        cwd=ROOT,
        umask=umask,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )


def kill(process: subprocess.Popen[str]) -> None:
    """The process and all that it started; harmless where they ended."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def run(command: Sequence[str], env: Mapping[str, str], umask: int = -1, after: float | None = None) -> Ended:
    """Run it to its end; or kill it ``after`` so many seconds. What it started is killed with it."""
    began = time.monotonic()
    process = start(command, env, umask)
    try:
        output, errors = process.communicate(timeout=PATIENCE if after is None else after)
    except subprocess.TimeoutExpired:
        kill(process)
        output, errors = process.communicate()
        if after is None:
            errors += f"\nit did not end in {PATIENCE} s"
    finally:
        kill(process)
    return Ended(process.returncode, output, errors, time.monotonic() - began)


def still_running(folder: Path, patience: float = 5.0) -> list[str]:
    """Commands that work on ``folder`` and do not end by themselves."""
    until = time.monotonic() + patience
    while True:
        found = [" ".join(words) for words in map(command_of, psutil.process_iter()) if str(folder) in " ".join(words)]
        if not found or time.monotonic() > until:
            return found
        time.sleep(0.05)


def command_of(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline() if process.status() != psutil.STATUS_ZOMBIE else []
    except psutil.Error:
        return []


def environment(**more: str) -> dict[str, str]:
    """This process's own, without anything by which a hub would be asked."""
    return {**os.environ, "HF_HUB_OFFLINE": "", "HF_TOKEN": "", "PYTHONUTF8": "1", "OMP_WAIT_POLICY": "passive", **more}


def edge(*arguments: str | Path) -> list[str]:
    return ["-m", "edge", *map(str, arguments)]


def python(*arguments: str) -> list[str]:
    return [sys.executable, *arguments]
