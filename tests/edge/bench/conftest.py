from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path

import pytest

from convert.pipeline import convert
from tests.checkpoints import build

LEVELS = ("Q8_0", "Q4_0")
Hybrid = Callable[[str], Path]


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    """tiny-qwen: level -> file."""
    folder = tmp_path_factory.mktemp("bench")
    paths = {level: folder / f"tiny-qwen-{level}.gguf" for level in LEVELS}
    convert(Path(str(files("edge.models") / "tiny-qwen")), paths)
    return paths


@pytest.fixture(scope="session")
def tiny_glm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bench") / "tiny-glm-Q8_0.gguf"
    convert(Path(str(files("edge.models") / "tiny-glm")), {"Q8_0": path})
    return path


@pytest.fixture(scope="session")
def hybrid(tmp_path_factory: pytest.TempPathFactory) -> Hybrid:
    """A small model of a family whose layers of linear attention keep only their last state."""
    folder = tmp_path_factory.mktemp("hybrid")

    def make(family: str) -> Path:
        path = folder / f"{family}.gguf"
        if not path.exists():
            convert(build(folder / family, family=family), {"F32": path}, threads=1)
        return path

    return make
