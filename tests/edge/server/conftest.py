from __future__ import annotations

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from convert.pipeline import convert
from tests.edge.server import saying
from tests.edge.server.running import Served, running

if TYPE_CHECKING:
    from openai import OpenAI

NAMES = ("tiny-qwen", "tiny-glm")


@pytest.fixture(scope="session")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both tiny models at Q8_0, and the one that says what it is told."""
    folder = tmp_path_factory.mktemp("served")
    paths = {name: folder / f"{name}-Q8_0.gguf" for name in NAMES}
    for name, path in paths.items():
        convert(Path(str(files("edge.models") / name)), {"Q8_0": path})
    return {**paths, "speaker": saying.speaker(folder / "speaker.gguf")}


@pytest.fixture(scope="module", params=NAMES)
def served(request: pytest.FixtureRequest, gguf: dict[str, Path]) -> Iterator[Served]:
    """A server of each tiny model, for the tests of a file."""
    with running(gguf[request.param]) as one:
        yield one


@pytest.fixture
def client(served: Served) -> Iterator[httpx.Client]:
    with served.client() as one:
        yield one


@pytest.fixture
def sdk(served: Served) -> Iterator[OpenAI]:
    with served.sdk() as one:
        yield one


@pytest.fixture(scope="module")
def speaker(gguf: dict[str, Path]) -> Iterator[Served]:
    """A server of a model that says what it is told, thinks and calls, for the tests of a file."""
    with running(gguf["speaker"]) as one:
        yield one


@pytest.fixture
def told(speaker: Served) -> Iterator[httpx.Client]:
    """A client of the speaker."""
    with speaker.client() as one:
        yield one


@pytest.fixture
def told_sdk(speaker: Served) -> Iterator[OpenAI]:
    with speaker.sdk() as one:
        yield one
