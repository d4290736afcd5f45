"""The likeness of the unit's sandbox: what is hidden, what is taken away, and that nothing gets out."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from edge.kiosk.proof import controls, namespaces
from edge.kiosk.proof.sandbox import CODE, DEVICES, python, run_attempts

LOOK = """
import json, os
text = open("/proc/self/status").read()
status = dict(line.split(":", 1) for line in text.splitlines())
print(json.dumps({
    "caps": int(status["CapEff"], 16) | int(status["CapBnd"], 16),
    "seccomp": int(status["Seccomp"]),
    "interfaces": [line.split(":")[0].strip() for line in open("/proc/net/dev").read().splitlines()[2:]],
    "seen": sorted(os.listdir(os.path.dirname(os.sys.argv[1]))),
    "processes": sum(name.isdigit() for name in os.listdir("/proc")),
    "kept": open(os.sys.argv[1]).read(),
}))
"""


@pytest.fixture(scope="module")
def allowed() -> None:
    done = subprocess.run(
        [*python("namespaces.py"), json.dumps({"bare": True, "command": ["true"]})], capture_output=True
    )
    if done.returncode:
        pytest.skip(f"no namespace can be made here: {done.stderr.decode().strip()}")


def space(*keep: str) -> dict[str, object]:
    folders = [sys.prefix, sys.base_prefix, str(CODE), *DEVICES, *keep]
    return {"hidden": ["/tmp", "/run", "/home", "/root", "/var", "/dev"], "keep": folders}


@pytest.mark.usefixtures("allowed")
def test_what_is_left(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "other").write_text("hidden")
    told = {**space(str(tmp_path / "kept")), "command": [sys.executable, "-c", LOOK, str(tmp_path / "kept")]}
    if not str(tmp_path).startswith("/tmp/"):
        told["hidden"] = [*told["hidden"], str(tmp_path)]  # pyright: ignore[reportGeneralTypeIssues]
    done = subprocess.run([*python("namespaces.py"), json.dumps(told)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == {
        "caps": 0,
        "seccomp": 2,
        "interfaces": ["lo"],
        "seen": ["kept"],
        "processes": 2,
        "kept": "kept",
    }


@pytest.mark.usefixtures("allowed")
def test_nothing_gets_out_that_could_outside(tmp_path: Path) -> None:
    with controls.listening([str(tmp_path)]) as own:
        wanted = [
            {"kind": "tcp", "address": "127.0.0.1", "port": own.tcp},
            {"kind": "udp", "address": "127.0.0.1", "port": own.udp},
            {"kind": "unix", "path": own.abstract},
            {"kind": "unix", "path": own.paths[0]},
            {"kind": "elsewhere", "path": own.paths[0]},
        ]
        assert all(one["reached"] for one in run_attempts(wanted))
        inside = run_attempts(wanted, **{**space(), "hidden": [*space()["hidden"], str(tmp_path)]})  # pyright: ignore
        assert not any(one["reached"] for one in inside)
        bare = run_attempts(wanted, bare=True)
        assert [one["reached"] for one in bare] == [False, False, False, True, True], "of the network alone"


@pytest.mark.usefixtures("allowed")
def test_rights_are_taken_away() -> None:
    """What goes well with all rights in a namespace, and so would inside, were they left."""
    packets = {"kind": "family", "number": int(socket.AF_PACKET), "type": int(socket.SOCK_RAW)}
    wanted = [
        packets,
        {"kind": "icmp", "address": "127.0.0.1", "raw": True},
        {"kind": "io_uring"},
        {"kind": "interface"},
    ]
    assert all(one["reached"] for one in run_attempts(wanted[:2], bare=True))
    assert not any(one["reached"] for one in run_attempts(wanted, **space()))


def test_how_it_ends_is_told() -> None:
    done = subprocess.run(
        [*python("namespaces.py"), json.dumps({"join": 2**22 + 1, "command": ["true"]})], capture_output=True, text=True
    )
    assert done.returncode == 1 and done.stderr.startswith("error: no namespaces can be made here")


def test_an_unknown_processor_is_refused() -> None:
    with pytest.raises(OSError, match="pdp11"):
        namespaces.filter_lines("pdp11")


def test_what_is_kept_is_kept_once(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    paths = [str(tmp_path / "a" / "b"), str(tmp_path / "a"), str(tmp_path / "none")]
    assert list(namespaces.outermost(paths)) == [str(tmp_path / "a")]
    assert namespaces.is_below("/run/x", ["/run"]) and not namespaces.is_below("/runner", ["/run"])
