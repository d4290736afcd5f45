"""The real checkpoint, for the tests that need one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real import fetch


@pytest.fixture(scope="session")
def real_checkpoint() -> Path:
    return fetch.real_checkpoint()
