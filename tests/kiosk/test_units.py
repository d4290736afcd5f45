"""The units as systemd's own checks see them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from edge.kiosk.box.units import units
from tests.edge.kiosk.box.test_units import MANIFEST, ROOT

MOST_EXPOSED = 0.5  # of 10
STAND_IN = "/bin/sh"  # for Python: systemd-analyze wants a program that is there
ODD = '/opt/edge "50%h" $HOME \\kiosk'


@pytest.fixture(scope="module")
def analyze() -> str:
    """systemd-analyze, which is fetched where that is possible."""
    if shutil.which("systemd-analyze") is None and shutil.which("apt-get") and os.geteuid() == 0:
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "check": False}
        environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
        subprocess.run(["apt-get", "update"], env=environment, **quiet)
        subprocess.run(["apt-get", "install", "-y", "--no-install-recommends", "systemd"], env=environment, **quiet)
    path = shutil.which("systemd-analyze")
    if path is None:
        pytest.skip("there is no systemd-analyze here, and apt-get could not get it")
    return path


def written(folder: Path, root: str, listen: str = "127.0.0.1:8080") -> list[str]:
    texts = units(root, MANIFEST, listen, python=STAND_IN)
    for name, text in texts.items():
        (folder / name).write_text(text)
    return [str(folder / name) for name in texts]


@pytest.mark.parametrize("listen", ["127.0.0.1:8080", "[::1]:8080", "/run/edge kiosk.sock"])
@pytest.mark.parametrize("root", [ROOT, ODD, "/home/kiosk/a:b"])
def test_nothing_to_complain_of(analyze: str, tmp_path: Path, root: str, listen: str) -> None:
    done = subprocess.run([analyze, "verify", *written(tmp_path, root, listen)], capture_output=True, text=True)
    complaints = [line for line in done.stderr.splitlines() if str(tmp_path) in line or "edge-kiosk" in line]
    assert done.returncode == 0 and not complaints, done.stderr


def test_a_mistake_is_found(analyze: str, tmp_path: Path) -> None:
    """Else the test above proves nothing."""
    service, _ = written(tmp_path, ROOT)
    Path(service).write_text(Path(service).read_text().replace("WatchdogSec=30", "WatchdogSec=thirty"))
    done = subprocess.run([analyze, "verify", service], capture_output=True, text=True)
    assert "Failed to parse" in done.stderr and "thirty" in done.stderr


def test_exposure(analyze: str, tmp_path: Path) -> None:
    service, _ = written(tmp_path, ROOT)
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", service], capture_output=True, text=True, check=True
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+) (\w+)", done.stdout)
    assert found is not None, done.stdout
    print(f"\nsystemd-analyze security: {found[1]} of 10, {found[2]}")
    assert float(found[1]) <= MOST_EXPOSED, done.stdout
