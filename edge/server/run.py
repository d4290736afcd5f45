"""Binds, serves until a signal comes, and ends in order."""

from __future__ import annotations

import errno
import faulthandler
import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from edge.server.app import make_app
from edge.server.config import Config, ConfigError
from edge.server.notify import Manager
from edge.server.protocol import Protocol
from edge.server.serving import Serving

BACKLOG = 128
IDLE_SECONDS = 60  # a connection without a request


class Server(uvicorn.Server):
    """Drains at the first signal and ends at the second, whichever they are."""

    manager: Manager | None = None

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        if self.manager is not None:
            self.manager.tell("STOPPING=1", "STATUS=ending")
        await super().shutdown(sockets)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True


def build(serving: Serving, manager: Manager | None = None) -> Server:
    """To be run with a socket from ``listen``. It ends by itself where the model cannot be loaded."""

    def give_up() -> None:
        server.should_exit = server.force_exit = True

    app: Any = make_app(serving, give_up, manager)
    server = Server(
        uvicorn.Config(
            app,
            http=Protocol,
            ws="none",
            lifespan="on",
            log_config=None,
            log_level="critical",  # its tracebacks may hold prompts
            access_log=False,
            server_header=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=IDLE_SECONDS,
            backlog=BACKLOG,
        )
    )
    server.manager = manager
    return server


def serve(serving: Serving, ready: Callable[[str], None], manager: Manager | None = None) -> None:
    """Serve until a signal; ``ready`` is told the address once it is bound, ``manager`` how the server is. Raises
    ConfigError, and what kept the model from being loaded."""
    listening = listen(serving.config)
    server = build(serving, manager)
    if manager is not None and manager.watchdog is not None:
        faulthandler.enable()  # a watchdog's SIGABRT leaves in the log which function of which thread hung
    ready(address(serving.config, listening))
    try:
        server.run(sockets=[listening])
    finally:
        listening.close()
        if serving.config.socket is not None and serving.config.passed is None:
            serving.config.socket.unlink(missing_ok=True)
    if serving.failure is not None:
        raise serving.failure
    if server.force_exit:
        os._exit(0)  # answers are left where they are


def listen(config: Config) -> socket.socket:
    """Raises ConfigError."""
    if config.passed is not None:
        return config.passed
    if config.socket is not None:
        return listen_on_path(config.socket)
    try:
        family, _, _, _, where = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, socket.SOCK_STREAM)
        if os.name != "nt":  # there it would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(where)
        listening.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        raise ConfigError(f"cannot listen on {config.host}:{config.port}: {reason(error)}", advice(error)) from error
    return listening


def listen_on_path(path: Path) -> socket.socket:
    """A Unix socket for this user and group. One that nobody serves any more is replaced."""
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigError("this system has no Unix sockets", "use --port")
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if path.exists() and stat.S_ISSOCK(path.stat().st_mode):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
                if other.connect_ex(str(path)) == 0:
                    raise ConfigError(f"another server uses {path}", "end it, or give another path")
            path.unlink()
        before = os.umask(0o117)
        try:
            listening.bind(str(path))
        finally:
            os.umask(before)
        listening.listen(BACKLOG)
    except OSError as error:
        listening.close()
        raise ConfigError(f"cannot listen on {path}: {reason(error)}") from error
    return listening


def reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def advice(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == errno.EADDRINUSE:
        return "another program uses it: give another --port"
    return "ports below 1024 need rights: give a higher --port" if number == errno.EACCES else ""


def address(config: Config, listening: socket.socket) -> str:
    if config.socket is not None:
        return f"unix:{config.socket}"
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
