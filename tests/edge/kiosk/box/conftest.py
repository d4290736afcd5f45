from __future__ import annotations

from pathlib import Path

import pytest

from edge.kiosk.box.install import Ways, install
from edge.kiosk.box.layout import Layout
from edge.kiosk.box.manifest import Manifest
from edge.kiosk.box.trial import Passed
from tests.edge.kiosk.box.boxes import MARK, Maker, nothing


@pytest.fixture
def make_box(tmp_path: Path) -> Maker:
    (tmp_path / "packing").mkdir()
    return Maker(tmp_path / "packing")


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(tmp_path / "root")


def pass_at_once(patch: pytest.MonkeyPatch) -> None:
    patch.setattr("edge.kiosk.box.trial.try_slot", lambda *arguments: Passed("", 0.0, 0.0))


@pytest.fixture
def untried(monkeypatch: pytest.MonkeyPatch) -> None:
    """New slots pass at once: for tests of what comes before and after."""
    pass_at_once(monkeypatch)


class Installer:
    """Installs without a service; keeps what was said."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.said: list[str] = []

    def __call__(self, box: Path, ways: Ways = Ways(MARK)) -> Manifest:  # noqa: B008 - is frozen
        return install(box, self.layout, ways, self.said.append, nothing)


@pytest.fixture
def put(layout: Layout) -> Installer:
    return Installer(layout)
