"""``edge prove-offline``: the installed service by its own unit, where a real systemd runs, and a model without one."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge.kiosk.box.units import SERVICE, SOCKET
from edge.kiosk.pack import Packed
from edge.kiosk.proof.sandbox import PROOF, VOLATILE
from tests.kiosk.booted import Booted, booted, missing

ROOT, PYTHON, BOX = "/opt/edge-kiosk", "/opt/edge-python", "/opt/edge-box"
ENVIRONMENT = f"[Service]\nEnvironment=LD_LIBRARY_PATH={PYTHON}/lib\n"


@pytest.fixture(scope="module")
def systemd(tmp_path_factory: pytest.TempPathFactory, box: Packed) -> Iterator[Booted]:
    """With the box installed, and its service running."""
    if why := missing():
        pytest.skip(f"no systemd can be booted here: {why}")
    folder = tmp_path_factory.mktemp("proving")
    (place := folder / "place").mkdir()
    drop_ins = folder / "files" / "etc" / "systemd" / "system" / f"{SERVICE}.d"
    drop_ins.mkdir(parents=True)
    (drop_ins / "python.conf").write_text(ENVIRONMENT)
    python = f"{PYTHON}/bin/python{sys.version_info.major}.{sys.version_info.minor}"
    with booted(place, folder / "files", {sys.base_prefix: PYTHON, str(box.box.parent): BOX}) as one:
        one.run("ip", "link", "set", "lo", "up")
        install = [f"{BOX}/{box.box.name}", "install", "--key", box.fingerprint, "--root", ROOT, "--min-speed", "0"]
        one.run("env", f"LD_LIBRARY_PATH={PYTHON}/lib", python, *install)
        yield one


def prove(systemd: Booted, code: int = 0) -> dict[str, Any]:
    """The proof as JSON; the report lies in /root/report.md."""
    command = (
        f"{ROOT}/edge prove-offline --json -o /root/report.md >/root/proof.json 2>/root/said; test $? = {code} || "
    )
    systemd.run("sh", "-c", f"export LD_LIBRARY_PATH={PYTHON}/lib; {command} {{ cat /root/said; exit 9; }}")
    return json.loads(systemd.run("cat", "/root/proof.json"))


def test_the_service_by_its_own_unit(systemd: Booted) -> None:
    """The one that runs goes on meanwhile; nothing is left of the other."""
    before = systemd.show(SERVICE, "MainPID", "NRestarts", "ActiveState")
    proof = prove(systemd)
    report = systemd.run("cat", "/root/report.md")
    assert proof["proven"] and proof["way"] == "systemd" and report.startswith("# The service reaches no network")
    assert {row["verdict"] for row in proof["rows"]} <= {"refused", "nothing is there", "allowed"}
    assert [row["what"] for row in proof["rows"] if row["verdict"] == "allowed"] == ["/run/systemd/notify"]
    assert proof["properties"]["PrivateNetwork"] == "yes" and proof["answer"]["tokens"]
    there = {row["what"] for row in proof["rows"] if row["outside"] == "is there"}
    assert any("systemd/private" in what for what in there), "sockets that are there are tried"
    assert before == systemd.show(SERVICE, "MainPID", "NRestarts", "ActiveState")
    assert PROOF not in systemd.run("ls", str(VOLATILE), "/run", "/var/lib", "/var/lib/private", check=False)
    assert systemd.run("systemctl", "is-active", SOCKET).strip() == "active"


@pytest.mark.parametrize(
    "hole, says",
    (
        ("PrivateNetwork=no", "the service is in the net namespace of the machine"),
        ("TemporaryFileSystem=", "got through"),
        ("RestrictAddressFamilies=AF_UNIX AF_NETLINK AF_INET\nPrivateNetwork=no\nIPAddressDeny=", "got through"),
    ),
    ids=("network", "sockets", "families"),
)
def test_an_administrators_hole_is_found(systemd: Booted, hole: str, says: str) -> None:
    """A drop-in that opens the sandbox opens that of the proof, too."""
    path = f"/etc/systemd/system/{SERVICE}.d/hole.conf"
    systemd.run("sh", "-c", 'printf "%s\\n" "[Service]" "$1" > "$2"; systemctl daemon-reload', "sh", hole, path)
    try:
        proof = prove(systemd, code=1)
    finally:
        systemd.run("sh", "-c", f"rm {path}; systemctl daemon-reload")
    assert not proof["proven"] and any(says in fault for fault in proof["faults"]), proof["faults"]


def test_a_model_alone(gguf: Path, tmp_path: Path) -> None:
    """Nothing is installed, and systemd is not used, which the report says. A proxy of the environment is tried."""
    out = tmp_path / "report.md"
    command = [sys.executable, "-m", "edge", "prove-offline", str(gguf), "--no-service", "-o", str(out), "--json"]
    environment = {"PATH": "/usr/bin:/bin", "https_proxy": "http://127.0.0.1:9/"}
    done = subprocess.run(command, cwd=Path(__file__).parents[2], env=environment, capture_output=True, text=True)
    if "no namespaces can be made here" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    proof = json.loads(done.stdout)
    assert proof["proven"] and proof["way"] == "namespaces" and proof["answer"]["tokens"]
    assert "the environment's proxy, 127.0.0.1:9" in {row["what"] for row in proof["rows"]}
    assert "The sandbox was not that of systemd." in out.read_text()
    assert [line for line in done.stderr.splitlines() if line.startswith("proven: ")]
