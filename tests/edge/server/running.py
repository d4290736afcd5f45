"""A server in a thread of the test's process, and what talks to it."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from edge.api import Engine
from edge.server.config import Config
from edge.server.notify import Manager
from edge.server.run import address, build, listen
from edge.server.serving import Serving
from edge.warm import Warm

if TYPE_CHECKING:
    from openai import OpenAI

PATIENCE = 60  # seconds to wait for what must come
CHAT = "/v1/chat/completions"
TEXT = "/v1/completions"
HELLO = [{"role": "user", "content": "你好"}]


@dataclass
class Served:
    url: str
    serving: Serving
    log: list[str]

    @property
    def engine(self) -> Engine:
        return self.serving.engine

    @property
    def idle(self) -> bool:
        """Nobody is in the house, and no slot is in use."""
        return not self.serving.gate.inside and all(slot.owner is None for slot in self.engine._core.slots)

    def client(self, **options: Any) -> httpx.Client:
        if (path := self.serving.config.socket) is not None:
            transport = httpx.HTTPTransport(uds=str(path))
            return httpx.Client(transport=transport, base_url="http://localhost", timeout=PATIENCE, **options)
        return httpx.Client(base_url=self.url, trust_env=False, **{"timeout": PATIENCE, **options})

    def sdk(self, key: str = "none") -> OpenAI:
        """OpenAI's own client, which does not try again."""
        from openai import OpenAI

        return OpenAI(base_url=f"{self.url}/v1", api_key=key, max_retries=0, timeout=PATIENCE)

    def connect(self) -> socket.socket:
        """For what a decent client does not send."""
        host, _, port = self.url.removeprefix("http://").partition(":")
        return socket.create_connection((host, int(port)), timeout=PATIENCE)


@contextmanager
def running(
    path: Path,
    config: Config | None = None,
    *,
    slots: int = 4,
    load: Callable[[], Engine] | None = None,
    manager: Manager | None = None,
    warm: Warm | None = None,
    **engine: Any,
) -> Iterator[Served]:
    """Serve a GGUF on a free port of the loopback, until the block ends. The model is loaded, unless ``load`` is given,
    which then does it."""
    config = config or Config(port=0)
    log: list[str] = []
    loading = load or (lambda: Engine(path, slots=slots, **engine))
    serving = Serving(path.stem, "", slots, config, loading, log.append, log.append, debug=True, warm=warm)
    listening = listen(config)
    server = build(serving, manager)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    served = Served(address(config, listening), serving, log)
    thread.start()
    try:
        if load is None:
            until(lambda: serving.loaded is not None or serving.failure is not None)
        yield served
    finally:
        server.should_exit = True
        thread.join(PATIENCE)
        assert not thread.is_alive()
    if serving.failure is not None:
        raise serving.failure


def until(condition: Callable[[], object]) -> None:
    """Wait for what must come."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come"
        time.sleep(0.005)


def events(lines: Iterable[str]) -> Iterator[Any]:
    """The objects of a stream; ``[DONE]`` as text."""
    for line in lines:
        if line.startswith("data: "):
            data = line.removeprefix("data: ")
            yield data if data == "[DONE]" else json.loads(data)


def stream(client: httpx.Client, path: str, body: Mapping[str, Any]) -> list[Any]:
    with client.stream("POST", path, json={**body, "stream": True}) as answer:
        assert answer.status_code == 200, answer.read()
        return list(events(answer.iter_lines()))


def ask(client: httpx.Client, body: Mapping[str, Any], path: str = CHAT) -> Any:
    """The answer to a request that is in order."""
    answer = client.post(path, json=body)
    assert answer.status_code == 200, answer.text
    return answer.json()


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The error of a response, which has the shape that every error has."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert body.keys() == {"error"} and {"message", "type", "param", "code"} <= body["error"].keys()
    assert isinstance(body["error"]["message"], str) and body["error"]["message"]
    return body["error"]


def choices_of(chunks: Iterable[Any], index: int = 0) -> list[Any]:
    """What a stream tells of one choice."""
    return [one for chunk in chunks if chunk != "[DONE]" for one in chunk["choices"] if one["index"] == index]


def joined(chunks: Iterable[Any], field: str = "content", index: int = 0) -> str:
    return "".join(one["delta"].get(field, "") for one in choices_of(chunks, index))


def samples(text: str) -> dict[str, float]:
    """Prometheus's text format: a sample's name with its labels -> value."""
    found = re.findall(r"^([a-z_]+(?:\{.*\})?) (\S+)$", text, re.MULTILINE)
    return {name: float(value) for name, value in found}
