"""The socket that a service manager bound for this process and passed to it, as systemd does (sd_listen_fds)."""

from __future__ import annotations

import dataclasses
import os
import socket
import stat
from collections.abc import MutableMapping
from pathlib import Path

from edge.server.config import Config, ConfigError

FIRST = 3  # the number of the first file that is passed
NAMES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
HINT = "the service's .socket unit has one ListenStream="


def adopt(config: Config, environment: MutableMapping[str, str]) -> Config:
    """``config`` with the passed socket in place of host, port and path; as it is where none was passed. Raises
    ConfigError."""
    passed = take(environment)
    if passed is None:
        return config
    where = passed.getsockname()
    if isinstance(where, tuple):
        return dataclasses.replace(config, host=where[0], port=where[1], socket=None, passed=passed)
    return dataclasses.replace(config, socket=path_of(where), passed=passed)


def take(environment: MutableMapping[str, str]) -> socket.socket | None:
    """The one passed socket. Removes the variables that tell of it, so that no child takes it for its own."""
    pid, count, _ = (environment.pop(name, "") for name in NAMES)
    if pid != str(os.getpid()):  # for a parent of this process, or for nobody
        return None
    if count != "1":
        raise ConfigError(f"{count or 'no'} sockets were passed, and the server listens on one", HINT)
    try:
        mode = os.fstat(FIRST).st_mode
    except OSError as error:
        raise ConfigError("a socket was to be passed, and there is none", HINT) from error
    if not stat.S_ISSOCK(mode):
        raise ConfigError("what was passed is no socket", HINT)
    passed = socket.socket(fileno=FIRST)
    passed.set_inheritable(False)
    if passed.type != socket.SOCK_STREAM or not passed.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ConfigError("the passed socket takes no connections", HINT)
    return passed


def path_of(name: str | bytes) -> Path:
    """Of a Unix socket; names outside the file system begin with @, as systemd writes them."""
    text = os.fsdecode(name)
    return Path("@" + text[1:] if text.startswith("\0") else text)
