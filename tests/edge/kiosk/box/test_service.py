"""The service is paused for a trial, restarted by units that fit, and given back; with a stand-in for systemctl."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from edge.kiosk.box.errors import BoxError
from edge.kiosk.box.install import Ways, apply
from edge.kiosk.box.layout import Layout
from edge.kiosk.box.rollback import roll_back
from edge.kiosk.box.service import Systemd
from edge.kiosk.box.status import read_status
from edge.kiosk.box.trial import Passed
from tests.edge.kiosk.box.boxes import MARK, Maker, version_of
from tests.edge.kiosk.box.conftest import Installer

# Notes what it is told and which version is current then; starts no version whose name is in the file "broken".
SYSTEMCTL = """#!/bin/sh
version=$(sed -n 's/^__version__ = //p' {root}/current/site/edge/__init__.py 2>/dev/null)
echo "$* $version" >> {folder}/calls
case "$1 $2" in
  "is-active edge-kiosk.service") test -e {folder}/active && echo active || echo inactive ;;
  "stop edge-kiosk.service") rm -f {folder}/active ;;
  "start edge-kiosk.service")
    if grep -qs "$version" {folder}/broken; then echo "Job for edge-kiosk.service failed." >&2; exit 1; fi
    touch {folder}/active ;;
esac
"""


class Machine:
    def __init__(self, folder: Path, root: Path) -> None:
        self.folder = folder
        (folder / "units").mkdir(parents=True)
        script = folder / "systemctl"
        script.write_text(SYSTEMCTL.format(folder=folder, root=root))
        script.chmod(0o755)
        self.systemd = Systemd(folder / "units", (str(script),))

    def calls(self) -> list[str]:
        """Since the last time, without the questions."""
        lines = (self.folder / "calls").read_text().splitlines()
        (self.folder / "calls").unlink()
        return [line.strip() for line in lines if not line.startswith("is-active")]

    def unit(self, name: str = "edge-kiosk.service") -> str:
        return (self.systemd.units / name).read_text()


@pytest.fixture
def machine(tmp_path: Path, layout: Layout, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")  # the service sees no Python below a home
    return Machine(tmp_path / "machine", layout.root)


APPLIED = ["enable edge-kiosk.socket edge-kiosk.service", "stop edge-kiosk.service"]


def test_a_life(make_box: Maker, put: Installer, layout: Layout, machine: Machine, untried: None) -> None:
    ways = Ways(MARK, systemd=machine.systemd)
    put(make_box("1"), ways)
    started = ["restart edge-kiosk.socket '1'", "start edge-kiosk.service '1'"]
    assert machine.calls() == ["daemon-reload '1'", *(f"{call} '1'" for call in APPLIED), *started]
    first = machine.unit()
    assert f"{layout.root}/current/box/launch.py" in first
    put(make_box("2", memory=64 << 20), ways)
    assert machine.calls() == [
        "stop edge-kiosk.service '1'",  # for the trial
        "daemon-reload '2'",
        *(f"{call} '2'" for call in APPLIED),
        "start edge-kiosk.socket '2'",
        "start edge-kiosk.service '2'",
    ]
    assert machine.unit() != first  # another MemoryMax
    assert read_status(layout, machine.systemd).service == "active"
    roll_back(layout, machine.systemd, put.said.append)
    assert machine.calls()[-1] == "start edge-kiosk.service '1'"
    assert machine.unit() == first


def test_where_it_listens_is_kept(
    make_box: Maker, put: Installer, layout: Layout, machine: Machine, untried: None
) -> None:
    put(make_box("1"), Ways(MARK, systemd=machine.systemd, listen="127.0.0.1:9999"))
    put(make_box("2"), Ways(systemd=machine.systemd))
    assert "ListenStream=127.0.0.1:9999\n" in machine.unit("edge-kiosk.socket")
    with pytest.raises(BoxError, match="no address"):
        put(make_box("3"), Ways(systemd=machine.systemd, listen="somewhere"))
    assert version_of(layout) == "2"


def test_keys_and_another_address_are_applied(
    make_box: Maker, put: Installer, layout: Layout, machine: Machine, untried: None
) -> None:
    with pytest.raises(BoxError, match="nothing is installed"):
        apply(layout, machine.systemd, None, put.said.append)
    put(make_box("1"), Ways(MARK, systemd=machine.systemd))
    assert "LoadCredential" not in machine.unit()
    layout.keys.mkdir()
    (layout.keys / "operator-keys").write_text("secret\n")
    (layout.keys / "notes").write_text("no keys\n")
    apply(layout, machine.systemd, "127.0.0.1:9999", put.said.append)
    assert machine.unit().count("LoadCredential=") == 1
    assert "ListenStream=127.0.0.1:9999\n" in machine.unit("edge-kiosk.socket")
    assert put.said[-1] == "it is served at 127.0.0.1:9999"
    with pytest.raises(BoxError, match="no key is asked for"):
        apply(layout, machine.systemd, "192.0.2.7:8080", put.said.append)
    assert (machine.folder / "active").exists()


def test_a_version_that_fails_its_trial_gives_the_service_back(
    make_box: Maker, put: Installer, layout: Layout, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.kiosk.box.trial.try_slot", lambda *arguments: Passed("", 0.0, 0.0))
    put(make_box("1"), Ways(MARK, systemd=machine.systemd))
    machine.calls()

    def fails(*arguments: Any) -> Passed:
        assert not (machine.folder / "active").exists()
        raise BoxError("no good")

    monkeypatch.setattr("edge.kiosk.box.trial.try_slot", fails)
    with pytest.raises(BoxError, match="no good"):
        put(make_box("2"), Ways(systemd=machine.systemd))
    assert machine.calls() == ["stop edge-kiosk.service '1'", "start edge-kiosk.service '1'"]


def test_a_disk_that_fails_at_the_switch_gives_the_service_back(
    make_box: Maker, put: Installer, layout: Layout, machine: Machine, untried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug: the service stayed stopped when the trial was passed and the switch failed."""
    put(make_box("1"), Ways(MARK, systemd=machine.systemd))

    def fails(*arguments: Any, **options: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("edge.kiosk.box.install.switch_to", fails)
    with pytest.raises(BoxError, match="disk is full"):
        put(make_box("2"), Ways(systemd=machine.systemd))
    assert version_of(layout) == "1"
    assert (machine.folder / "active").exists()


@pytest.mark.parametrize("versions", [["1"], ["0", "1"]])
def test_a_version_that_the_service_cannot_run(
    make_box: Maker, put: Installer, layout: Layout, machine: Machine, untried: None, versions: list[str]
) -> None:
    """It passed its trial, and then, as the service's user in its sandbox, does not start: the old one is back."""
    ways = Ways(MARK, systemd=machine.systemd)
    for version in versions:
        put(make_box(version, memory=int(version) + 1 << 20), ways)
    unit = machine.unit()
    (machine.folder / "broken").write_text("'2'")
    with pytest.raises(BoxError, match=r"the old one is back: systemctl start edge-kiosk\.service failed: Job for"):
        put(make_box("2", memory=64 << 20), ways)
    assert version_of(layout) == "1"
    assert version_of(layout, "previous") == ("0" if len(versions) == 2 else None)
    assert machine.unit() == unit
    assert (machine.folder / "active").exists()
    assert "is served again" in layout.log.read_text()


def test_a_first_version_that_the_service_cannot_run(
    make_box: Maker, put: Installer, layout: Layout, machine: Machine, untried: None
) -> None:
    """There is nothing to go back to; the same command goes on from there once the cause is mended."""
    (machine.folder / "broken").write_text("'1'")
    box = make_box("1")
    with pytest.raises(BoxError, match="see: journalctl -u edge-kiosk"):
        put(box, Ways(MARK, systemd=machine.systemd))
    (machine.folder / "broken").unlink()
    put(box, Ways(systemd=machine.systemd))
    assert read_status(layout, machine.systemd).service == "active"


def test_a_rollback_to_what_does_not_start(
    make_box: Maker, put: Installer, layout: Layout, machine: Machine, untried: None
) -> None:
    """The bug: it was left to restart for ever."""
    ways = Ways(MARK, systemd=machine.systemd)
    for version in ("1", "2"):
        put(make_box(version), ways)
    (machine.folder / "broken").write_text("'1'")
    with pytest.raises(BoxError, match=r"slot b is served again: systemctl start"):
        roll_back(layout, machine.systemd, put.said.append)
    assert (version_of(layout), version_of(layout, "previous")) == ("2", "1")
    assert (machine.folder / "active").exists()


def test_the_gate_is_closed_for_the_trial_alone(
    make_box: Maker, put: Installer, layout: Layout, machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug: whoever asked at the socket during a trial started the old version beside the new one."""

    def waits() -> bool:
        return subprocess.run(["flock", "--shared", "--nonblock", layout.gate, "true"]).returncode == 1

    closed = []

    def tried(*arguments: Any) -> Passed:
        closed.append(waits())
        return Passed("", 0.0, 0.0)

    monkeypatch.setattr("edge.kiosk.box.trial.try_slot", tried)
    put(make_box("1"), Ways(MARK, systemd=machine.systemd))
    assert closed == [True] and not waits()
    assert str(layout.gate) in machine.unit()
    assert layout.gate.stat().st_mode & 0o777 == 0o600, "nobody else can hold it"


def test_no_systemctl(tmp_path: Path) -> None:
    with pytest.raises(BoxError, match=r"systemctl stop edge-kiosk\.service failed"):
        Systemd(tmp_path, (str(tmp_path / "none"),)).stop()


def test_status_is_json(layout: Layout, machine: Machine) -> None:
    assert json.loads(json.dumps(read_status(layout, machine.systemd).as_json()))["service"] == "absent"
