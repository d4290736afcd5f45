from __future__ import annotations

import ipaddress
import os
import signal
import socket
from typing import Any

import pytest

os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"  # before any test imports huggingface-hub
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # llama.cpp's threads would spin on cores that other tests want

signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job, and its children, would ignore Ctrl-C


class LeftLoopback(BaseException):
    """A test reached for the network. Not an Exception: no retry may swallow it."""


def is_loopback(host: Any) -> bool:
    if isinstance(host, bytes):
        host = host.decode()
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


@pytest.fixture(autouse=True)
def only_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections and name look-ups end on this machine, and no proxy or token of its user is used."""
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")

    def guarded(name: str, owner: Any, host_of: Any) -> None:
        real = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            host = host_of(args)
            if host is not None and not is_loopback(host):
                raise LeftLoopback(f"{name} to {host}")
            return real(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    # A socket's address is (host, port, ...), or a path or number where it is not of the internet.
    for name in ("connect", "connect_ex"):
        guarded(name, socket.socket, lambda args: args[1][0] if isinstance(args[1], tuple) else None)
    guarded("sendto", socket.socket, lambda args: args[-1][0] if isinstance(args[-1], tuple) else None)
    guarded("getaddrinfo", socket, lambda args: args[0])
