from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from edge import store
from edge.llama.kernels import Shape
from tests.edge import tiny_gguf
from tests.edge.plan.sample import RATES

Asked = list[tuple[list[tuple[Shape, int]], int, int]]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The models folder, not made yet; the lock is the shipped one."""
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("EDGE_LOCK", raising=False)
    return tmp_path / "home" / "models"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Asked:
    """What was to be measured: matrices, threads, threads of prompts; the answer is made up."""
    calls: Asked = []

    def measure(
        matrices: Iterable[tuple[Shape, int]],
        threads: int,
        threads_batch: int,
        on_progress: Callable[[int, int], None] = lambda done, of: None,
    ) -> Any:
        calls.append((list(matrices), threads, threads_batch))
        on_progress(0, 1)
        return RATES

    monkeypatch.setattr("edge.plan.make.measure_rates", measure)
    return calls


def stored(models: Path, name: str, level: str, **metadata: Any) -> Path:
    """A file of the store that calls itself so; what is in it is the same small model each time."""
    path = store.file_path(models, name, level)
    path.parent.mkdir(parents=True, exist_ok=True)
    return tiny_gguf.write(path, {key.replace("__", "."): value for key, value in metadata.items()})
