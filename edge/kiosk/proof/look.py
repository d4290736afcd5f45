"""What the kernel says of a process: its namespaces, network interfaces, routes, sockets and rights."""

from __future__ import annotations

import ipaddress
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from convert.errors import EdgeError

PROC = Path("/proc")
SPACES = ("net", "mnt", "user", "pid", "ipc", "uts", "cgroup")
RIGHTS = ("Uid", "NoNewPrivs", "Seccomp", "CapEff", "CapBnd")
LISTENING = "0A"
TABLES = ("tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6", "icmp", "icmp6", "packet", "netlink", "unix")
INTERNET = ("tcp", "udp", "raw", "icmp", "packet")  # what these begin with may leave a machine


@dataclass(frozen=True)
class Socket:
    """``name``: its address, or path; empty where it has none. ``outside``: it belongs to the network outside."""

    inode: str
    kind: str
    name: str
    listening: bool
    outside: bool

    def words(self) -> str:
        parts = [self.kind, self.name or "without a name", *(["listening"] if self.listening else [])]
        return " ".join([*parts, *(["(bound outside, passed in)"] if self.outside else [])])


@dataclass(frozen=True)
class Process:
    """``routes``: those that lead anywhere but to itself. ``unknown``: sockets of which the kernel tells nothing."""

    pid: int
    command: str
    spaces: dict[str, str]
    interfaces: tuple[str, ...]
    routes: tuple[str, ...]
    rights: dict[str, str]
    sockets: tuple[Socket, ...]
    unknown: int


def read_process(pid: int | str) -> Process:
    """Raises EdgeError when it cannot be looked at."""
    folder = PROC / str(pid)
    try:
        held = {match[1] for link in links(folder / "fd") if (match := re.fullmatch(r"socket:\[(\d+)\]", link))}
        known = {one.inode: one for one in [*sockets(PROC / "self" / "net", True), *sockets(folder / "net", False)]}
        own = link(folder / "ns" / "net") == link(PROC / "self" / "ns" / "net")
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines())
        return Process(
            pid=int((folder / "stat").read_text().split()[0]),
            command=(folder / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip(),
            spaces={name: link(folder / "ns" / name) for name in SPACES},
            interfaces=tuple(sorted(interfaces((folder / "net" / "dev").read_text()))),
            routes=tuple(routes(folder / "net")),
            rights={name: " ".join(status[name].split()) for name in RIGHTS},
            sockets=tuple(
                Socket(one.inode, one.kind, one.name, one.listening, one.outside and not own)
                for inode, one in sorted(known.items())
                if inode in held
            ),
            unknown=len(held - known.keys()),
        )
    except (OSError, KeyError, ValueError) as error:
        raise EdgeError(f"process {pid} cannot be looked at: {error}", "run this as root") from error


def link(path: Path) -> str:
    return str(path.readlink())


def links(folder: Path) -> Iterator[str]:
    for path in folder.iterdir():
        try:
            yield link(path)
        except FileNotFoundError:  # closed meanwhile
            continue


def children(pid: int) -> list[int]:
    found = []
    for path in PROC.glob("[0-9]*/stat"):
        try:
            if int(path.read_text().rpartition(")")[2].split()[1]) == pid:
                found.append(int(path.parts[2]))
        except OSError:  # ended meanwhile
            continue
    return sorted(found)


def interfaces(dev: str) -> list[str]:
    """Names from ``/proc/PID/net/dev``."""
    return [line.partition(":")[0].strip() for line in dev.splitlines()[2:]]


def routes(folder: Path) -> Iterator[str]:
    """Of both versions of IP, as the kernel writes them, but for those over the loopback."""
    for name, column in (("route", 0), ("ipv6_route", -1)):
        path = folder / name
        lines = path.read_text().splitlines() if path.exists() else []
        for words in (line.split() for line in lines if line.strip()):
            if words[column] not in ("lo", "Iface"):
                yield " ".join(words)


def gateways(folder: Path) -> list[str]:
    """Addresses that a network's default routes lead to."""
    found = [
        socket.inet_ntoa(struct.pack("=I", int(words[2], 16)))
        for words in table(folder / "route")
        if words[1] == "00000000" and words[2] != "00000000"
    ]
    for words in table(folder / "ipv6_route"):
        if words[0] == "0" * 32 and words[1] == "00" and words[4] != "0" * 32:
            found.append(str(ipaddress.IPv6Address(bytes.fromhex(words[4]))))
    return sorted(set(found))


def table(path: Path) -> list[list[str]]:
    lines = path.read_text().splitlines() if path.exists() else []
    return [line.split() for line in lines if line.strip() and not line.startswith("Iface")]


# --- sockets


def sockets(folder: Path, outside: bool) -> Iterator[Socket]:
    for kind in TABLES:
        path = folder / kind
        try:
            lines = path.read_text(errors="surrogateescape").splitlines()[1:]
        except OSError:
            continue
        yield from (one for line in lines if (one := parse(kind, line, outside)) is not None)


def parse(kind: str, line: str, outside: bool) -> Socket | None:
    """A line of a table of ``/proc/PID/net``. None for one that is nobody's."""
    words = line.split()
    if kind == "unix":
        name = line.split(maxsplit=7)[7] if len(words) > 7 else ""
        return Socket(words[6], f"unix {UNIX_TYPES.get(words[4], words[4])}", name, is_listening(words), outside)
    if kind in ("packet", "netlink"):
        return Socket(words[8 if kind == "packet" else 9], kind, "", False, outside)
    inode = words[9]
    if inode == "0":
        return None
    return Socket(inode, kind, address(words[1]), kind.startswith("tcp") and words[3] == LISTENING, outside)


UNIX_TYPES = {"0001": "stream", "0002": "datagram", "0005": "packets"}
ACCEPTS = 0x10000  # of the flags of a Unix socket


def is_listening(words: list[str]) -> bool:
    return bool(int(words[3], 16) & ACCEPTS)


def address(text: str) -> str:
    """``0100007F:1F90`` is 127.0.0.1:8080."""
    host, _, port = text.partition(":")
    words = [int(host[i : i + 8], 16) for i in range(0, len(host), 8)]
    plain = ipaddress.ip_address(struct.pack(f"={len(words)}I", *words))
    return f"[{plain}]:{int(port, 16)}" if plain.version == 6 else f"{plain}:{int(port, 16)}"


def listening_unix(found: Iterable[Socket]) -> list[Socket]:
    """Those with a name, to which a program could connect: each name once."""
    named = [one for one in found if one.name.startswith(("/", "@"))]
    return list({one.name: one for one in named if one.listening or one.kind == "unix datagram"}.values())
