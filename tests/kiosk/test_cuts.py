"""Installs, updates and rollbacks are cut at every single change that they make to the disk."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edge.kiosk.box.layout import Layout
from tests.edge.kiosk.box.boxes import Maker
from tests.edge.kiosk.box.conftest import Installer, layout, make_box, put, untried  # noqa: F401 - fixtures
from tests.edge.kiosk.box.test_cut import cut_a_first_install, cut_a_rollback, cut_an_update


@pytest.mark.parametrize("life", [cut_an_update, cut_a_first_install, cut_a_rollback])
@pytest.mark.usefixtures("untried")
def test_every_cut(
    life: Callable[..., None],
    make_box: Maker,  # noqa: F811
    put: Installer,  # noqa: F811
    layout: Layout,  # noqa: F811
) -> None:
    life(make_box, put, layout, 1)
