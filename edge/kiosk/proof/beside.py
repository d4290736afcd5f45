"""``beside.py COMMAND...``: becomes the service, after starting ``attempts.py`` as a child beside it.

So the attempts are made under exactly what binds the service: its namespaces, its user, its filter of system calls. Two
sockets were passed, as systemd does: 3 is the service's, 4 is where the attempts are told. Standard library alone.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

SERVICE, TALK = 3, 4
OF_THE_SERVICE = ("NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")


def main() -> None:
    if os.fork() == 0:
        os.close(SERVICE)
        for name in OF_THE_SERVICE:
            os.environ.pop(name, None)
        attempts = str(Path(__file__).with_name("attempts.py"))
        os.execv(sys.executable, [sys.executable, "-I", attempts, str(TALK)])
    os.close(TALK)
    os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="service")
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
