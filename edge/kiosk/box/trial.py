"""A new slot is tried before it is served: it must answer the golden question, and be fast enough.

It runs on a Unix socket, with a folder of its own for what it writes; whatever becomes of this program, it ends too.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

from .errors import BoxError
from .layout import Layout, make_folder, remove
from .manifest import LAUNCH, MODEL, Manifest

SOCKET, OUTPUT = "s", "output"
START_SECONDS = 900.0  # a model read from a slow stick's file system
ANSWER_SECONDS = 600.0
PLAN_SECONDS = 300.0
END_SECONDS = 10.0
PAUSE = 0.1  # seconds between looks
LARGEST_ANSWER = 1 << 20  # bytes
GOLDEN_TOKENS = 32
SPEED_QUESTION, SPEED_TOKENS, LEAST_TOKENS = "Count from one to one hundred, in words.", 64, 8
ROUNDS = 3  # the best one counts: something else may have run
PR_SET_PDEATHSIG = 1

LIBC = ctypes.CDLL(None)


@dataclass(frozen=True)
class Passed:
    """Speeds in tokens/s; ``planned`` is 0 where none was asked for."""

    answer: str
    speed: float
    planned: float


def try_slot(layout: Layout, folder: Path, manifest: Manifest, min_speed: float, tell: Callable[[str], None]) -> Passed:
    """``min_speed``: the least part of the planned decode speed. Raises BoxError that says what failed."""
    remove(layout.trial)
    make_folder(layout.trial, 0o700)
    try:
        tell("trying the new version")
        planned = planned_speed(layout, folder, manifest) if min_speed > 0 else 0.0
        with serving(layout, folder) as child:
            wait_until_ready(layout, child)
            answer = check_golden(layout, child, manifest)
            ask_as_visitors_do(layout, child, manifest)
            speed = best_speed(layout, child) if min_speed > 0 else 0.0
        if speed < min_speed * planned:
            raise failed(
                f"it decodes {speed:.2f} tokens/s, less than {min_speed:g} of the planned {planned:.2f}",
                "is something else running? --min-speed sets another bound",
            )
        return Passed(answer, speed, planned)
    finally:
        with contextlib.suppress(OSError):
            remove(layout.trial)


def failed(why: str, hint: str = "") -> BoxError:
    return BoxError(f"the new version failed its trial: {why}", hint)


# --- the slot's own programs


def environment(layout: Layout) -> dict[str, str]:
    """Nothing of the caller's: what the service would have, but for the folders."""
    place = str(layout.trial)
    folders = ("HOME", "TMPDIR", "STATE_DIRECTORY", "CACHE_DIRECTORY", "EDGE_HOME")
    return {"PATH": os.environ.get("PATH", os.defpath), "LANG": "C.UTF-8", **{name: place for name in folders}}


def command(folder: Path, arguments: Sequence[str]) -> list[str]:
    return [sys.executable, str(folder / LAUNCH), *arguments]


def die_with_parent() -> None:
    LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def planned_speed(layout: Layout, folder: Path, manifest: Manifest) -> float:
    """What the slot's own runtime expects of its model on this machine, in tokens/s. Raises BoxError."""
    try:
        done = subprocess.run(
            command(folder, ["plan", str(folder / MODEL), "--json"]),
            cwd=layout.trial,
            env=environment(layout),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PLAN_SECONDS,
            preexec_fn=die_with_parent,
        )
    except subprocess.TimeoutExpired as error:
        raise failed(f"its plan took more than {PLAN_SECONDS:.0f} s") from error
    if done.returncode:
        raise failed(f"its plan failed: {last_line(done.stderr)}")
    try:
        levels = json.loads(done.stdout)["levels"]
        here = [one for one in levels if one["here"]]
        found = next((one for one in here if one["level"] == manifest.level), here[0])
        return float(found["decode"])
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise failed("its plan cannot be read") from error


@contextlib.contextmanager
def serving(layout: Layout, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (layout.trial / OUTPUT).open("wb") as output:
        child = subprocess.Popen(
            command(folder, ["serve", "--socket", SOCKET]),
            cwd=layout.trial,
            env=environment(layout),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=die_with_parent,
        )
    try:
        yield child
    finally:
        end(child)


def end(child: subprocess.Popen[bytes]) -> None:
    """The server and what it started."""
    child.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(END_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def has_ended(child: subprocess.Popen[bytes]) -> bool:
    """Also when its connection is known to be closed a moment earlier than its end."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        child.wait(1)
    return child.returncode is not None


def last_line(output: bytes) -> str:
    lines = [line for line in output.decode("utf-8", errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


# --- what is asked


class UnixConnection(HTTPConnection):
    """To the socket in ``folder``, however long that path is: a socket's own may have 107 bytes."""

    def __init__(self, folder: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self.folder = folder

    def connect(self) -> None:
        opened = os.open(self.folder, os.O_PATH | os.O_DIRECTORY)
        try:
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(self.timeout)
            self.sock.connect(f"/proc/self/fd/{opened}/{SOCKET}")
        finally:
            os.close(opened)


def request(layout: Layout, method: str, path: str, body: Any, timeout: float) -> tuple[int, Any]:
    """Status and what the JSON of the answer says. Raises OSError, HTTPException, ValueError."""
    connection = UnixConnection(layout.trial, timeout)
    try:
        data = None if body is None else json.dumps(body).encode()
        connection.request(method, path, data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, json.loads(response.read(LARGEST_ANSWER))
    finally:
        connection.close()


def wait_until_ready(layout: Layout, child: subprocess.Popen[bytes]) -> None:
    """Raises BoxError."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if child.poll() is not None:
            raise failed(f"it ended while it started: {last_line((layout.trial / OUTPUT).read_bytes())}")
        with contextlib.suppress(OSError, HTTPException, ValueError):
            if request(layout, "GET", "/health", None, PAUSE * 50)[0] == 200:
                return
        time.sleep(PAUSE)
    raise failed(f"it was not ready after {START_SECONDS:.0f} s")


def ask(layout: Layout, child: subprocess.Popen[bytes], question: str, tokens: int, system: str = "") -> dict[str, Any]:
    """The answer's JSON. Raises BoxError."""
    head = [{"role": "system", "content": system}] if system else []
    body = {
        "messages": [*head, {"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": tokens,
        "chat_template_kwargs": {"enable_thinking": False},
    }
    try:
        status, answer = request(layout, "POST", "/v1/chat/completions", body, ANSWER_SECONDS)
    except (OSError, HTTPException, ValueError, RecursionError) as error:
        if has_ended(child):
            raise failed(f"it ended while it answered: {last_line((layout.trial / OUTPUT).read_bytes())}") from error
        raise failed(f"it gave no answer: {error}") from error
    if status != 200 or not isinstance(answer, dict):
        raise failed(f"it answered with status {status}")
    return answer


def check_golden(layout: Layout, child: subprocess.Popen[bytes], manifest: Manifest) -> str:
    """The answer; a model that thinks all the same is compared by its thoughts. Raises BoxError."""
    golden = manifest.golden
    try:
        message = ask(layout, child, golden.question, GOLDEN_TOKENS)["choices"][0]["message"]
        text = str(message.get("reasoning_content") or message.get("content") or "").strip()
    except (LookupError, TypeError, AttributeError) as error:
        raise failed("its answer cannot be read") from error
    if not text.startswith(golden.prefix):
        raise failed(f"to {golden.question!r} it answered {text[:100]!r}, which does not begin with {golden.prefix!r}")
    return text


def ask_as_visitors_do(layout: Layout, child: subprocess.Popen[bytes], manifest: Manifest) -> None:
    """With the system prompt of the page, which the server computes from its start on, beside whatever it is asked:
    this waits for it, and what is measured afterwards is measured alone. Raises BoxError."""
    if system := visitors_prompt(layout):
        ask(layout, child, manifest.golden.question, 1, system)


def visitors_prompt(layout: Layout) -> str:
    """Empty where there is no page for visitors."""
    with contextlib.suppress(OSError, HTTPException, ValueError, RecursionError, LookupError, TypeError):
        system = request(layout, "GET", "/page/settings.json", None, ANSWER_SECONDS)[1]["kiosk"]["system"]
        return system if isinstance(system, str) else ""
    return ""


def best_speed(layout: Layout, child: subprocess.Popen[bytes]) -> float:
    """Tokens/s of decoding. Raises BoxError."""
    best = 0.0
    for _ in range(ROUNDS):
        try:
            timings = ask(layout, child, SPEED_QUESTION, SPEED_TOKENS)["timings"]
            count, speed = int(timings["predicted_n"]), float(timings["predicted_per_second"])
        except (LookupError, TypeError, ValueError) as error:
            raise failed("its answer has no timings") from error
        if count >= LEAST_TOKENS:
            best = max(best, speed)
    if not best:
        raise failed("its answers are too short to measure its speed", "--min-speed 0 does not measure")
    return best
