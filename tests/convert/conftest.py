"""Small checkpoints of all families, built once."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from convert.checkpoint import Checkpoint, open_checkpoint
from tests.convert.small import build_small


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory):
    """Name of tests.convert.small.CASES -> the open checkpoint, whose weights cannot be read."""
    made: dict[str, Checkpoint] = {}

    def unreadable(*_: object) -> None:
        raise AssertionError("a weight was read")

    with ExitStack() as stack:

        def checkpoint(name: str) -> Checkpoint:
            if name not in made:
                folder = build_small(tmp_path_factory.mktemp(name) / name, name)
                made[name] = stack.enter_context(open_checkpoint(folder))
                made[name].read_into = unreadable  # type: ignore[method-assign]
            return made[name]

        yield checkpoint


Small = Callable[[str], Checkpoint]
