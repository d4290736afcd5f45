"""``edge kiosk`` and ``edge rollback``: what scripts read, and failures in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.cli.main import cli
from tests.edge.kiosk.box.boxes import MARK, Maker
from tests.edge.kiosk.box.conftest import pass_at_once


@pytest.fixture
def make_box(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Maker:
    pass_at_once(monkeypatch)
    monkeypatch.setattr("edge.kiosk.box.service.find", lambda: None)
    monkeypatch.setenv("EDGE_KIOSK_ROOT", str(tmp_path / "root"))
    (tmp_path / "packing").mkdir()
    return Maker(tmp_path / "packing")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, list(arguments))


def test_a_life(make_box: Maker, tmp_path: Path) -> None:
    assert json.loads(run("kiosk", "status", "--json").stdout)["current"] is None
    done = run("kiosk", "install", str(make_box("1")), "--key", MARK)
    assert done.exit_code == 0, done.output
    assert "switched to slot a: tiny Q4_K_M" in done.stdout
    done = run("kiosk", "install", str(make_box("2")), "--json")
    assert json.loads(done.stdout)["previous"]["version"] == "1"
    assert "switched to slot b" in done.stderr
    text = run("kiosk", "status").stdout
    assert "current:  tiny Q4_K_M, edge 2" in text
    assert f"trusted:  {MARK}" in text
    assert run("kiosk", "verify").stdout.endswith("every file is as it was signed\n")
    assert json.loads(run("rollback", "--json").stdout)["current"]["version"] == "1"
    assert "rolled back to slot b" in run("rollback").stdout

    (tmp_path / "root" / "slots" / "b" / "site" / "empty.py").unlink()
    done = run("kiosk", "verify", "--json")
    assert json.loads(done.stdout)["faults"] == ["site/empty.py is missing, or has another size"]
    assert (done.exit_code, done.stderr.count("\n")) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["rollback"], "error: nothing is installed in"),
        (["kiosk", "verify"], "error: nothing is installed in"),
        (["prove-offline"], "error: nothing is installed in"),
        (["kiosk", "install", "BOX"], "error: no key is trusted here yet; this box says"),
    ],
)
def test_what_fails_is_one_line(make_box: Maker, arguments: list[str], words: str) -> None:
    box = str(make_box())
    done = run(*(box if argument == "BOX" else argument for argument in arguments))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith(words)
    assert done.stderr.count("\n") == 1
