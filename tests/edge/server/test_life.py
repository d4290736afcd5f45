"""From binding to the end: loading, failing to load, signals, sockets."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
from click.testing import CliRunner

from edge.api import Engine
from edge.cli.main import cli
from edge.llama.model import ModelError
from edge.server.config import Config, ConfigError
from edge.server.run import listen, serve
from edge.server.serving import Serving
from tests.edge.server.running import (
    CHAT,
    HELLO,
    PATIENCE,
    TEXT,
    ask,
    error_of,
    events,
    joined,
    running,
    samples,
    until,
)

posix = pytest.mark.skipif(os.name == "nt", reason="no such signals, no Unix sockets")


# --- loading


def test_29_while_the_model_loads(gguf: dict[str, Path]) -> None:
    go = threading.Event()

    def load() -> Engine:
        assert go.wait(PATIENCE)
        return Engine(gguf["tiny-qwen"])

    with running(gguf["tiny-qwen"], load=load) as served, served.client() as client, served.sdk() as sdk:
        for path, body in ((CHAT, {"messages": HELLO}), (TEXT, {"prompt": "x"}), ("/tokenize", {"content": "x"})):
            answer = client.post(path, json=body)
            error = error_of(answer, 503)
            assert error["code"] == "model_loading" and int(answer.headers["retry-after"]) >= 1
        error_of(client.get("/health"), 503)
        with pytest.raises(openai.InternalServerError):
            sdk.embeddings.create(model="x", input="x")
        (model,) = client.get("/v1/models").json()["data"]
        assert model["id"] == "tiny-qwen-Q8_0" and model["status"] == "loading", "32: it answers while a model loads"
        assert client.get("/page/settings.json").json()["ready"] is False
        assert samples(client.get("/metrics").text)["edge_ready"] == 0
        go.set()
        until(lambda: client.get("/health").status_code == 200)
        (loaded,) = client.get("/v1/models").json()["data"]
        assert loaded["id"] == model["id"] and loaded["created"] == model["created"] and loaded["status"] == "ready"
        assert ask(client, {"messages": HELLO, "max_tokens": 2})["choices"]


def test_a_server_may_end_while_it_loads(gguf: dict[str, Path]) -> None:
    go = threading.Event()

    def load() -> Engine:
        assert go.wait(PATIENCE)
        return Engine(gguf["tiny-qwen"])

    with running(gguf["tiny-qwen"], load=load) as served:
        threading.Timer(0.2, go.set).start()
    with pytest.raises(Exception, match="closed"):
        served.engine.generate(["x"])


def failing() -> Any:
    raise ModelError("the file is no model", "convert it again")


def test_a_model_that_cannot_be_loaded_ends_the_server() -> None:
    told: list[str] = []
    serving = Serving("x", "", 1, Config(port=0), failing, told.append)
    with pytest.raises(ModelError, match="no model"):
        serve(serving, told.append)
    assert len(told) == 1 and told[0].startswith("http://127.0.0.1:")


def test_the_command_says_so_in_one_line(tmp_path: Path) -> None:
    (broken := tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(100))
    done = CliRunner().invoke(cli, ["serve", str(broken), "--port", "0", "--quiet"])
    assert done.exit_code == 1 and done.stdout == ""
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1


# --- where it listens


def test_a_port_in_use(gguf: dict[str, Path]) -> None:
    with listen(Config(port=0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1:{port}.*give another --port"):
            listen(Config(port=port))
        done = CliRunner().invoke(cli, ["serve", str(gguf["tiny-qwen"]), "--port", str(port)])
        assert done.exit_code == 1 and done.stderr.startswith("error: cannot listen") and done.stderr.count("\n") == 1


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for sockets, whose paths are at most some hundred characters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@posix
def test_a_unix_socket(gguf: dict[str, Path], short: Path) -> None:
    path = short / "edge.sock"
    with running(gguf["tiny-qwen"], Config(socket=path)) as served, served.client() as client:
        assert stat.S_IMODE(path.stat().st_mode) == 0o660 and served.url == f"unix:{path}"
        assert ask(client, {"messages": HELLO, "max_tokens": 2})["choices"]
        assert error_of(client.get("/", headers={"Host": "evil.example"}), 403)
        with pytest.raises(ConfigError, match="another server uses"):
            listen(Config(socket=path))
        assert client.get("/health").status_code == 200, "which is not disturbed"


@posix
def test_a_socket_that_nobody_serves_is_replaced(short: Path) -> None:
    path = short / "edge.sock"
    listen(Config(socket=path)).close()
    assert path.exists()
    with listen(Config(socket=path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


@posix
def test_a_file_is_not_replaced(short: Path) -> None:
    (path := short / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="cannot listen"):
        listen(Config(socket=path))
    assert path.read_text() == "mine"
    with pytest.raises(ConfigError, match="cannot listen"):
        listen(Config(socket=short / "no" / "folder.sock"))


@posix
def test_a_socket_is_gone_with_its_server(short: Path) -> None:
    path = short / "edge.sock"
    with pytest.raises(ModelError):
        serve(Serving("x", "", 1, Config(socket=path), failing, lambda text: None), lambda address: None)
    assert not path.exists()


# --- signals


@contextmanager
def process(*arguments: object, module: str = "edge") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The command, and the address that it tells."""
    command = [sys.executable, "-m", module, "serve", *map(str, arguments), "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, encoding="utf-8") as child:
        try:
            assert child.stderr is not None
            line = child.stderr.readline()
            address = next((word for word in line.split() if word.startswith("http://")), "")
            assert address, line + child.stderr.read()
            yield child, address
        finally:
            child.kill()


@contextmanager
def slow_stream(client: httpx.Client, most: int | None = None) -> Iterator[Iterator[Any]]:
    """A stream that takes a minute, or as many tokens, behind the first one."""
    until(lambda: client.get("/health").status_code == 200)
    with client.stream("POST", CHAT, json={"messages": HELLO, "stream": True, "max_tokens": most}) as answer:
        found = events(answer.iter_lines())
        assert joined([next(found), next(found)])
        yield found


def ended(child: subprocess.Popen[str]) -> tuple[int, str]:
    """The exit code, and what it said meanwhile."""
    assert child.stderr is not None
    said = child.stderr.read()
    return child.wait(PATIENCE), said


@posix
def test_the_first_signal_lets_answers_end(gguf: dict[str, Path]) -> None:
    with (
        process(gguf["speaker"], module="tests.edge.server.braked") as (child, address),
        httpx.Client(base_url=address, timeout=PATIENCE, trust_env=False) as client,
        slow_stream(client, 50) as found,
    ):
        child.send_signal(signal.SIGTERM)
        chunks = list(found)
        assert chunks[-1] == "[DONE]" and chunks[-2]["choices"][0]["finish_reason"] == "length"
        assert joined(chunks[:-1]) == "x" * 49, "all that was wanted"
        assert ended(child) == (0, "")


@posix
def test_nobody_new_comes_in_behind_the_first_signal(gguf: dict[str, Path]) -> None:
    with (
        process(gguf["speaker"], module="tests.edge.server.braked") as (child, address),
        httpx.Client(base_url=address, timeout=PATIENCE, trust_env=False) as client,
        slow_stream(client) as found,
    ):
        child.send_signal(signal.SIGTERM)

        def refused() -> bool:
            try:
                httpx.get(f"{address}/health", trust_env=False)
            except httpx.TransportError:
                return True
            return False

        until(refused)
        assert next(found)["choices"], "who was here is still answered"


@posix
def test_the_second_signal_ends_at_once(gguf: dict[str, Path]) -> None:
    with (
        process(gguf["speaker"], module="tests.edge.server.braked") as (child, address),
        httpx.Client(base_url=address, timeout=PATIENCE, trust_env=False) as client,
        slow_stream(client) as found,
    ):
        child.send_signal(signal.SIGTERM)
        next(found)
        child.send_signal(signal.SIGINT)
        with pytest.raises(httpx.TransportError):
            list(found)
        assert ended(child) == (0, "")


SECRETS = ("typed-secret", "key-secret", "path-secret", "name-secret")


@posix
def test_what_the_log_tells(gguf: dict[str, Path], tmp_path: Path) -> None:
    """Never what was asked or answered, by whom, or for which path."""
    (keys := tmp_path / "keys").write_text("# a remark\nkey-secret  # the kiosk's\n")
    with (
        process(gguf["tiny-qwen"], "-v", "--api-key-file", keys, "--alias", "served") as (child, address),
        httpx.Client(base_url=address, timeout=PATIENCE, trust_env=False) as client,
    ):
        until(lambda: client.get("/health").status_code == 200)
        client.headers["Authorization"] = "Bearer key-secret"
        messages = [{"role": "user", "content": "typed-secret"}]
        answer = ask(client, {"messages": messages, "max_tokens": 30, "user": "name-secret"})
        assert answer["model"] == "served" and "typed-secret" not in answer["model"]
        ask(client, {"prompt": "typed-secret", "max_tokens": 2, "stream": False}, TEXT)
        client.post(CHAT, json={"messages": messages, "typed-secret": 1})
        client.post(CHAT, content=b'{"typed-secret', headers={"Content-Type": "application/json"})
        client.get("/path-secret?q=path-secret")
        client.get("/v1/models/path-secret", headers={"Authorization": "Bearer name-secret"})
        client.get("/health", headers={"Host": "name-secret"})
        child.send_signal(signal.SIGTERM)
        code, said = ended(child)
    assert code == 0
    lines = [line for line in said.splitlines() if "/health" not in line]
    assert not any(secret in said for secret in SECRETS) and str(tmp_path) not in said
    assert answer["choices"][0]["message"]["content"] not in said
    shown = [line.rsplit(maxsplit=2)[0] for line in lines]
    assert shown == [
        f"POST {CHAT} 200",
        f"POST {TEXT} 200",
        f"POST {CHAT} 400",
        f"POST {CHAT} 400",
        "GET other 404",
        "GET other 401",
        "GET other 403",
    ]
