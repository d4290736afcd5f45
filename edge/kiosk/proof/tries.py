"""What is tried from inside, on this machine, and what each outcome means."""

from __future__ import annotations

import errno
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge.kiosk.box.units import NOTIFY
from edge.kiosk.proof.controls import LOOPBACK, LOOPBACK_6, Controls
from edge.kiosk.proof.machine import Machine

NAMES = ("example.com", "huggingface.co", "www.modelscope.cn", "pypi.org")
PUBLIC = ("1.1.1.1", "8.8.8.8", "2606:4700:4700::1111", "2001:4860:4860::8888")
PRIVATE = ("10.0.0.1", "172.16.0.1", "192.168.0.1", "192.168.1.1", "169.254.169.254", "fd00::1")
EVERYBODY = (("255.255.255.255", 9), ("224.0.0.251", 5353))  # broadcast, and the multicast of mDNS
PROXY_PORTS = (1080, 3128, 7890, 8080, 8118, 8888, 9050)
TCP_PORTS = (80, 443)
FAMILIES = {"raw packets": (17, 3), "Bluetooth": (31, 3), "a virtual machine's host": (40, 1)}
HELPERS = {
    "the system's D-Bus": "/run/dbus/system_bus_socket",
    "the name service of systemd": "/run/systemd/resolve/io.systemd.Resolve",
    "users' data of systemd": "/run/systemd/userdb/io.systemd.Multiplexer",
    "systemd itself": "/run/systemd/private",
    "the journal": "/run/systemd/journal/stdout",
    "Docker": "/run/docker.sock",
    "Podman": "/run/podman/podman.sock",
    "containerd": "/run/containerd/containerd.sock",
    "nscd": "/run/nscd/socket",
    "SSSD": "/var/lib/sss/pipes/nss",
    "Avahi": "/run/avahi-daemon/socket",
    "CUPS": "/run/cups/cups.sock",
    "snapd": "/run/snapd.socket",
    "X11": "/tmp/.X11-unix/X0",
}

# The kernel's own refusals: nothing has left when a call fails with one of these.
REFUSALS = {
    *(errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ESOCKTNOSUPPORT, errno.EPERM, errno.EACCES, errno.ENOSYS),
    *(errno.ENETUNREACH, errno.ENETDOWN, errno.EADDRNOTAVAIL, errno.ENODEV, errno.ENXIO, errno.ENOENT, errno.ENOTDIR),
    *(errno.EOPNOTSUPP, errno.EINVAL),
}
REFUSED, ABSENT, ALLOWED, UNCLEAR, THROUGH = "refused", "nothing is there", "allowed", "not refused", "got through"
NOT_THERE = "is not there"
HOST, BARE = "outside", "in a namespace with all rights"  # where a control must go well
CROWD = 400  # most of the machine's other sockets that are tried


@dataclass(frozen=True)
class Try:
    """``control``: where the very same must go well; empty for what cannot be tried there without leaving the machine.
    ``needed``: a machine on which it does not go well there proves nothing. ``there``: what stands outside."""

    group: str
    what: str
    arguments: dict[str, Any]
    control: str = ""
    needed: bool = False
    there: str = ""

    @property
    def by_network(self) -> bool:
        """Whether the network alone must hinder it. Its own loopback answers to an echo."""
        kind, path = self.arguments["kind"], str(self.arguments.get("path", ""))
        is_echo = kind == "icmp" and not is_local(self.arguments)
        return is_echo or kind in ("tcp", "connect", "udp", "dns") or (kind == "unix" and path.startswith("@"))


# --- the list


def tries(machine: Machine, controls: Controls) -> list[Try]:
    """The controls of each kind come first."""
    return [
        *names(machine, controls),
        *tcp(machine, controls),
        *udp(machine, controls),
        *icmp(machine),
        *proxy(machine, controls),
        *unix(machine, controls),
        *kernel(),
    ]


def names(machine: Machine, controls: Controls) -> list[Try]:
    asked = [one for one in dict.fromkeys([*machine.resolvers, *PUBLIC])]
    group = "Names (DNS)"
    return [
        Try(group, "a name server of this proof's own", of("dns", LOOPBACK, controls.udp), HOST, True),
        *(Try(group, f"resolve {name}", {"kind": "name", "host": name}) for name in NAMES if name not in machine.hosts),
        *(Try(group, f"ask the name server {at(one, 53)} by UDP", of("dns", one, 53)) for one in asked),
        *(Try(group, f"ask the name server {at(one, 53)} by TCP", of("tcp", one, 53)) for one in asked),
    ]


def tcp(machine: Machine, controls: Controls) -> list[Try]:
    group = "TCP"
    own = [(LOOPBACK, controls.tcp), *([(LOOPBACK_6, controls.tcp6)] if controls.tcp6 else [])]
    far = [*PUBLIC, *PRIVATE, *machine.gateways, *machine.addresses]
    return [
        *(Try(group, f"this machine's loopback, {at(*one)}", of("tcp", *one), HOST, one[0] == LOOPBACK) for one in own),
        *(Try(group, at(one, port), of("tcp", one, port)) for one in dict.fromkeys(far) for port in TCP_PORTS),
    ]


def udp(machine: Machine, controls: Controls) -> list[Try]:
    far = [*((one, 443) for one in (*PUBLIC, *PRIVATE)), *((one, 123) for one in machine.gateways), *EVERYBODY]
    return [
        Try(
            "UDP",
            f"this machine's loopback, {at(LOOPBACK, controls.udp)}",
            of("udp", LOOPBACK, controls.udp),
            HOST,
            True,
        ),
        *(Try("UDP", at(*one), of("udp", *one)) for one in dict.fromkeys(far)),
    ]


def icmp(machine: Machine) -> list[Try]:
    group = "ICMP"
    far = dict.fromkeys([*PUBLIC, *machine.gateways])
    return [
        Try(group, f"an echo of {LOOPBACK}, raw", ping(LOOPBACK, True), BARE),
        Try(group, f"an echo of {LOOPBACK}", ping(LOOPBACK, False), HOST),
        *(Try(group, f"an echo of {one}{', raw' * raw}", ping(one, raw)) for one in far for raw in (True, False)),
    ]


def proxy(machine: Machine, controls: Controls) -> list[Try]:
    group = "Proxies"
    usual = [(LOOPBACK, port) for port in PROXY_PORTS] + [(one, 3128) for one in machine.gateways]
    return [
        Try(group, "a proxy of this proof's own", of("connect", LOOPBACK, controls.tcp), HOST, True),
        *(Try(group, f"the environment's proxy, {at(*one)}", of("connect", *one)) for one in machine.proxies),
        *(Try(group, f"a proxy at {at(*one)}", of("connect", *one)) for one in usual),
    ]


def unix(machine: Machine, controls: Controls) -> list[Try]:
    group = "Other programs (Unix sockets)"
    own, helpers = [controls.abstract, *controls.paths], {**HELPERS, **machine.agents}
    others = [one for one in machine.sockets if one.name not in {*own, *helpers.values()}]
    return [
        *(Try(group, f"a socket of this proof's own, {kept(path)}", connect(path), HOST, True) for path in own),
        *(
            Try(group, f"the same through the files of any process, {kept(path)}", through(path), HOST)
            for path in controls.paths[:1]
        ),
        *(
            Try(group, f"{words}, {path}", connect(path), there="is there" if Path(path).exists() else NOT_THERE)
            for words, path in helpers.items()
        ),
        *(Try(group, one.name, connect(one.name, one.kind), there="is there") for one in others[:CROWD]),
    ]


def kernel() -> list[Try]:
    group = "Ways past the walls"
    return [
        Try(group, "add a network interface (netlink)", {"kind": "interface"}, BARE),
        Try(group, "make a tunnel (/dev/net/tun)", {"kind": "tunnel"}, BARE),
        Try(group, "enter the network of another process (setns)", {"kind": "namespace"}),
        Try(group, "sockets without system calls (io_uring)", {"kind": "io_uring"}, HOST),
        *(
            Try(group, f"a socket for {words}", {"kind": "family", "number": number, "type": type}, BARE)
            for words, (number, type) in FAMILIES.items()
        ),
    ]


def of(kind: str, address: str, port: int) -> dict[str, Any]:
    return {"kind": kind, "address": address, "port": port}


def ping(address: str, raw: bool) -> dict[str, Any]:
    return {"kind": "icmp", "address": address, "raw": raw}


def connect(path: str, kind: str = "unix stream") -> dict[str, Any]:
    types = {"unix datagram": socket.SOCK_DGRAM, "unix packets": 5}
    return {"kind": "unix", "path": path, "type": int(types.get(kind, socket.SOCK_STREAM))}


def through(path: str) -> dict[str, Any]:
    return {"kind": "elsewhere", "path": path}


def at(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def kept(path: str) -> str:
    """Where it lies, not what it is called by chance."""
    return "by a name outside the file system" if path.startswith("@") else f"in {Path(path).parent.parent}"


# --- what came of it


def verdict(one: Try, outcome: Mapping[str, Any]) -> str:
    """Whoever waited for an answer in vain has sent something. A connection that was refused, by another machine."""
    arguments = one.arguments
    if outcome["reached"]:
        return ALLOWED if arguments.get("path") == NOTIFY else THROUGH
    if arguments["kind"] == "name":
        return REFUSED
    if one.there == NOT_THERE and outcome["errno"] in (errno.ENOENT, errno.ENOTDIR):
        return ABSENT
    if outcome["errno"] in REFUSALS:
        return REFUSED
    if outcome["errno"] == errno.ECONNREFUSED and is_local(arguments):
        return REFUSED
    return UNCLEAR


def is_local(arguments: Mapping[str, Any]) -> bool:
    """What refused it then is the sandbox itself, whose loopback is its own."""
    if "path" in arguments:
        return True
    return ipaddress.ip_address(arguments["address"].partition("%")[0]).is_loopback


def outcome_text(outcome: Mapping[str, Any]) -> str:
    code = errno.errorcode.get(outcome["errno"] or 0)
    return f"{outcome['said']} ({code})" if code else str(outcome["said"])
