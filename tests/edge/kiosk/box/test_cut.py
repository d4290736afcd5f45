"""An install or a rollback that is cut at any of its changes: what is current is whole, and the next install heals."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.kiosk.box.install import Ways, install
from edge.kiosk.box.layout import Layout, leftovers
from edge.kiosk.box.rollback import roll_back
from edge.kiosk.box.status import read_status
from tests.edge.kiosk.box.boxes import MARK, Maker, nothing, version_of
from tests.edge.kiosk.box.conftest import Installer
from tests.edge.kiosk.box.cutting import cut

STRIDE = 29  # tests/kiosk/ goes by ones


def silent(text: str) -> None:
    pass


def put_into(layout: Layout, box: Path) -> None:
    install(box, layout, Ways(MARK), silent, nothing)


def cut_everywhere(start: Layout, act: Callable[[], object], check: Callable[[], None], stride: int) -> int:
    """Each time from ``start``, which is laid back, hard links and all. Returns how many changes there are."""
    kept = start.root.with_name("kept")
    subprocess.run(["cp", "-a", start.root, kept], check=True)
    for after in itertools.count(0, stride):
        was_cut = cut(act, after)
        check()
        if not was_cut:
            return after
        shutil.rmtree(start.root)
        subprocess.run(["cp", "-a", kept, start.root], check=True)
    raise AssertionError


def cut_an_update(make_box: Maker, put: Installer, layout: Layout, stride: int) -> None:
    for version in ("0", "1"):
        put(make_box(version, bare=True))
    box = make_box("2", bare=True)
    currents = set()

    def check() -> None:
        current = version_of(layout)  # every file is sound
        currents.add(current)
        assert current in ("1", "2")
        assert version_of(layout, "previous") in ({"0", None} if current == "1" else {"1"})
        read_status(layout, None)
        put(box)
        assert (version_of(layout), version_of(layout, "previous")) == ("2", "1")
        assert leftovers(layout) == set()
        assert all(path.stat().st_nlink > 1 for path in layout.store.iterdir())

    assert cut_everywhere(layout, lambda: put_into(layout, box), check, stride) > 50
    assert currents == {"1", "2"}


def cut_a_first_install(make_box: Maker, put: Installer, layout: Layout, stride: int) -> None:
    box = make_box("1", bare=True)
    layout.root.mkdir()

    def check() -> None:
        assert version_of(layout) in (None, "1")
        put(box)
        assert (version_of(layout), version_of(layout, "previous")) == ("1", None)
        assert leftovers(layout) == set()

    assert cut_everywhere(layout, lambda: put_into(layout, box), check, stride) > 50


def cut_a_rollback(make_box: Maker, put: Installer, layout: Layout, stride: int) -> None:
    for version in ("1", "2"):
        put(make_box(version, bare=True))
    third = make_box("3", bare=True)

    def check() -> None:
        current = version_of(layout)
        assert version_of(layout, "previous") in {"2": {"1"}, "1": {"2", None}}[str(current)]
        put(third)
        assert (version_of(layout), version_of(layout, "previous")) == ("3", current)

    cut_everywhere(layout, lambda: roll_back(layout, None, silent), check, stride)


@pytest.mark.parametrize("life", [cut_an_update, cut_a_first_install, cut_a_rollback])
def test_cuts(life: Callable[..., None], make_box: Maker, put: Installer, layout: Layout, untried: None) -> None:
    life(make_box, put, layout, 5 if life is cut_a_rollback else STRIDE)
