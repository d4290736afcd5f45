"""What the kernel's tables say."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from convert.errors import EdgeError
from edge.kiosk.proof import look

ROUTE = """Iface	Destination	Gateway 	Flags	RefCnt	Use	Metric	Mask		MTU	Window	IRTT
eth0	00000000	010200C0	0003	0	0	0	00000000	0	0	0
lo	0000007F	00000000	0001	0	0	0	000000FF	0	0	0
"""
ROUTE_6 = f"{'0' * 32} 00 {'0' * 32} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     eth0\n"
ROUTE_6 += f"{'0' * 31}1 80 {'0' * 32} 00 {'0' * 32} 00000000 00000001 00000000 80200001       lo\n"


def test_sockets_of_a_process(tmp_path: Path) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as unix,
    ):
        udp.bind(("127.0.0.1", 0))
        unix.bind(str(tmp_path / "a socket"))
        unix.listen()
        found = {(one.kind, one.name): one for one in look.read_process(os.getpid()).sockets}
        where = [f"127.0.0.1:{one.getsockname()[1]}" for one in (tcp, udp)]
        names = {one.name for one in look.listening_unix(look.sockets(look.PROC / "self" / "net", True))}
    assert found["tcp", where[0]].listening and not found["udp", where[1]].listening
    assert found["unix stream", str(tmp_path / "a socket")].listening
    assert not any(one.outside for one in found.values()), "its network is the one that is looked from"
    assert str(tmp_path / "a socket") in names


def test_a_process_and_its_children() -> None:
    found = look.read_process("self")
    assert found.pid == os.getpid() and "lo" in found.interfaces
    assert found.spaces["net"] == str(Path("/proc/self/ns/net").readlink())
    assert os.getpid() in look.children(os.getppid())
    with pytest.raises(EdgeError, match="cannot be looked at"):
        look.read_process(2**22 + 1)


def test_addresses() -> None:
    assert look.address("0100007F:1F90") == "127.0.0.1:8080"
    assert look.address("00000000000000000000000001000000:0050") == "[::1]:80"


def test_routes(tmp_path: Path) -> None:
    (tmp_path / "route").write_text(ROUTE)
    (tmp_path / "ipv6_route").write_text(ROUTE_6)
    assert [line.split()[0][:8] for line in look.routes(tmp_path)] == ["eth0", "00000000"]
    assert look.gateways(tmp_path) == ["192.0.2.1", "fe80::1"]
    assert look.gateways(tmp_path / "none") == []
