"""``edge serve`` as people start it, in a process of its own."""

from __future__ import annotations

import os
import queue
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
READY = re.compile(r"(\S+) at (http://\S+) \(")
PATIENCE = 120  # seconds for a start, an end, or a slot that is to be free
COMPLAINTS = ("request failed", "Traceback", "Exception", "error:")


@dataclass
class Command:
    """A server that answers. ``lines``: what it said since."""

    process: subprocess.Popen[str]
    name: str
    url: str
    lines: list[str]

    @property
    def address(self) -> tuple[str, int]:
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        return host, int(port)

    def client(self, **options: object) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=60, trust_env=False, **options)  # type: ignore[arg-type]

    def metric(self, name: str) -> float:
        with self.client() as client:
            found = re.search(rf"^{name} (\S+)$", client.get("/metrics").text, re.MULTILINE)
        assert found, name
        return float(found[1])

    def statuses(self) -> dict[str, int]:
        """How many requests were answered by each HTTP status."""
        with self.client() as client:
            text = client.get("/metrics").text
        counts = re.findall(r'^edge_requests_total{.*status="(\d+)"} (\S+)$', text, re.MULTILINE)
        return {status: sum(int(float(count)) for one, count in counts if one == status) for status, _ in counts}

    def complaints(self) -> list[str]:
        return [line for line in self.lines if any(word in line for word in COMPLAINTS)]

    def wait_idle(self) -> None:
        """Until every slot is free."""
        until = time.monotonic() + PATIENCE
        while busy := self.metric("edge_slots_busy") + self.metric("edge_queue_length"):
            assert time.monotonic() < until, f"{busy} answers are still at work"
            time.sleep(0.05)

    def wait_for(self, metric: str, least: float) -> None:
        until = time.monotonic() + PATIENCE
        while self.metric(metric) < least:
            assert time.monotonic() < until, f"{metric} did not reach {least}"

    def check_well(self) -> None:
        """The same process answers, and nothing was wrong with it."""
        assert self.process.poll() is None
        with self.client() as client:
            assert client.get("/health").status_code == 200
        assert self.complaints() == []


@contextmanager
def serving(model: str | Path, home: Path, *arguments: str) -> Iterator[Command]:
    """Serve MODEL on a free port until the block ends; ``home`` is its EDGE_HOME."""
    command = [sys.executable, "-m", "edge", "serve", str(model), "--port", "0", "--verbose", *arguments]
    env = {**os.environ, "EDGE_HOME": str(home)}
    process = subprocess.Popen(command, env=env, cwd=ROOT, stderr=subprocess.PIPE, encoding="utf-8", errors="replace")
    said: queue.SimpleQueue[str | None] = queue.SimpleQueue()
    lines: list[str] = []
    listener = threading.Thread(target=listen, args=(process, lines, said), daemon=True)
    listener.start()
    try:
        name, url = wait_ready(said, lines)
        yield Command(process, name, url, lines)
        process.terminate()
        assert process.wait(PATIENCE) == 0, lines
    finally:
        process.kill()
        process.wait()
        listener.join()


def listen(process: subprocess.Popen[str], lines: list[str], said: queue.SimpleQueue[str | None]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line.rstrip("\n"))
        said.put(line)
    said.put(None)


def wait_ready(said: queue.SimpleQueue[str | None], lines: list[str]) -> tuple[str, str]:
    """The model's name and the server's address, once the model is loaded."""
    while (line := said.get(timeout=PATIENCE)) is not None:
        if found := READY.match(line):
            name, url = found.groups()
            while httpx.get(f"{url}/health", trust_env=False).status_code == 503:
                time.sleep(0.05)
            return name, url
    raise AssertionError("\n".join(lines))
