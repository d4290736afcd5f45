"""A command in a process of its own that knows only the doubles, and a home and a lock of the test's."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tests.hub.double import Double
from tests.hub.huggingface import HuggingFaceDouble
from tests.hub.server import Request

NOWHERE = "http://127.0.0.1:9"  # nothing listens on the port of "discard"


def write_lock(path: Path, model: str, repo: str, hubs: Sequence[str] = ("huggingface",)) -> Path:
    """A lock that knows where ``model`` is, and no hash."""
    sources = "".join(f'    {{ hub = "{hub}", repo = "{repo}" }},\n' for hub in hubs)
    path.write_text(f'version = 1\n[models."{model}"]\nsources = [\n{sources}]\n', encoding="utf-8")
    return path


def environment(home: Path, hubs: Sequence[Double], **more: str) -> dict[str, str]:
    """This process's own, with a home for what is fetched, and both hubs' names pointing at doubles, or nowhere."""
    endpoints = {"HF_ENDPOINT": NOWHERE, "MODELSCOPE_DOMAIN": NOWHERE}
    for hub in hubs:
        endpoints["HF_ENDPOINT" if isinstance(hub, HuggingFaceDouble) else "MODELSCOPE_DOMAIN"] = hub.endpoint
    own = {"EDGE_HOME": str(home), "HF_HOME": str(home / "huggingface"), "HF_HUB_OFFLINE": "", "PYTHONUTF8": "1"}
    return {**os.environ, **own, **endpoints, **more}


def start(command: Sequence[str], env: dict[str, str], **kwargs: Any) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, env=env, encoding="utf-8", **pipes, **kwargs)


def wait_until(met: Callable[[], bool], child: subprocess.Popen[str]) -> bool:
    """Wait for it; False when the child ended first."""
    deadline = time.monotonic() + 60
    while not met():
        if child.poll() is not None:
            return False
        assert time.monotonic() < deadline, "nothing happened for a minute"
        time.sleep(0.002)
    return True


def sent(hub: Double) -> int:
    """Bytes of bodies that the double has handed to its sockets."""
    return sum(request.sent for request in list(hub.requests))


def of_weights(hub: Double) -> list[Request]:
    """The requests for weights' bytes, which alone come from the other host."""
    return [request for request in list(hub.requests) if request.server == "cdn"]
