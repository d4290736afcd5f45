"""What a program on this machine might reach: name servers, gateways, proxies, and sockets of other programs."""

from __future__ import annotations

import ipaddress
import socket
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from edge.kiosk.proof import look

AGENTS = {"SSH_AUTH_SOCK": "the SSH agent", "DBUS_SESSION_BUS_ADDRESS": "the session's D-Bus", "DOCKER_HOST": "Docker"}


@dataclass(frozen=True)
class Machine:
    """Outside: addresses as text, ``proxies`` as host and port, ``sockets`` with a name."""

    resolvers: list[str] = field(default_factory=list)
    gateways: list[str] = field(default_factory=list)
    addresses: list[str] = field(default_factory=list)
    proxies: list[tuple[str, int]] = field(default_factory=list)
    agents: dict[str, str] = field(default_factory=dict)
    sockets: list[look.Socket] = field(default_factory=list)
    hosts: str = ""


def read_machine(environment: Mapping[str, str]) -> Machine:
    addresses = [
        one.address.partition("%")[0]
        for several in psutil.net_if_addrs().values()
        for one in several
        if one.family in (socket.AF_INET, socket.AF_INET6)
    ]
    return Machine(
        resolvers=resolvers(read(Path("/etc/resolv.conf"))),
        gateways=look.gateways(Path("/proc/self/net")),
        addresses=sorted({one for one in addresses if not ipaddress.ip_address(one).is_loopback}),
        proxies=proxies(environment),
        agents=agents(environment),
        sockets=look.listening_unix(look.sockets(Path("/proc/self/net"), True)),
        hosts=read(Path("/etc/hosts")),
    )


def read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def resolvers(text: str) -> list[str]:
    """Addresses of a resolv.conf."""
    words = [line.split() for line in text.splitlines()]
    return [one[1].partition("%")[0] for one in words if len(one) > 1 and one[0] == "nameserver" and is_address(one[1])]


def is_address(text: str) -> bool:
    try:
        return bool(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return False


def proxies(environment: Mapping[str, str]) -> list[tuple[str, int]]:
    """Those that programs would take from the environment, and that have an address: names cannot be resolved."""
    found = []
    for name, value in environment.items():
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy"):
            try:
                parts = urllib.parse.urlsplit(value if "//" in value else f"//{value}")
                host = "127.0.0.1" if parts.hostname == "localhost" else parts.hostname or ""
                if is_address(host):
                    found.append((host, parts.port or 80))
            except ValueError:
                continue
    return sorted(set(found))


def agents(environment: Mapping[str, str]) -> dict[str, str]:
    """Words -> path of a Unix socket that the environment names."""
    found = {}
    for name, words in AGENTS.items():
        value = (
            environment.get(name, "").removeprefix("unix:").removeprefix("path=").removeprefix("//").partition(",")[0]
        )
        if value.startswith("/"):
            found[words] = value
    return found
