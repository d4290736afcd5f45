"""Measuring in a child process: what it says, and how it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from convert.errors import EdgeError
from edge.bench.child import run_child

Child = Callable[..., str]
Messages = list[dict[str, Any]]


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Child:
    """Writes a module of these lines for the child to run, and returns its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)

    def write(*lines: str) -> str:
        head = ("import os, signal, sys, time", "def say(text): print(text, flush=True)")
        (tmp_path / "a_child.py").write_text("\n".join((*head, *lines, "")))
        return "a_child"

    return write


def run(module: str, *arguments: str, doing: str = "x.gguf: measuring its speed") -> tuple[dict[str, Any], Messages]:
    told: Messages = []
    return run_child(module, arguments, doing, told.append), told


def refusal(module: str, **more: Any) -> EdgeError:
    with pytest.raises(EdgeError) as caught:
        run(module, **more)
    assert "\n" not in str(caught.value) and "Traceback" not in str(caught.value)
    return caught.value


# --- what it says


def test_messages_and_what_was_found(child: Child) -> None:
    module = child(
        "say('{\"progress\": [0, 2]}')",
        'say(\'{"so_far": {"a": 1}}\')',
        "say('{\"found\": {\"arguments\": ' + str(sys.argv[1:]).replace(\"'\", '\"') + '}}')",
    )
    found, told = run(module, "one", "two words")
    assert found == {"arguments": ["one", "two words"]}
    assert told == [{"progress": [0, 2]}, {"so_far": {"a": 1}}, {"found": found}]


def test_rubbish_in_between(child: Child) -> None:
    """A library may print there."""
    module = child(
        "say('')",
        "say('llama.cpp: loading {')",
        "say('[1, 2]')",
        "say('null')",
        "say('{\"progress\": [1')",
        "sys.stdout.buffer.write(b'\\xff\\xfe\\x00\\n'); sys.stdout.flush()",
        "say('x' * 200000)",
        "say('{\"found\": {}}')",
        "say('and good-bye')",
    )
    assert run(module) == ({}, [{"found": {}}])


def test_standard_input_is_empty(child: Child) -> None:
    assert run(child('say(\'{"found": {"read": "\' + sys.stdin.read() + \'"}}\')'))[0] == {"read": ""}


def test_more_on_stderr_than_a_pipe_holds(child: Child) -> None:
    """Nobody reads it meanwhile: with a pipe the child stopped."""
    assert run(child("sys.stderr.write('x' * 300000)", "say('{\"found\": {}}')"))[0] == {}


# --- how it ends


def test_a_failure_names_the_file_once(child: Child) -> None:
    error = refusal(child('say(\'{"failed": "it is broken", "hint": "mend it"}\')', "sys.exit(1)"))
    assert (error.message, error.hint) == ("x.gguf: it is broken", "mend it")
    error = refusal(child('say(\'{"failed": "x.gguf is broken", "hint": ""}\')', "sys.exit(1)"))
    assert str(error) == "x.gguf is broken"


def test_a_name_with_a_colon(child: Child) -> None:
    """All behind the first colon was cut off."""
    module = child('say(\'{"failed": "qwen2.5:7b.gguf is broken", "hint": ""}\')', "sys.exit(1)")
    assert refusal(module, doing="qwen2.5:7b.gguf: measuring").message == "qwen2.5:7b.gguf is broken"
    module = child('say(\'{"failed": "it is broken", "hint": ""}\')', "sys.exit(1)")
    assert refusal(module, doing="qwen2.5:7b.gguf: measuring").message == "qwen2.5:7b.gguf: it is broken"


@pytest.mark.parametrize(
    ("last", "why"),
    [
        ("raise ValueError('no such thing')", "exit code 1 ValueError: no such thing"),
        ("sys.exit('two\\nlines')", "exit code 1 lines"),
        ("sys.exit(7)", "exit code 7"),
        ("os._exit(0)", "exit code 0"),
        pytest.param("os.kill(os.getpid(), signal.SIGKILL)", "llama.cpp crashed (SIGKILL)"),
        pytest.param("os.kill(os.getpid(), signal.SIGSEGV)", "llama.cpp crashed (SIGSEGV)"),
        pytest.param("os.abort()", "llama.cpp crashed (SIGABRT)"),
    ],
)
@pytest.mark.parametrize("before", ["", "say('{\"progress\": [1, 2]}')"])
def test_a_child_that_ends_badly(child: Child, before: str, last: str, why: str) -> None:
    if os.name == "nt" and "SIG" in why:
        pytest.skip("no signals there")
    error = refusal(child(before, last))
    assert error.message == f"x.gguf: measuring its speed ended badly: {why}"
    assert "memory" in error.hint and "edge show" in error.hint


@pytest.mark.skipif(os.name == "nt", reason="no signals there")
def test_what_a_child_found_before_it_crashed_does_not_count(child: Child) -> None:
    error = refusal(child("say('{\"found\": {}}')", "os.kill(os.getpid(), signal.SIGSEGV)"))
    assert error.message.endswith("llama.cpp crashed (SIGSEGV)")


def test_a_module_that_there_is_not() -> None:
    assert "No module named" in refusal("edge.bench.no_such_module").message


# --- no orphans


class Children:
    """Every child that was started while a test runs."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.started: list[subprocess.Popen[bytes]] = []
        started = self.started

        class Recorded(subprocess.Popen):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                started.append(self)

        monkeypatch.setattr(subprocess, "Popen", Recorded)

    def check_killed(self) -> None:
        (child,) = self.started
        assert child.returncode is not None and child.returncode != 0 and not psutil.pid_exists(child.pid)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_who_listens_may_end_it(child: Child, error: type[BaseException], monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children(monkeypatch)

    def stop(_: dict[str, Any]) -> None:
        raise error

    with pytest.raises(error):
        run_child(child("say('{\"progress\": [0, 1]}')", "time.sleep(600)"), (), "x.gguf: measuring", stop)
    children.check_killed()


@pytest.mark.skipif(os.name == "nt", reason="no signals there")
@pytest.mark.parametrize("deaf", ["", "signal.signal(signal.SIGINT, signal.SIG_IGN)"])
def test_an_interrupt_while_it_is_silent(child: Child, deaf: str, monkeypatch: pytest.MonkeyPatch) -> None:
    children = Children(monkeypatch)
    module = child(deaf, "time.sleep(600)")

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    began = time.monotonic()
    try:
        with pytest.raises(KeyboardInterrupt):
            run(module)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    children.check_killed()
    assert time.monotonic() - began < 300, "it was not waited for"
