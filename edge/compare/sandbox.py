"""Code that a model wrote, and tests for it, run where it can do no harm: see ``edge.compare.confine``.

One process a test, so that an answer that ends its process, or never ends, fails one test and not all. What cannot be
confined is not run. Code that means to can only claim that it passed: it shares a process with its test.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from convert.errors import EdgeError, one_line

CHILD = Path(__file__).with_name("confine.py")
PYTHON = ("python", "py", "python3")
MOST_CODE, MOST_WHY = 1 << 18, 200  # characters
MOST_RESULT = 1 << 16  # bytes
CONFINED = "confined"  # what the child says before it runs anything
PROBE = "def test_probe(): import decimal, hashlib, random"
PROBE_SECONDS = 10.0


@dataclass(frozen=True)
class TestRun:
    """``why``: of the first test that failed, a line."""

    __test__ = False  # pytest takes it for tests

    passed: int
    total: int
    why: str


@dataclass(frozen=True)
class Ended:
    """``said``: ``confined``, or why not, or nothing where it ended before. ``why`` the test failed, untrusted."""

    said: str
    why: str


@functools.cache
def unconfined() -> str | None:
    """None where code can be confined, else a sentence why it cannot."""
    if sys.platform != "linux":
        return "code runs only confined, and only on Linux"
    try:
        ended = run_one("", PROBE, "test_probe", PROBE_SECONDS)
    except OSError as error:
        ended = Ended(str(error), "")
    if ended == Ended(CONFINED, ""):
        return None
    why = ended.why if ended.said in (CONFINED, "") else ended.said
    return f"code runs only confined, and that fails here: {one_line(why)}"


def run_tests(code: str, tests: str, *, seconds: float = 10.0) -> TestRun:
    """Each ``test_...`` of ``tests``, which import from ``answer``, for at most so many seconds.

    Raises EdgeError where the code cannot be confined.
    """
    if why := unconfined():
        raise EdgeError(why, "leave out the suites with code")
    found = ast.parse(tests).body
    names = [one.name for one in found if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")]
    if len(code) > MOST_CODE:
        return TestRun(0, len(names), f"the code has more than {MOST_CODE} characters")
    faults = []
    for name in names:
        try:
            ended = run_one(code, tests, name, seconds)
        except OSError as error:
            raise EdgeError(f"code cannot be confined: {error}") from error
        if ended.said not in (CONFINED, ""):
            raise EdgeError(f"code cannot be confined: {ended.said}")
        if ended.why:
            faults.append(f"{name}: {visible(ended.why)}"[:MOST_WHY])
    return TestRun(len(names) - len(faults), len(names), faults[0] if faults else "")


def visible(text: str) -> str:
    """``text`` in one line, its control characters as escapes."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def run_one(code: str, tests: str, test: str, seconds: float) -> Ended:
    """Raises OSError where no process can be started."""
    with (
        tempfile.TemporaryDirectory(prefix="answer-") as made,
        tempfile.TemporaryFile() as told,
        pipe() as (said, say),
        pipe() as (result, report),
    ):
        folder = os.path.realpath(made)
        told.write(json.dumps({"code": code, "tests": tests, "parent": os.getpid()}).encode())
        told.seek(0)
        python = os.path.realpath(sys.executable)  # that of a virtual environment is a link
        asked = [folder, test, str(say), str(report), str(int(seconds) + 1)]
        child = subprocess.Popen(
            [python, "-I", "-S", "-B", str(CHILD), *asked],
            stdin=told,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"LANG": "C.UTF-8", "HOME": folder, "TMPDIR": folder},
            pass_fds=[say, report],
            start_new_session=True,
        )
        late = False
        try:
            child.wait(seconds)
        except subprocess.TimeoutExpired:
            late = True
        finally:
            if child.returncode is None:
                os.killpg(child.pid, signal.SIGKILL)  # process 1 of its namespaces is in there, and takes all along
                child.wait()
        word = read(said).decode(errors="replace")
        return Ended(word, f"did not end in {seconds:g} s" if late else fault(read(result)))


def fault(result: bytes) -> str:
    """Why the test failed, as the child tells."""
    try:
        why = json.loads(result)["why"]
    except (ValueError, LookupError, TypeError, RecursionError):
        return "the code ended its process" if not result else "the code wrote over its result"
    return why if isinstance(why, str) else "the code wrote over its result"


@contextlib.contextmanager
def pipe() -> Iterator[tuple[int, int]]:
    """Reading never waits: whoever holds the other end may be stuck."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    try:
        yield reading, writing
    finally:
        os.close(reading)
        os.close(writing)


def read(handle: int) -> bytes:
    try:
        return os.read(handle, MOST_RESULT)
    except BlockingIOError:
        return b""


# --- what of an answer is code


def extract_code(answer: str) -> str:
    """The Python blocks of an answer, one after the other; else those without a language, else all blocks; without any
    block, the answer. The last block may lack its end. What a prompt shows (``>>> f(1)``) is left out."""
    found = [(name, body) for name, body in blocks(answer) if not body.lstrip().startswith(">>>")]
    for wanted in (PYTHON, ("",)):
        if chosen := [body for name, body in found if name in wanted]:
            return "\n".join(chosen)
    return "\n".join(body for _, body in found) or answer


def blocks(answer: str) -> Iterator[tuple[str, str]]:
    """Each fenced block: its language in small letters, and its lines, without the indentation of the fence."""
    fence, name, indent, body = "", "", 0, list[str]()
    for line in answer.split("\n"):
        bare = line.strip()
        if fence:
            if bare.startswith(fence) and not bare.strip(fence[0]):
                yield name, "".join(body)
                fence = ""
            else:
                body.append(line[min(indent, len(line) - len(line.lstrip())) :] + "\n")
        elif bare.startswith(("```", "~~~")):
            rest = bare.lstrip(bare[0])
            fence, body, indent = bare[: len(bare) - len(rest)], [], len(line) - len(line.lstrip())
            if fence[0] in rest:  # ```code``` in a line
                fence = ""
            name = rest.split()[0].lower() if rest.split() else ""
    if fence:
        yield name, "".join(body)
