from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.llama.context import Context
from edge.llama.model import Model
from tests.edge import tiny_gguf


@pytest.fixture(scope="session")
def tiny_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gguf.write(tmp_path_factory.mktemp("llama") / "tiny.gguf")


@pytest.fixture(scope="module")
def model(tiny_path: Path) -> Iterator[Model]:
    with Model(tiny_path) as model:
        yield model


@pytest.fixture
def context(model: Model) -> Iterator[Context]:
    with Context(model, 256, threads=1) as context:
        yield context
