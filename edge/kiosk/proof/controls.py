"""What attempts can reach where nothing hinders them: listeners that the proof opens itself, on this machine alone.

An attempt that fails inside proves something only if it goes well outside.
"""

from __future__ import annotations

import contextlib
import selectors
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

LOOPBACK, LOOPBACK_6 = "127.0.0.1", "::1"
TICK, PATIENCE = 0.2, 3.0  # seconds: between two looks, and for who has connected
ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


@dataclass(frozen=True)
class Controls:
    """Ports, on the loopback; ``tcp6`` is 0 where this machine has no IPv6. ``paths``: of Unix sockets."""

    tcp: int
    tcp6: int
    udp: int
    abstract: str
    paths: tuple[str, ...]


@contextlib.contextmanager
def listening(folders: Sequence[str]) -> Iterator[Controls]:
    """``folders``: where Unix sockets are put, as far as this user may. Raises OSError."""
    with contextlib.ExitStack() as stack:

        def opened(family: int, type: int, address: object) -> socket.socket:
            one = stack.enter_context(socket.socket(family, type))
            one.bind(address)  # pyright: ignore[reportArgumentType]
            if type == socket.SOCK_STREAM:
                one.listen()
            one.setblocking(False)
            return one

        tcp = opened(socket.AF_INET, socket.SOCK_STREAM, (LOOPBACK, 0))
        udp = opened(socket.AF_INET, socket.SOCK_DGRAM, (LOOPBACK, 0))
        abstract = opened(socket.AF_UNIX, socket.SOCK_STREAM, f"\0edge-proof-{tcp.getsockname()[1]}")
        all_of_them, tcp6, paths = [tcp, udp, abstract], 0, []
        with contextlib.suppress(OSError):
            all_of_them.append(opened(socket.AF_INET6, socket.SOCK_STREAM, (LOOPBACK_6, 0)))
            tcp6 = all_of_them[-1].getsockname()[1]
        for folder in folders:
            with contextlib.suppress(OSError):
                own = Path(tempfile.mkdtemp(prefix="edge-proof-", dir=folder))
                stack.callback(shutil.rmtree, own, ignore_errors=True)
                own.chmod(0o755)
                all_of_them.append(opened(socket.AF_UNIX, socket.SOCK_STREAM, f"{own}/control"))
                (own / "control").chmod(0o666)  # so that only where it lies can hinder
                paths.append(f"{own}/control")
        ending = threading.Event()
        answering = threading.Thread(target=answer, args=(all_of_them, ending))
        answering.start()
        try:
            name = abstract.getsockname().decode().replace("\0", "@")
            yield Controls(tcp.getsockname()[1], tcp6, udp.getsockname()[1], name, tuple(paths))
        finally:
            ending.set()
            answering.join()


def answer(listeners: Sequence[socket.socket], ending: threading.Event) -> None:
    """Everything is taken: connections as a proxy would, packets are sent back."""
    with selectors.DefaultSelector() as selector:
        for one in listeners:
            selector.register(one, selectors.EVENT_READ)
        while not ending.is_set():
            for key, _ in selector.select(TICK):
                with contextlib.suppress(OSError):
                    take(key.fileobj)  # pyright: ignore[reportArgumentType]


def take(one: socket.socket) -> None:
    if one.type == socket.SOCK_DGRAM:
        data, sender = one.recvfrom(2000)
        one.sendto(data, sender)
        return
    connection, _ = one.accept()
    with connection:
        connection.settimeout(PATIENCE)
        if connection.recv(2000):
            connection.sendall(ESTABLISHED)
