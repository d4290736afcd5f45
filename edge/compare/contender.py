"""Who is compared: a model of this machine, which ``edge serve`` answers for in a process of its own, or a server."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import psutil
import requests

from convert.errors import EdgeError
from edge.compare.asking import Server, models, parse_address
from edge.gate import how_it_ended
from edge.hashing import sha256_of
from edge.model_file import level_of, read_sane

READY = re.compile(rb"^.+ at (http://\S+) \(")
LONG_CONTEXT, CONTEXT = 16384, 4096  # tokens, where a model was trained for as many


@dataclass(frozen=True)
class Contender:
    """``path``: a GGUF here, or None for a server at ``address``. ``base``: what levels of one model share."""

    name: str
    base: str
    level: str | None = None
    path: Path | None = None
    address: str | None = None
    key: str = ""


@dataclass
class Serving:
    """``memory``: the most that its process held so far, in bytes; None of a server that is not ours."""

    server: Server
    process: psutil.Process | None = None
    memory: int | None = None

    def look(self) -> None:
        if self.process is not None:
            with contextlib.suppress(psutil.Error):
                self.memory = max(self.memory or 0, self.process.memory_info().rss)


def is_address(text: str) -> bool:
    return text.startswith(("http://", "https://"))


def from_address(text: str, key: str = "") -> Contender:
    """Raises EdgeError. Asks the server what it has, where no model is named."""
    base, model = parse_address(text)
    if not model:
        found = [one["id"] for one in models(Server(base, "", key)) if isinstance(one.get("id"), str)]
        if len(found) != 1:
            raise EdgeError(f"{base} has {len(found)} models", "write which behind a #, as http://.../v1#model")
        (model,) = found
    shown = re.split(r"[/\\]", model)[-1] or model  # llama-server calls a model by its path
    return Contender(f"{shown} @ {base.partition('://')[2]}", base=base, level=None, address=f"{base}#{model}", key=key)


def from_file(name: str, path: Path) -> Contender:
    """Raises GgufError for a file that is damaged. A file that is called after its level is one of several."""
    level = level_of(read_sane(path))
    if level and name.upper().endswith((f"-{level}", f".{level}")):
        name = name[: -len(level) - 1]
    return Contender(f"{name}:{level}" if level else name, base=name, level=level, path=path)


def facts(one: Contender, on_bytes: Callable[[int, int], None] = lambda done, of: None) -> dict[str, Any]:
    """What a report says of it. A file's hash is that of the bytes that are there now."""
    found: dict[str, Any] = {"name": one.name, "base": one.base, "level": one.level, "address": one.address}
    found |= {"size": None, "sha256": None, "memory": None, "failed": None}
    if one.path is not None:
        size, done = one.path.stat().st_size, 0

        def told(nbytes: int) -> None:
            nonlocal done
            done += nbytes
            on_bytes(done, size)

        found |= {"size": size, "sha256": sha256_of(one.path, told)}
    return found


def context_for(path: Path, long: bool) -> int:
    """Tokens: enough for the questions, ``long`` documents or not, but no more than the model was trained for."""
    trained = read_sane(path).metadata
    arch = trained.get("general.architecture")
    most = trained.get(f"{arch}.context_length")
    wanted = LONG_CONTEXT if long else CONTEXT
    return min(wanted, most) if type(most) is int and most > 0 else wanted


@contextlib.contextmanager
def serving(one: Contender, models_dir: Path, ctx: int | None, long: bool) -> Iterator[Serving]:
    """The contender, ready to be asked, until the block ends. Raises EdgeError."""
    if one.address is not None:
        base, model = parse_address(one.address)
        yield Serving(Server(base, model, one.key))
        return
    assert one.path is not None
    tokens = ctx or context_for(one.path, long)
    options = ["--port", "0", "--slots", "1", "--ctx", str(tokens), "--models-dir", str(models_dir)]
    options += ["--until-stdin-ends"]  # or a killed comparison would leave a model in memory
    command = [sys.executable, "-P", "-m", "edge", "serve", str(one.path), *options]
    with tempfile.TemporaryFile() as said:  # a pipe that nobody empties would stop it
        child = subprocess.Popen(command, stdout=subprocess.DEVNULL, stdin=subprocess.PIPE, stderr=said)
        try:
            base = wait_ready(child, said, one.name)
            yield Serving(Server(f"{base}/v1", "default"), psutil.Process(child.pid))
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()


def wait_ready(child: subprocess.Popen[bytes], said: IO[bytes], name: str) -> str:
    """Its address, once it says that it answers."""
    address = ""
    with requests.Session() as client:
        client.trust_env = False
        while child.poll() is None:
            time.sleep(0.05)
            said.seek(0)
            text = said.read()
            if not address and (found := next(filter(None, map(READY.match, text.splitlines())), None)):
                address = found[1].decode()
            if address:
                with contextlib.suppress(requests.RequestException):
                    if client.get(f"{address}/health", timeout=10).status_code == 200:
                        return address
    said.seek(0)
    why = how_it_ended(child.returncode, said.read().decode("utf-8", "replace"))
    raise EdgeError(f"{name} cannot be served: {why.removeprefix('error: ')}", "")
