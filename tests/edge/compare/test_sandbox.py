"""Code that means harm is confined. Each try is first seen to work outside, or it would prove nothing."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from convert.errors import EdgeError
from edge.compare import confine, sandbox
from edge.compare.sandbox import Ended, TestRun, extract_code, run_tests, unconfined

SECONDS = 2.0  # of a test
IMPORTS = "import answer\ndef test_it(): pass"
TRIED = "import answer\ndef test_it(): answer.attempt()"
WRITES = "import os\nfor n in range(3, 256):\n try: os.write(n, {})\n except OSError: pass"  # over its result
OUTSIDE_SECONDS = 20.0


@pytest.fixture
def confined() -> None:
    if why := unconfined():
        pytest.skip(why)


def run(code: str, tests: str = IMPORTS, seconds: float = SECONDS) -> TestRun:
    return run_tests(code, tests, seconds=seconds)


def outside(code: str) -> int:
    """The exit code of ``attempt()`` where nothing confines it."""
    plain = subprocess.run(
        [sys.executable, "-I", "-c", f"{code}\nattempt()"], capture_output=True, timeout=OUTSIDE_SECONDS, check=False
    )
    return plain.returncode


# --- tests and their results


@pytest.mark.usefixtures("confined")
def test_right_and_wrong() -> None:
    tests = """
from answer import double
def helper(): return 1 / 0
def test_two(): assert double(2) == 4
def test_three(): assert double(3) == 6, "not six"
def test_text(): double(None)
"""
    assert run("def double(n): return n + n if n is not None else ''", tests) == TestRun(3, 3, "")
    assert run("def double(n): return n ** 2", tests) == TestRun(1, 3, "test_three: AssertionError: not six")


@pytest.mark.usefixtures("confined")
@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def f(:", "SyntaxError"),
        ("import nowhere", "ModuleNotFoundError"),
        ("raise SystemExit(0)", "SystemExit: 0"),
        ("import os; os._exit(0)", "the code ended its process"),
        ("import ctypes; ctypes.string_at(0)", "the code ended its process"),
        (WRITES.format("b'[' * 70000"), "did not end"),
        (
            WRITES.format("b'[1]'"),
            "wrote over its result",
        ),
        ("raise ValueError('a\\nb\\x1b[31m' + 'c' * 900)", r"ValueError: a\nb\x1b[31mccc"),
    ],
)
def test_faults(code: str, why: str) -> None:
    found = run(code, seconds=1.0)
    assert (found.passed, found.total) == (0, 1)
    assert found.why.startswith("test_it: ") and why in found.why
    assert found.why.isprintable() and len(found.why) <= 200


@pytest.mark.usefixtures("confined")
def test_one_that_never_ends_is_one_that_fails() -> None:
    tests = "from answer import f\ndef test_ends(): f(1)\ndef test_never(): f(0)\ndef test_too(): f(2)"
    started = time.monotonic()
    assert run("def f(n):\n while not n: pass", tests, 1.0) == TestRun(2, 3, "test_never: did not end in 1 s")
    assert time.monotonic() - started < 4


@pytest.mark.usefixtures("confined")
def test_what_is_allowed() -> None:
    code = """
import collections, csv, dataclasses, decimal, hashlib, json, random, re, sqlite3, tempfile, time
@dataclasses.dataclass
class Point: x: int
with tempfile.TemporaryDirectory() as folder, open(folder + "/a", "w") as file: file.write("a" * 1000)
random.random(), time.time(), hashlib.sha256(b"").digest(), Point(1)
"""
    assert run(code) == TestRun(1, 1, "")


@pytest.mark.usefixtures("confined")
def test_endless_output_goes_nowhere() -> None:
    assert run("for _ in range(100): print('x' * 1_000_000)") == TestRun(1, 1, "")


@pytest.mark.usefixtures("confined")
def test_standard_input_and_environment_are_empty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_SECRET", "1234")
    code = "import os\nassert os.read(0, 9) == b'' and os.lseek(0, 0, 0) == 0 and os.read(0, 9) == b''\n"
    assert run(code + "assert {*os.environ} <= {'LANG', 'LC_CTYPE', 'HOME', 'TMPDIR'}, os.environ") == TestRun(1, 1, "")


@pytest.mark.usefixtures("confined")
def test_no_file_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "import os, pathlib\npathlib.Path('left').write_text('x'); os.mkdir('more'); raise Exception(os.getcwd())"
    folder = Path(run(code).why.removeprefix("test_it: Exception: "))
    assert folder.parent == tmp_path.resolve() and list(tmp_path.iterdir()) == []


# --- each try, outside and inside

REFUSED = "PermissionError"


@pytest.mark.usefixtures("confined")
@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("open(FOLDER + '/made', 'w')", "FileNotFoundError"),
        ("open(FOLDER + '/secret').read()", "FileNotFoundError"),
        ("os.stat(FOLDER + '/secret')", "FileNotFoundError"),
        ("os.chmod(FOLDER + '/secret', 0o644)", REFUSED),
        ("os.utime(FOLDER + '/secret')", REFUSED),
        ("os.unlink(FOLDER + '/secret')", "FileNotFoundError"),
        ("os.listdir('/')", REFUSED),
        ("open('/proc/self/status').read(), open(f'/proc/{PARENT}/cmdline').read()", "FileNotFoundError"),
        ("open('/etc/passwd').read()", "FileNotFoundError"),
        ("os.fchmod(1, os.fstat(1).st_mode & 0o777)", REFUSED),
        ("socket.create_connection(ADDRESS, 1)", REFUSED),
        ("socket.socketpair()", REFUSED),
        ("os.kill(PARENT, 0)", REFUSED),
        ("os.kill(os.getpid(), 0)", REFUSED),
        ("os.fork() or os._exit(0)", REFUSED),
        ("subprocess.run([sys.executable, '-c', ''], check=True)", REFUSED),
        ("os.execv(sys.executable, [sys.executable, '-c', ''])", REFUSED),
        ("threading.Thread(target=print).start()", "RuntimeError"),
        ("file = tempfile.TemporaryFile(); os.posix_fallocate(file.fileno(), 0, 9)", REFUSED),
        ("os.close(os.memfd_create('m'))", REFUSED),
        ("libc(LIBC.shmget(0, 4096, 0o1600))", REFUSED),
        ("libc(LIBC.prctl(1, 0, 0, 0, 0))", REFUSED),
        ("libc(LIBC.unshare(0))", REFUSED),
        ("libc(LIBC.syscall(434, os.getpid(), 0))", "OSError"),  # pidfd_open
        ("os.getsid(0) == os.getpid() or os.setsid()", REFUSED),
        ("with_file('big', 2 << 20)", "OSError: [Errno 27]"),
        ("bytes(700 << 20)", "MemoryError"),
        ("resource.setrlimit(resource.RLIMIT_AS, (HARD, HARD))", "ValueError"),
    ],
)
def test_try(body: str, why: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("1234")
    with listener() as (address, accepted):
        code = f"""
import ctypes, os, resource, socket, subprocess, sys, tempfile, threading
FOLDER, PARENT, ADDRESS, HARD = {str(tmp_path)!r}, {os.getpid()}, {address!r}, {hard_limit()}
LIBC = ctypes.CDLL(None, use_errno=True)
def libc(result):
    if result < 0: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
def with_file(name, size):
    with tempfile.TemporaryFile() as file: file.truncate(size)
def attempt(): {body}
"""
        assert outside(code) == 0
        worked = accepted()
        (tmp_path / "made").unlink(missing_ok=True)
        secret.write_text("1234")
        secret.chmod(0o600)
        before = secret.stat()
        found = run(code, TRIED)
        assert found.passed == 0 and found.why.startswith(f"test_it: {why}"), found
        assert accepted() == 0 and worked == ("ADDRESS" in body)
    assert secret.stat() == before and [one.name for one in tmp_path.iterdir()] == ["secret"]


def hard_limit() -> int:
    """Above what an answer has, and no more than there is here."""
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    return hard if hard != resource.RLIM_INFINITY else 1 << 40


@contextlib.contextmanager
def listener() -> Iterator[tuple[tuple[str, int], Callable[[], int]]]:
    """On the loopback alone. The function says how many connected since it was last asked."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)

        def accepted() -> int:
            for count in range(9):
                try:
                    server.accept()[0].close()
                except BlockingIOError:
                    return count
            return 9

        yield server.getsockname(), accepted


@pytest.mark.usefixtures("confined")
def test_libraries_are_read_only() -> None:
    code = "import os\ndef attempt(): open(os.path.dirname(os.__file__) + '/made_by_an_answer.py', 'w')"
    found = run(code, TRIED)
    assert "Error" in found.why and not (Path(os.__file__).parent / "made_by_an_answer.py").exists()


@pytest.mark.usefixtures("confined")
def test_the_folder_has_a_bound() -> None:
    code = "def attempt():\n for n in range(40): open(f'file{n}', 'wb').write(bytes(1 << 20))"
    assert run(code, TRIED).why.startswith("test_it: OSError: [Errno 28]")
    assert run("def attempt():\n for n in range(2000): open(f'{n}', 'wb')", TRIED).why.startswith("test_it: OSError")


@pytest.mark.usefixtures("confined")
def test_no_process_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    code = "import signal, time\nfor n in (1, 2, 15): signal.signal(n, signal.SIG_IGN)\ntime.sleep(60)"
    assert not processes_in(tmp_path)
    with subprocess.Popen([sys.executable, "-c", "input()", str(tmp_path)], stdin=subprocess.PIPE) as other:
        until = time.monotonic() + 5  # a busy machine shows a new process's arguments late
        while processes_in(tmp_path) != [other.pid]:
            assert time.monotonic() < until, "processes are not seen"
            time.sleep(0.02)
        other.communicate(b"\n")
    assert run(code, seconds=1.0).why == "test_it: did not end in 1 s"
    until = time.monotonic() + 5
    while processes_in(tmp_path) and time.monotonic() < until:
        time.sleep(0.02)
    assert processes_in(tmp_path) == []


def processes_in(folder: Path) -> list[int]:
    """Those with the folder in their command line."""
    found = []
    for one in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.fsencode(folder) in (one / "cmdline").read_bytes():
                found.append(int(one.name))
    return found


# --- where it cannot be confined


def test_elsewhere_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sandbox.sys, "platform", "win32")
    assert sandbox.unconfined.__wrapped__() == "code runs only confined, and only on Linux"


def test_unconfined_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    why = "code runs only confined, and that fails here: this kernel has no Landlock"
    monkeypatch.setattr(sandbox, "run_one", lambda *_: Ended("this kernel has no Landlock", ""))
    assert sandbox.unconfined.__wrapped__() == why
    monkeypatch.setattr(sandbox, "unconfined", lambda: why)
    with pytest.raises(EdgeError, match="no Landlock"):
        run("")
    monkeypatch.setattr(sandbox, "unconfined", lambda: None)
    with pytest.raises(EdgeError, match="no Landlock"):
        run("")


def test_nothing_runs_where_the_child_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = (Path(confine.__file__)).read_text().replace('"x86_64": (', '"none": (').replace('"aarch64": (', '"no": (')
    (tmp_path / "confine.py").write_text(broken)
    monkeypatch.setattr(sandbox, "CHILD", tmp_path / "confine.py")
    if sys.platform == "linux":
        ended = sandbox.run_one("", IMPORTS, "test_it", SECONDS)
        assert ended.said not in (sandbox.CONFINED, "") and ended.why == "the code ended its process"


# --- by version and machine


@pytest.mark.parametrize(("version", "size"), [(1, 8), (2, 8), (3, 8), (4, 16), (5, 16), (6, 24), (7, 24)])
def test_ruleset(version: int, size: int) -> None:
    ruleset, writing = confine.ruleset_of(version)
    refused = int.from_bytes(ruleset[:8], sys.byteorder)
    assert len(ruleset) == size
    assert writing & ~refused == 0  # the kernel refuses rules for what it does not handle
    assert refused.bit_length() == {1: 13, 2: 14, 3: 15, 4: 15}.get(version, 16)


@pytest.mark.parametrize(
    ("machine", "refused", "allowed"),
    [("x86_64", (57, 58, 56, 59, 41, 62, 157), (0, 1, 9, 231)), ("aarch64", (220, 221, 198, 129, 167), (63, 64, 94))],
)
def test_filter(machine: str, refused: tuple[int, ...], allowed: tuple[int, ...]) -> None:
    mark = confine.MACHINES[machine][1]
    answers = {number: filtered(machine, mark, number) for number in (*refused, *allowed)}
    assert answers == {n: confine.FAIL_WITH | confine.EPERM for n in refused} | {n: confine.ALLOW for n in allowed}
    assert filtered(machine, mark, 436) == confine.ALLOW
    for new in (424, 425, 435, 1000, 0x40000001):
        assert filtered(machine, mark, new) == confine.FAIL_WITH | confine.ENOSYS
    assert filtered(machine, 0x40000003, 1) == confine.FAIL_WITH | confine.EPERM  # of 32 bits


def filtered(machine: str, mark: int, number: int) -> int:
    """What the kernel makes of the filter."""
    lines, at, held = confine.filter_lines(machine), 0, 0
    while True:
        code, yes, no, value = lines[at]
        at += 1
        if code == confine.LOAD:
            held = {confine.NUMBER: number, confine.ARCHITECTURE: mark}[value]
        elif code == confine.RETURN:
            return value
        else:
            at += yes if (held == value if code == confine.JUMP_IF else held >= value) else no


# --- what of an answer is code


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ("def f(): pass", "def f(): pass"),
        ("Here:\n```python\nx = 1\n```\nDone.", "x = 1\n"),
        ("```py\nx = 1\n```\nand\n~~~Python3\ny = 2\n~~~\nshows\n```\n1 2\n```", "x = 1\n\ny = 2\n"),
        ("```\nx = 1\n```", "x = 1\n"),
        ("```js\nx = 1\n```", "x = 1\n"),
        ("```python\nx = 1", "x = 1\n"),  # cut off
        ("1. So:\n   ```python\n   if x:\n       y\n   ```", "if x:\n    y\n"),
        ("````python\nx = '''\n```\n'''\n````", "x = '''\n```\n'''\n"),
        ("```python\nx = 1\n```\n```python\n>>> x\n1\n```", "x = 1\n"),
        ("Take ```x```.\n```python\nx\r\n```", "x\r\n"),
        ("", ""),
    ],
)
def test_extract_code(answer: str, code: str) -> None:
    assert extract_code(answer) == code


def test_extract_code_in_time() -> None:
    started = time.monotonic()
    extract_code("```" + " " * 200_000 + "`\n" + "```\n" * 50_000 + "`" * 200_000)
    assert time.monotonic() - started < 2
