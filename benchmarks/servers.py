"""Our server and its peers as processes: started, waited for, ended."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import peer_bench
from tests.oracle.source import CACHE

ROOT = Path(__file__).resolve().parents[1]
PEER_VENV = CACHE / "peer-server"
READY_SECONDS = 120.0


@dataclass(frozen=True)
class Setup:
    """The same for every server: ``slots`` answers at once, each of up to ``ctx`` tokens."""

    model: Path
    threads: int
    slots: int
    ctx: int


@dataclass(frozen=True)
class Running:
    port: int
    process: subprocess.Popen[bytes]
    ready: float
    """Seconds from its start until it answered."""

    @property
    def memory(self) -> int:
        """Resident bytes of the process."""
        return psutil.Process(self.process.pid).memory_info().rss


def ours(setup: Setup, port: int) -> list[str]:
    options = ["--slots", setup.slots, "--ctx", setup.ctx, "-t", setup.threads, "--port", port, "--queue", 64]
    return [sys.executable, "-m", "edge", "serve", str(setup.model), "-q", *map(str, options)]


def llama_server(setup: Setup, port: int) -> list[str]:
    """As shipped, but for what must be the same."""
    options = ["-np", setup.slots, "-c", setup.ctx * setup.slots, "-t", setup.threads, "--port", port]
    return [str(peer_bench.BUILD / "bin" / "llama-server"), "-m", str(setup.model), *map(str, options)]


def llama_cpp_python(setup: Setup, port: int) -> list[str]:
    """It answers one request after the other; by default a new one cuts the one that is at work."""
    options = [
        "--interrupt_requests",
        "false",
        "--n_ctx",
        setup.ctx,
        "--n_threads",
        setup.threads,
        "--n_threads_batch",
        setup.threads,
        "--port",
        port,
    ]
    python = PEER_VENV / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    return [str(python), "-m", "llama_cpp.server", "--model", str(setup.model), *map(str, options)]


HEALTH: dict[Callable[[Setup, int], list[str]], str] = {
    ours: "/health",
    llama_server: "/health",
    llama_cpp_python: "/v1/models",
}


def install_llama_cpp_python() -> None:
    """Its server has requirements of its own; the compiled package comes from pip's cache."""
    if not PEER_VENV.is_dir():
        print("installing llama_cpp.server into a virtual environment", flush=True)
        subprocess.run([sys.executable, "-m", "venv", str(PEER_VENV)], check=True)
        pip = [str(PEER_VENV / "bin" / "python"), "-m", "pip", "install", "-q", "llama-cpp-python[server]==0.3.36"]
        subprocess.run(pip, check=True)


@contextmanager
def running(command: Callable[[Setup, int], list[str]], setup: Setup, port: int) -> Iterator[Running]:
    """Wait until it answers; end it afterwards."""
    log = CACHE / f"{command.__name__}.log"
    with log.open("wb") as output:
        began = time.monotonic()
        process = subprocess.Popen(command(setup, port), stdout=output, stderr=output, cwd=ROOT)
        try:
            while not answers(f"http://127.0.0.1:{port}{HEALTH[command]}"):
                if process.poll() is not None or time.monotonic() - began > READY_SECONDS:
                    raise SystemExit(f"{command.__name__} does not answer; see {log}")
                time.sleep(0.02)
            yield Running(port, process, time.monotonic() - began)
        finally:
            process.terminate()
            process.wait(30)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
