"""Read the output of pip's build of llama.cpp: how far it is, and why it failed.

Only the standard library, and only words that Python 3.6 reads: see setup.py.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

STEP = re.compile(r"^\s*\[(\d+)/(\d+)\] ")  # ninja
PERCENT = re.compile(r"^\s*\[ *(\d+)%\] ")  # make


def parse_step(line: str) -> "float | None":
    """How much is done, 0 to 1, if this line of the build's output says so."""
    step = STEP.match(line)
    if step and 0 < int(step.group(2)) >= int(step.group(1)):
        return int(step.group(1)) / int(step.group(2))
    percent = PERCENT.match(line)
    return min(int(percent.group(1)), 100) / 100 if percent else None


class Progress:
    """One line that changes in place on a terminal, else a plain line every 30 seconds."""

    def __init__(self, out: "TextIO", clock: "Callable[[], float]") -> None:
        self.out, self.clock = out, clock
        self.terminal = out.isatty()
        self.started = self.shown = clock()
        self.building_since = None  # type: float | None
        self.done = 0.0
        self.width = 0

    def line(self, text: str) -> None:
        """Take one line of the build's output; an empty one only tells that time went by."""
        now = self.clock()
        done = parse_step(text)
        if done is not None:
            self.building_since = now if self.building_since is None else self.building_since
            self.done = max(self.done, done)
        if now - self.shown >= (0.5 if self.terminal else 30):
            self.shown = now
            self.show(now)

    def describe(self, now: float) -> str:
        elapsed = clock_time(now - self.started)
        if self.building_since is None:
            return f"  fetching and preparing, {elapsed} so far"
        spent = now - self.building_since
        left = f", about {clock_time(spent / self.done - spent)} left" if self.done > 0.02 and spent > 5 else ""
        return f"  building: {int(self.done * 100)} %, {elapsed} so far{left}"

    def show(self, now: float) -> None:
        text = self.describe(now)
        if self.terminal:
            self.out.write("\r" + text.ljust(self.width))
            self.width = len(text)
        else:
            self.out.write(text + "\n")
        self.out.flush()

    def close(self) -> None:
        if self.terminal and self.width:
            self.out.write("\n")
            self.out.flush()


def clock_time(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02d}"


# What a line of the log means -> what to do.
CAUSES = (
    (r"No matching distribution|Could not find a version|Temporary failure in name resolution|Connection refused",
     "pip finds no package index that has it: check the network, or pip's configuration"),
    (r"No space left on device", "the disk is full: make room, or set TMPDIR to a folder with 2 GB free"),
    (r"Killed signal|std::bad_alloc|cc1plus.*[Kk]illed|virtual memory exhausted",
     "memory ran out: build with one core, CMAKE_BUILD_PARALLEL_LEVEL=1"),
    (r"no GPU was detected",
     "CMake sees no NVIDIA GPU here; say which to build for, such as CMAKE_ARGS=-DCMAKE_CUDA_ARCHITECTURES=89"),
    (r"CMAKE_(C|CXX|CUDA)_COMPILER (not set|could be found)|not able to compile a simple test program"
     r"|could not find any instance of Visual Studio",
     "no working compiler: install build-essential (Debian, Ubuntu), xcode-select --install (macOS), "
     "or Visual Studio Build Tools with \"Desktop development with C++\" (Windows)"),
)  # fmt: skip
# What compilers, linkers and CMake say of a failure, and what pip says afterwards, of every failure alike.
TELLING = re.compile(r"\berror( [A-Z]+\d+)?: |CMake Error|^\s*FAILED: |ERROR: |ld: |No space left")
PIP_AFTERWARDS = re.compile(
    r"subprocess-exited-with-error|Failed building wheel|[Ff]ailed to build|Could not build wheels"
)


def telling_lines(log: "list[str]") -> "list[str]":
    """The lines that say why, without repeats; CMake gives its reason on the lines after "CMake Error"."""
    found = []
    for i, line in enumerate(log):
        if TELLING.search(line) and not PIP_AFTERWARDS.search(line) and not STEP.match(line):
            reason = log[i + 1 : i + 3] if line.lstrip().startswith("CMake Error") else []
            found += [text.strip() for text in (line, *reason) if text.strip()]
    return list(dict.fromkeys(found))


def failure(log: "list[str]", what: str, path: Path) -> str:
    """One sentence, then the last few lines that matter, then where the full log is."""
    text = "\n".join(log)
    cause = next((advice for pattern, advice in CAUSES if re.search(pattern, text)), None)
    lines = telling_lines(log) or [line.strip() for line in log if line.strip()]
    shown = "".join(f"\n    {line[:200]}" for line in lines[-5:])
    advice = f"; {cause}" if cause else ""
    return f"{what} failed{advice}{shown}\n  the full log: {path}"
