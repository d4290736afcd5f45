"""What is told to a service manager, and how."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.server import notify
from edge.server.notify import Manager, manager_of, warning_prefix

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no Unix sockets")


@pytest.fixture(params=["path", "abstract"])
def listener(request: pytest.FixtureRequest) -> Iterator[tuple[str, socket.socket]]:
    """NOTIFY_SOCKET, and what hears there."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        name = f"{folder}/notify"
        heard.bind(name if request.param == "path" else f"\0{name}")
        heard.settimeout(5)
        yield (name if request.param == "path" else f"@{name}"), heard


def test_lines_come_in_one_message(listener: tuple[str, socket.socket]) -> None:
    address, heard = listener
    manager = manager_of({"NOTIFY_SOCKET": address})
    assert manager is not None and manager.watchdog is None
    manager.tell("READY=1", "STATUS=答える")
    assert heard.recv(4096).decode() == "READY=1\nSTATUS=答える"


@pytest.mark.parametrize("address", [None, "", "relative", "vsock:2:1234"])
def test_nobody_to_tell(address: str | None) -> None:
    assert manager_of({} if address is None else {"NOTIFY_SOCKET": address}) is None


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 30.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(os.getpid())}, 0.5),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdogs_time(given: dict[str, str], seconds: float | None) -> None:
    environment = {"NOTIFY_SOCKET": "/run/notify", "HOME": "/", **given}
    assert manager_of(environment) == Manager("/run/notify", seconds)
    assert environment == {"HOME": "/"}, "no child answers for this process"


def test_a_manager_that_is_gone_or_does_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server goes on; if it is to be killed for it, the manager will see to that."""
    Manager(str(tmp_path / "nowhere")).tell("WATCHDOG=1")
    Manager("/" + "x" * 200).tell("WATCHDOG=1")
    monkeypatch.setattr(notify, "WAIT", 0.01)
    name = f"\0edge-deaf-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as deaf:
        deaf.bind(name)
        for _ in range(1000):
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
                sender.setblocking(False)
                try:
                    sender.sendto(b"x", name)
                except BlockingIOError:
                    break
        else:
            pytest.fail("it is never full")
        Manager(name).tell("WATCHDOG=1")


def test_warnings_for_the_journal(tmp_path: Path) -> None:
    with (tmp_path / "log").open("w") as log:
        stream = os.fstat(log.fileno())
        journal = {"JOURNAL_STREAM": f"{stream.st_dev}:{stream.st_ino}"}
        assert warning_prefix(journal, log.fileno()) == "<4>"
        assert warning_prefix({}, log.fileno()) == ""
        with (tmp_path / "other").open("w") as other:
            assert warning_prefix(journal, other.fileno()) == "", "it was sent elsewhere since"
    assert warning_prefix({"JOURNAL_STREAM": "1:1"}, 10_000) == "", "standard error may be closed"
