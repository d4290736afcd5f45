from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.clients import node
from tests.clients.command import Command, serving
from tests.clients.models import with_tools

Served = Callable[[str], Command]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="session")
def served(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server of a model, which is started when it is first asked for: an embedded one, or NAME-tools."""
    with ExitStack() as stack:
        running: dict[str, Command] = {}

        def get(name: str) -> Command:
            if name not in running:
                plain = name.removesuffix("-tools")
                model = name if plain == name else with_tools(plain, tmp_path_factory.mktemp("checkpoint"))
                running[name] = stack.enter_context(serving(model, home))
            return running[name]

        yield get


@pytest.fixture(scope="session", params=["tiny-qwen", "tiny-glm"])
def server(request: pytest.FixtureRequest, served: Served) -> Command:
    return served(request.param)


@pytest.fixture(scope="session", params=["tiny-qwen-tools", "tiny-glm-tools"])
def caller(request: pytest.FixtureRequest, served: Served) -> Command:
    """A server of a model that can call functions."""
    return served(request.param)


@pytest.fixture
def tiny(served: Served) -> Iterator[Command]:
    """For tests that mistreat it: it has to be well afterwards."""
    server = served("tiny-qwen")
    yield server
    server.check_well()
    server.wait_idle()


@pytest.fixture(scope="session")
def npm() -> Path:
    """The folder with the npm package."""
    return node.install()
