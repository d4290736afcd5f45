"""What a service manager such as systemd is told: starting, ready, alive, ending (sd_notify's protocol)."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass

WAIT = 1.0  # seconds for a manager that does not read
WARNING = "<4>"  # before a line, for the journal


@dataclass(frozen=True)
class Manager:
    """``address`` takes datagrams. ``watchdog``: seconds without a sign of life after which it kills; None: never."""

    address: str
    watchdog: float | None = None

    def tell(self, *lines: str) -> None:
        """Lines such as ``READY=1``, in one message. One that cannot be told is not: a service goes on without."""
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.settimeout(WAIT)
            sender.sendto("\n".join(lines).encode(), self.address)


def manager_of(environment: MutableMapping[str, str]) -> Manager | None:
    """Who started this process as a service, if anybody did. Removes the variables, so that no child answers for it."""
    address = environment.pop("NOTIFY_SOCKET", "")
    microseconds = environment.pop("WATCHDOG_USEC", "")
    pid = environment.pop("WATCHDOG_PID", "") or str(os.getpid())
    if address[:1] not in ("/", "@") or not hasattr(socket, "AF_UNIX"):
        return None
    watched = microseconds.isdecimal() and int(microseconds) > 0 and pid == str(os.getpid())
    path = "\0" + address[1:] if address[0] == "@" else address  # @: a name outside the file system
    return Manager(path, int(microseconds) / 1e6 if watched else None)


def warning_prefix(environment: Mapping[str, str], handle: int = 2) -> str:
    """What makes a line on standard error a warning for the journal; nothing where it goes elsewhere."""
    try:
        target = os.fstat(handle)
    except OSError:
        return ""
    return WARNING if environment.get("JOURNAL_STREAM") == f"{target.st_dev}:{target.st_ino}" else ""
