"""The bar of a download."""

from __future__ import annotations

from typing import Any

import pytest
from rich.progress import Progress

from edge.cli import fetching
from edge.pull import CHECKING


def test_hashing_what_is_there_does_not_count_as_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resumed pull showed for half a minute the speed at which the disk was read, and an ETA of seconds."""
    bars: list[Progress] = []
    times = iter(range(1000))

    def make(*columns: Any, **kwargs: Any) -> Progress:
        bars.append(Progress(*columns, **{**kwargs, "disable": False}, get_time=lambda: float(next(times))))
        return bars[-1]

    monkeypatch.setattr(fetching, "Progress", make)
    with fetching.download_bar() as update:
        (bar,) = bars
        for done in (100_000_000, 400_000_000, 800_000_000):
            update(CHECKING, done, 1_200_000_000)
        assert bar.tasks[0].speed is not None and bar.tasks[0].speed > 1_000_000
        for done in range(800_000_000, 800_004_000, 1000):
            update("model.safetensors", done, 1_200_000_000)
        (task,) = bar.tasks
        assert task.completed == 800_003_000 and task.description == "model.safetensors"
        assert task.speed is not None and task.speed <= 1000
