"""What is tried, and what an outcome means."""

from __future__ import annotations

import errno

import pytest

from edge.kiosk.box.units import NOTIFY
from edge.kiosk.proof import machine, tries
from edge.kiosk.proof.controls import Controls
from edge.kiosk.proof.look import Socket
from edge.kiosk.proof.machine import Machine
from edge.kiosk.proof.tries import ABSENT, ALLOWED, HOST, NOT_THERE, REFUSED, THROUGH, UNCLEAR, Try, verdict

CONTROLS = Controls(4001, 4006, 5001, "@own", ("/run/edge-proof-x/control", "/tmp/edge-proof-y/control"))
KIOSK = Machine(
    resolvers=["192.0.2.53"],
    gateways=["192.0.2.1"],
    addresses=["192.0.2.7"],
    proxies=[("192.0.2.9", 3128)],
    agents={"the SSH agent": "/tmp/ssh-1/agent"},
    sockets=[
        Socket("1", "unix stream", "/run/dbus/system_bus_socket", True, True),
        Socket("2", "unix datagram", "/var/odd|name", False, True),
        Socket("3", "unix stream", "@desktop", True, True),
    ],
    hosts="192.0.2.80 pypi.org",
)


def outcome(number: int | None = None, reached: bool = False) -> dict[str, object]:
    return {"reached": reached, "errno": number, "said": "words", "seconds": 0.0}


TCP = Try("TCP", "", {"kind": "tcp", "address": "192.0.2.1", "port": 80})
LOCAL = Try("TCP", "", {"kind": "tcp", "address": "127.0.0.1", "port": 80})
UNIX = Try("", "", {"kind": "unix", "path": "/run/x"}, there="is there")


@pytest.mark.parametrize(
    "one, came, means",
    (
        (TCP, outcome(reached=True), THROUGH),
        (TCP, outcome(errno.ENETUNREACH), REFUSED),
        (TCP, outcome(errno.EAFNOSUPPORT), REFUSED),
        (TCP, outcome(errno.ECONNREFUSED), UNCLEAR),  # another machine said so
        (TCP, outcome(errno.EHOSTUNREACH), UNCLEAR),  # somebody was looked for
        (TCP, outcome(None), UNCLEAR),  # waited for an answer
        (LOCAL, outcome(errno.ECONNREFUSED), REFUSED),  # by the sandbox's own loopback
        (UNIX, outcome(errno.ENOENT), REFUSED),
        (UNIX, outcome(errno.ECONNREFUSED), REFUSED),
        (UNIX, outcome(errno.EPROTOTYPE), UNCLEAR),  # somebody listens there, for another kind
        (UNIX, outcome(errno.EAGAIN), UNCLEAR),  # somebody listens there, and is busy
        (Try("", "", {"kind": "unix", "path": "/x"}, there=NOT_THERE), outcome(errno.ENOENT), ABSENT),
        (Try("", "", {"kind": "unix", "path": NOTIFY}), outcome(reached=True), ALLOWED),
        (Try("", "", {"kind": "name", "host": "example.com"}), outcome(None), REFUSED),
        (Try("", "", {"kind": "name", "host": "example.com"}), outcome(reached=True), THROUGH),
    ),
)
def test_verdicts(one: Try, came: dict[str, object], means: str) -> None:
    assert verdict(one, came) == means


def test_words() -> None:
    assert tries.outcome_text(outcome(errno.ENETUNREACH)) == "words (ENETUNREACH)"
    assert tries.outcome_text(outcome()) == "words"


def test_what_this_machine_has_is_tried() -> None:
    wanted = tries.tries(KIOSK, CONTROLS)
    arguments = [one.arguments for one in wanted]
    for expected in (
        {"kind": "dns", "address": "192.0.2.53", "port": 53},
        {"kind": "tcp", "address": "192.0.2.1", "port": 443},
        {"kind": "tcp", "address": "192.0.2.7", "port": 80},
        {"kind": "connect", "address": "192.0.2.9", "port": 3128},
        {"kind": "unix", "path": "/tmp/ssh-1/agent", "type": 1},
        {"kind": "unix", "path": "/var/odd|name", "type": 2},
        {"kind": "unix", "path": "@desktop", "type": 1},
    ):
        assert expected in arguments
    hosts = {one["host"] for one in arguments if one["kind"] == "name"}
    assert "example.com" in hosts and "pypi.org" not in hosts, "a name that needs no network proves nothing"
    paths = [one["path"] for one in arguments if one["kind"] == "unix"]
    assert paths.count("/run/dbus/system_bus_socket") == 1


def test_each_kind_has_a_control_that_leaves_no_machine() -> None:
    wanted = tries.tries(KIOSK, CONTROLS)
    kinds = {one.arguments["kind"] for one in wanted}
    controlled = [one for one in wanted if one.control]
    # Names go by the machine's own name servers; there may be no process with another network.
    assert kinds - {one.arguments["kind"] for one in controlled} == {"name", "namespace"}
    assert {"tcp", "udp", "dns", "connect", "unix"} <= {one.arguments["kind"] for one in controlled if one.needed}
    for one in controlled:
        if one.control == HOST and "address" in one.arguments:
            assert one.arguments["address"] in ("127.0.0.1", "::1")


def test_the_machine_as_files_tell_it() -> None:
    assert machine.resolvers("# a\nnameserver 127.0.0.53\nnameserver fe80::1%eth0\nnameserver x\nsearch y\n") == [
        "127.0.0.53",
        "fe80::1",
    ]
    environment = {
        "http_proxy": "http://user:word@192.0.2.9:3128",
        "HTTPS_PROXY": "localhost:8888",
        "ALL_PROXY": "socks5://proxy.example:1080",
        "ftp_proxy": "http://192.0.2.9:notaport",
        "SSH_AUTH_SOCK": "/tmp/agent",
        "DBUS_SESSION_BUS_ADDRESS": "unix:path=/run/user/1000/bus,guid=1",
        "DOCKER_HOST": "tcp://192.0.2.9:2375",
    }
    assert machine.proxies(environment) == [("127.0.0.1", 8888), ("192.0.2.9", 3128)]
    assert machine.agents(environment) == {
        "the SSH agent": "/tmp/agent",
        "the session's D-Bus": "/run/user/1000/bus",
    }
    assert machine.read_machine({}).sockets is not None
