"""Tries to reach something, and tells what came of it. A program of its own, on the standard library alone.

``attempts.py`` reads attempts from standard input; ``attempts.py FILE_NUMBER`` from whoever connects to that socket. A
line of JSON is an attempt, an object with ``kind`` and its arguments, and is answered by a line with ``reached``,
``errno`` and ``said``. It judges nothing: a packet that was sent and not answered is neither reached nor refused.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import json
import os
import platform
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TextIO

PATIENCE = 3.0  # seconds for an answer
AT_ONCE = 16
QUERY = b"\x0e\xd6\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x01\x00\x01"  # DNS, an A record
TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
RTM_NEWLINK, RTM_DELLINK, NLM_F_REQUEST, NLM_F_ACK, NLM_F_NEW = 16, 17, 1, 4, 0x600
IFLA_IFNAME, IFLA_LINKINFO, IFLA_INFO_KIND = 3, 18, 1
INTERFACE = "edgeproof0"
IO_URING_SETUP = 425  # on every architecture
CLONE_NEWNET = 0x40000000
SETNS = {"x86_64": 308, "aarch64": 268}

LIBC = ctypes.CDLL(None, use_errno=True)
Outcome = dict[str, Any]


def reached(said: str) -> Outcome:
    return {"reached": True, "errno": None, "said": said}


# --- names and packets


def name(host: str) -> Outcome:
    """As every program resolves names."""
    try:
        found = socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return {"reached": False, "errno": None, "said": error.strerror}
    return reached(f"is {found[0][4][0]}")


def family_of(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def where(address: str, port: int) -> Any:
    """With the number of the interface that stands behind a percent sign."""
    plain, _, scope = address.partition("%")
    return (plain, port, 0, int(scope or 0)) if ":" in address else (address, port)


def tcp(address: str, port: int) -> Outcome:
    with socket.socket(family_of(address), socket.SOCK_STREAM) as one:
        one.settimeout(PATIENCE)
        one.connect(where(address, port))
        return reached("connected")


def connect(address: str, port: int) -> Outcome:
    """A proxy is asked for a connection."""
    with socket.socket(family_of(address), socket.SOCK_STREAM) as one:
        one.settimeout(PATIENCE)
        one.connect(where(address, port))
        one.sendall(b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n")
        return reached(f"connected, and was told {one.recv(200).partition(bytes([13]))[0]!r}")


def datagram(address: str, port: int, data: bytes) -> Outcome:
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as one:
        one.settimeout(PATIENCE)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        one.connect(where(address, port))
        one.send(data)
        return reached(f"was answered with {len(one.recv(2000))} bytes")


def udp(address: str, port: int) -> Outcome:
    return datagram(address, port, b"is somebody there?")


def dns(address: str, port: int = 53) -> Outcome:
    return datagram(address, port, QUERY)


def icmp(address: str, raw: bool) -> Outcome:
    """An echo request: by a raw socket, or by the one that Linux lets some groups have."""
    is_six = ":" in address
    kind, protocol = (socket.SOCK_RAW if raw else socket.SOCK_DGRAM), (58 if is_six else 1)
    body = struct.pack("!HH", 0x0ED6, 1) + b"is somebody there?"
    head = struct.pack("!BBH", 128 if is_six else 8, 0, 0)
    words = struct.unpack(f"!{len(head + body) // 2}H", head + body)
    total = sum(words)
    total = ~((total & 0xFFFF) + (total >> 16)) & 0xFFFF
    with socket.socket(family_of(address), kind, protocol) as one:
        one.settimeout(PATIENCE)
        one.sendto(head[:2] + struct.pack("!H", total) + body, where(address, 0))
        return reached(f"was answered with {len(one.recv(2000))} bytes")


# --- other ways out of a machine


def family(number: int, type: int) -> Outcome:
    """Whether sockets of this family can be made at all."""
    with socket.socket(number, type):
        return reached("made a socket")


def interface() -> Outcome:
    """Add a network interface."""
    failure: OSError | None = None
    for kind in ("dummy", "veth", "bridge"):  # a kernel may not have all
        try:
            with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 0) as one:
                one.settimeout(PATIENCE)
                change_link(one, RTM_NEWLINK, NLM_F_NEW, kind)
                change_link(one, RTM_DELLINK, 0, "")
            return reached(f"added one of the kind {kind}")
        except OSError as error:
            failure = error
    raise failure or OSError()


def change_link(netlink: socket.socket, message: int, flags: int, kind: str) -> None:
    """Raises OSError with the kernel's answer."""
    body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + attribute(IFLA_IFNAME, INTERFACE.encode() + b"\0")
    if kind:
        body += attribute(IFLA_LINKINFO, attribute(IFLA_INFO_KIND, kind.encode()))
    head = struct.pack("=IHHII", 16 + len(body), message, NLM_F_REQUEST | NLM_F_ACK | flags, 1, 0)
    netlink.send(head + body)
    code = -struct.unpack_from("=i", netlink.recv(4096), 16)[0]
    if code:
        raise OSError(code, os.strerror(code))


def attribute(number: int, data: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(data), number) + data + bytes(-len(data) % 4)


def tunnel() -> Outcome:
    """An interface whose packets a program carries."""
    opened = os.open("/dev/net/tun", os.O_RDWR)
    try:
        fcntl.ioctl(opened, TUNSETIFF, struct.pack("16sH22x", b"edgeproof%d", IFF_TUN | IFF_NO_PI))
    finally:
        os.close(opened)
    return reached("made a tunnel")


def io_uring() -> Outcome:
    """It opens sockets without the system call that is watched."""
    return call(LIBC.syscall(IO_URING_SETUP, 1, ctypes.create_string_buffer(120)), "made a ring")


def call(result: int, said: str) -> Outcome:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    os.close(result)
    return reached(said)


def namespace() -> Outcome:
    """Enter the network of any other process."""
    found: list[Outcome] = []

    def enter() -> None:  # in a thread that ends: its network changes
        own = Path("/proc/thread-self/ns/net").readlink()
        failure: OSError = FileNotFoundError(2, "no process has another network")
        for path in Path("/proc").glob("[0-9]*/ns/net"):
            try:
                if path.readlink() != own:
                    opened = os.open(path, os.O_RDONLY)
                    found.append(call(setns(opened), f"entered that of process {path.parts[2]}"))
                    return
            except OSError as error:
                failure = error
        found.append(refused(failure))

    worker = threading.Thread(target=enter)
    worker.start()
    worker.join()
    return found[0]


def setns(opened: int) -> int:
    """``opened`` itself where it went well, which the caller closes."""
    result = LIBC.syscall(SETNS[platform.machine()], opened, CLONE_NEWNET)
    return opened if result == 0 else result


# --- other programs on this machine, which may have a network


def unix(path: str, type: int = socket.SOCK_STREAM) -> Outcome:
    """``@`` stands before a name outside the file system."""
    with contextlib.ExitStack() as stack:
        one = stack.enter_context(socket.socket(socket.AF_UNIX, type))
        one.settimeout(PATIENCE)
        if path.startswith("@"):
            one.connect("\0" + path[1:])
        else:  # from its folder: a whole path may be too long for an address, which would look like a refusal
            folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY)  # noqa: PTH120 - a text
            stack.callback(os.close, folder)
            one.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")  # noqa: PTH119
        return reached("connected")


def elsewhere(path: str) -> Outcome:
    """The same through the root folder of any process."""
    failure: OSError = FileNotFoundError(2, os.strerror(2))
    for root in Path("/proc").glob("[0-9]*/root"):
        try:
            unix(f"{root}{path}")
            return reached(f"connected through {root}")
        except OSError as error:
            if failure.errno == 2:
                failure = error
    raise failure


# --- one after another


KINDS: dict[str, Callable[..., Outcome]] = {
    function.__name__: function
    for function in (
        *(name, tcp, connect, udp, dns, icmp, family),
        *(interface, tunnel, io_uring, namespace, unix, elsewhere),
    )
}


def attempt(wanted: dict[str, Any]) -> Outcome:
    arguments = {key: value for key, value in wanted.items() if key != "kind"}
    began = time.monotonic()
    try:
        outcome = KINDS[wanted["kind"]](**arguments)
    except OSError as error:
        outcome = refused(error)
    return {**outcome, "seconds": round(time.monotonic() - began, 3)}


def refused(error: OSError) -> Outcome:
    return {"reached": False, "errno": error.errno, "said": error.strerror or str(error)}


def answer(lines: Iterable[str], out: TextIO) -> None:
    """In the order that they came in."""
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for outcome in pool.map(attempt, [json.loads(line) for line in lines]):
            out.write(json.dumps(outcome) + "\n")
            out.flush()


def main() -> None:
    if len(sys.argv) == 1:
        answer(sys.stdin, sys.stdout)
        return
    listening = socket.socket(fileno=int(sys.argv[1]))
    while True:
        connection, _ = listening.accept()
        with connection, contextlib.suppress(OSError), connection.makefile("rw", encoding="utf-8") as stream:
            answer(iter(list(stream)), stream)


if __name__ == "__main__":
    main()
