"""A socket that a service manager bound: what is taken for one, and that the server is then called by its address."""

from __future__ import annotations

import os
import socket
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from edge.api import Engine
from edge.server import activation
from edge.server.config import Config, ConfigError, check_reach
from tests.edge.server.running import HELLO, ask, running

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a service manager of its own kind")

CONFIG = Config(port=0)


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for sockets, whose paths are at most some hundred characters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Listens, and lies where a manager puts it: not at 3, where pytest has files of its own."""
    with socket.create_server(("127.0.0.1", 0)) as one:
        hand_over(one, monkeypatch)
        yield one


def hand_over(one: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(activation, "FIRST", os.dup(one.fileno()))


def environment(**more: str) -> dict[str, str]:
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "kiosk", "HOME": "/", **more}


@pytest.mark.parametrize("given", [{}, {"LISTEN_FDS": "1"}, environment(LISTEN_PID="1"), environment(LISTEN_PID="")])
def test_nothing_for_this_process(given: dict[str, str]) -> None:
    """A socket for a parent was not for us."""
    given = dict(given)
    assert activation.adopt(CONFIG, given) is CONFIG
    assert not any(name.startswith("LISTEN_") for name in given)


def test_the_address_is_the_sockets(passed: socket.socket) -> None:
    given = environment()
    config = activation.adopt(Config(socket=Path("/else")), given)
    assert (config.host, config.port, config.socket) == (*passed.getsockname(), None)
    assert config.passed is not None and not config.passed.get_inheritable()
    assert given == {"HOME": "/"}, "no child takes it for its own"
    config.passed.close()


@pytest.mark.parametrize("count", ["0", "2", "", "-1", "one"])
def test_another_number_than_one(passed: socket.socket, count: str) -> None:
    with pytest.raises(ConfigError, match="listens on one"):
        activation.adopt(CONFIG, environment(LISTEN_FDS=count))


def test_what_is_no_socket_for_a_server(short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(handle: int, why: str) -> None:
        monkeypatch.setattr(activation, "FIRST", handle)
        with pytest.raises(ConfigError, match=why):
            activation.adopt(CONFIG, environment())

    reading, writing = os.pipe()
    refused(reading, "no socket")
    os.close(reading)
    os.close(writing)
    refused(reading, "there is none")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        refused(os.dup(datagrams.fileno()), "no connections")
    with socket.socket() as deaf:
        refused(os.dup(deaf.fileno()), "no connections")


def test_one_for_everybody_needs_a_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever bound it: others could ask there."""
    with socket.create_server(("0.0.0.0", 0)) as one:
        hand_over(one, monkeypatch)
        config = activation.adopt(CONFIG, environment())
        with pytest.raises(ConfigError, match=r"0\.0\.0\.0 can be reached"):
            check_reach(config, without_key=False)
        check_reach(config, without_key=True)
        assert config.passed is not None
        config.passed.close()


def test_served_over_tcp(passed: socket.socket, gguf: dict[str, Path]) -> None:
    config = activation.adopt(CONFIG, environment())
    with running(gguf["tiny-qwen"], config) as served, served.client() as client:
        assert served.url == f"http://127.0.0.1:{passed.getsockname()[1]}"
        assert ask(client, {"messages": HELLO, "max_tokens": 2})["choices"]
        assert client.get("/health", headers={"Host": "localhost"}).status_code == 200
        assert client.get("/health", headers={"Host": "evil.example"}).status_code == 403


def test_who_asks_while_it_loads_waits(passed: socket.socket, gguf: dict[str, Path]) -> None:
    """At a passed socket nobody is told 503 by a service that restarts."""
    config, loads = activation.adopt(CONFIG, environment()), threading.Event()

    def load() -> Engine:
        loads.wait(10)
        return Engine(gguf["tiny-qwen"], ctx=256)

    with ThreadPoolExecutor(1) as pool:
        url = f"http://127.0.0.1:{passed.getsockname()[1]}"
        asked = pool.submit(httpx.get, f"{url}/health", trust_env=False, timeout=60)
        threading.Timer(0.5, loads.set).start()
        with running(gguf["tiny-qwen"], config, load=load):
            assert asked.result().status_code == 200


def test_served_on_a_path(gguf: dict[str, Path], short: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The path is the manager's: it was removed at the end, and nobody could ask the next process."""
    path = short / "edge.sock"
    with socket.socket(socket.AF_UNIX) as one:
        one.bind(str(path))
        one.listen()
        hand_over(one, monkeypatch)
        config = activation.adopt(CONFIG, environment())
        assert config.socket == path
        check_reach(config, without_key=False)
        with running(gguf["tiny-qwen"], config) as served, served.client() as client:
            assert ask(client, {"messages": HELLO, "max_tokens": 2})["choices"]
        assert path.exists()


@pytest.mark.parametrize(("name", "path"), [("/run/x", "/run/x"), (b"\0edge", "@edge"), ("\0edge", "@edge"), ("", ".")])
def test_names_of_unix_sockets(name: str | bytes, path: str) -> None:
    assert activation.path_of(name) == Path(path)
