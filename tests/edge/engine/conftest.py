from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib.resources import files
from pathlib import Path

import pytest

from convert.pipeline import convert
from edge.llama.model import Model

LEVELS = ("BF16", "Q8_0", "Q4_0")
Load = Callable[[str, str], Model]


@pytest.fixture(scope="session")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Load]:
    """The embedded model NAME at LEVEL; each is converted and loaded once."""
    folder = tmp_path_factory.mktemp("engine")
    models: dict[tuple[str, str], Model] = {}

    def load(name: str, level: str) -> Model:
        if (name, level) not in models:
            paths = {one: folder / f"{name}-{one}.gguf" for one in LEVELS}
            if not paths[level].exists():
                convert(Path(str(files("edge.models") / name)), paths)
            models[name, level] = Model(paths[level])
        return models[name, level]

    yield load
    for model in models.values():
        model.close()


@pytest.fixture(scope="session")
def model(load: Load) -> Model:
    return load("tiny-qwen", "Q8_0")
