"""The program that tries, against listeners that take everything: each kind tells what it reached, and what refused."""

from __future__ import annotations

import errno
import json
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from edge.kiosk.proof import attempts, controls
from edge.kiosk.proof.sandbox import python, run_attempts, tell

BECOME = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.dup2(int(sys.argv[2]), 4)
os.execv(sys.argv[3], sys.argv[3:])
"""
LOOK = """
import json, os, time
files = [int(one) for one in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{one}")]
print(json.dumps([os.environ["LISTEN_FDS"], int(os.environ["LISTEN_PID"]) == os.getpid(), files]), flush=True)
time.sleep(60)
"""


def test_what_can_be_reached_is(tmp_path: Path) -> None:
    with controls.listening([str(tmp_path), "/no/such/folder"]) as own:
        (path,) = own.paths
        assert Path(path).parent.parent == tmp_path
        wanted = [
            {"kind": "tcp", "address": "127.0.0.1", "port": own.tcp},
            {"kind": "connect", "address": "127.0.0.1", "port": own.tcp},
            {"kind": "udp", "address": "127.0.0.1", "port": own.udp},
            {"kind": "dns", "address": "127.0.0.1", "port": own.udp},
            {"kind": "unix", "path": path},
            {"kind": "unix", "path": own.abstract},
            {"kind": "elsewhere", "path": path},
            {"kind": "name", "host": "localhost"},
            {"kind": "family", "number": int(socket.AF_UNIX), "type": int(socket.SOCK_STREAM)},
        ]
        found = run_attempts(wanted)
    assert [one["reached"] for one in found] == [True] * len(wanted), found
    assert "200 Connection established" in found[1]["said"]
    assert not Path(path).exists()


def test_a_path_that_is_too_long_for_an_address_is_no_refusal(tmp_path: Path) -> None:
    """The bug: through the root of another process a socket seemed out of reach because of the length of its path."""
    folder = tmp_path / ("x" * 90)
    folder.mkdir()
    with controls.listening([str(tmp_path)]) as own:
        moved = folder / "control"
        Path(own.paths[0]).rename(moved)
        found = run_attempts([{"kind": "unix", "path": str(moved)}, {"kind": "elsewhere", "path": str(moved)}])
    assert [one["reached"] for one in found] == [True, True], found


def test_what_cannot_be_reached_says_why(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as one:
        free = one.getsockname()[1]
    (tmp_path / "file").touch()
    wanted = [
        {"kind": "tcp", "address": "127.0.0.1", "port": free},
        {"kind": "unix", "path": str(tmp_path / "none")},
        {"kind": "unix", "path": str(tmp_path / "file")},
        {"kind": "unix", "path": "@edge-proof-nobody"},
        {"kind": "elsewhere", "path": str(tmp_path / "none")},
        {"kind": "family", "number": 44, "type": 1},
    ]
    found = [attempts.attempt(one) for one in wanted]
    refused, missing = errno.ECONNREFUSED, errno.ENOENT
    assert [one["errno"] for one in found[:4]] == [refused, missing, refused, refused]
    assert found[4]["errno"] in (missing, errno.EACCES) and found[5]["errno"]
    assert not any(one["reached"] for one in found) and all(one["said"] for one in found)


def test_silence_is_neither(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever waits in vain has sent something: no error number says that it was refused."""
    monkeypatch.setattr(attempts, "PATIENCE", 0.05)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
        silent.bind(("127.0.0.1", 0))
        found = attempts.attempt({"kind": "udp", "address": "127.0.0.1", "port": silent.getsockname()[1]})
    assert (found["reached"], found["errno"]) == (False, None)


def test_told_through_a_socket(tmp_path: Path) -> None:
    """As beside the service; answers come in the order of the questions, and again."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as talk:
        talk.bind(str(tmp_path / "talk"))
        talk.listen()
        with subprocess.Popen([*python("attempts.py"), str(talk.fileno())], pass_fds=[talk.fileno()]) as child:
            wanted = [{"kind": "unix", "path": str(tmp_path / name)} for name in ("none", "talk", "none")]
            for _ in range(2):
                found = tell(str(tmp_path / "talk"), wanted)
                assert [one["reached"] for one in found] == [False, True, False]
            child.kill()


def test_the_service_is_started_beside_it(tmp_path: Path) -> None:
    """It keeps its own socket and learns of one alone; the attempts have theirs."""
    with socket.create_server(("127.0.0.1", 0)) as service, socket.socket(socket.AF_UNIX) as talk:
        talk.bind(str(tmp_path / "talk"))
        talk.listen()
        passed = [service.fileno(), talk.fileno()]
        command = [*python("beside.py"), sys.executable, "-c", LOOK]
        with subprocess.Popen(
            [sys.executable, "-c", BECOME, *map(str, passed), *command], pass_fds=passed, stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            count, is_own, files = json.loads(child.stdout.readline())
            found = tell(str(tmp_path / "talk"), [{"kind": "unix", "path": "/none"}])
            (beside,) = Path(f"/proc/{child.pid}/task/{child.pid}/children").read_text().split()
            command_line = Path(f"/proc/{beside}/cmdline").read_text()
            child.kill()
            subprocess.run(["kill", beside], check=True)
    assert (count, is_own) == ("1", True) and 3 in files and 4 not in files
    assert not found[0]["reached"] and "attempts.py" in command_line


def test_controls_end_with_their_block() -> None:
    before = threading.active_count()
    with controls.listening([]) as own, socket.create_connection(("127.0.0.1", own.tcp)):
        assert own.paths == () and threading.active_count() == before + 1
    assert threading.active_count() == before
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", own.tcp))
