"""Small checkpoints of all families, built once."""

from __future__ import annotations

import pytest

from convert.checkpoint import open_checkpoint
from tests.convert.small import Small, Unreadable, build_small


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Small:
    """Name of tests.convert.small.CASES -> the checkpoint, of which no weight can be read."""
    made: dict[str, Unreadable] = {}

    def checkpoint(name: str) -> Unreadable:
        if name not in made:
            with open_checkpoint(build_small(tmp_path_factory.mktemp(name) / name, name)) as found:
                made[name] = Unreadable(found.folder, found.config, found.tensors)
        return made[name]

    return checkpoint
