"""What a service sees of systemd: a bound socket as file 3, NOTIFY_SOCKET, a watchdog, and a new start after every end.

It does what ``man systemd.service`` tells of Type=notify, WatchdogSec=, TimeoutStartSec= and Restart=always, and
nothing else: no sandbox, no limits, no pause between two starts.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

TICK = 0.05  # seconds
PATIENCE = 120.0  # seconds to wait for what must come

# Becomes the service: its socket is moved to 3, and only now is the number of its process known.
BECOME = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ["LISTEN_PID"] = os.environ["WATCHDOG_PID"] = str(os.getpid())
os.execvp(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True)
class Event:
    """``what``: started, ready, starved (the watchdog), late (the start), stopping, or ended with ``detail`` -6."""

    at: float
    what: str
    detail: str = ""


class FakeSystemd:
    """Keeps ``command`` running until the block ends. ``watchdog``, ``start``, ``abort``: seconds, as in a unit."""

    def __init__(
        self,
        command: list[str],
        listening: socket.socket,
        *,
        watchdog: float = 3.0,
        start: float = 60.0,
        abort: float = 5.0,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.command, self.listening = command, listening
        self.watchdog, self.start, self.abort = watchdog, start, abort
        self.environment = environment or {}
        self.events: list[Event] = []
        self.messages: list[str] = []  # lines that the service sent
        self._folder = tempfile.TemporaryDirectory()
        self.journal = Path(self._folder.name) / "journal"
        self.process: subprocess.Popen[bytes] | None = None
        self._ending = False
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> FakeSystemd:
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(f"{self._folder.name}/notify")
        self._notify.settimeout(TICK)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending = True
        self._thread.join()
        self._notify.close()
        self._folder.cleanup()

    def of(self, what: str) -> list[Event]:
        return [event for event in self.events if event.what == what]

    def wait(self, what: str, count: int = 1) -> Event:
        """The ``count``th event of its kind."""
        end = time.monotonic() + PATIENCE
        while len(self.of(what)) < count:
            assert time.monotonic() < end, f"{what} did not come: {self.events}, {self.said()}"
            time.sleep(TICK)
        return self.of(what)[count - 1]

    def said(self) -> str:
        """What the service wrote into its log."""
        return self.journal.read_text(encoding="utf-8", errors="replace")

    # --- the manager's thread

    def _run(self) -> None:
        with self.journal.open("ab") as journal:
            while not self._ending:
                self.process = self._spawn(journal.fileno())
                self._live(self.process)

    def _spawn(self, journal: int) -> subprocess.Popen[bytes]:
        """Each start is as the first: with the same socket, whose clients have waited."""
        passed = self.listening.fileno()
        stream = os.fstat(journal)
        self._note("started")
        return subprocess.Popen(
            [sys.executable, "-c", BECOME, str(passed), *self.command],
            stdin=subprocess.DEVNULL,
            stdout=journal,
            stderr=journal,
            pass_fds=[passed],
            env={
                **os.environ,
                **self.environment,
                "LISTEN_FDS": "1",
                "NOTIFY_SOCKET": f"{self._folder.name}/notify",
                "WATCHDOG_USEC": str(int(self.watchdog * 1e6)),
                "JOURNAL_STREAM": f"{stream.st_dev}:{stream.st_ino}",
            },
        )

    def _live(self, process: subprocess.Popen[bytes]) -> None:
        """From a start to the end, whoever brings it about."""
        ready, deadline = False, time.monotonic() + self.start
        while process.poll() is None:
            for name, value in self._receive():
                if name == "READY":
                    ready = True
                if name == "EXTEND_TIMEOUT_USEC" and not ready:
                    deadline = max(deadline, time.monotonic() + int(value) / 1e6)
                if name in ("READY", "WATCHDOG") and ready:
                    deadline = time.monotonic() + self.watchdog
            if self._ending:
                self._end(process, signal.SIGTERM)
            elif time.monotonic() > deadline:
                self._note("starved" if ready else "late")
                self._end(process, signal.SIGABRT if ready else signal.SIGTERM)
        while self._receive():  # what it said at last
            pass
        self._note("ended", str(process.returncode))

    def _receive(self) -> list[tuple[str, str]]:
        """The lines of a message, as name and value."""
        try:
            lines = self._notify.recv(4096).decode().splitlines()
        except TimeoutError:
            return []
        self.messages += lines
        for line in lines:
            if line in ("READY=1", "STOPPING=1"):
                self._note(line.removesuffix("=1").lower())
        return [(name, value) for name, _, value in (line.partition("=") for line in lines)]

    def _end(self, process: subprocess.Popen[bytes], by: signal.Signals) -> None:
        process.send_signal(by)
        try:
            process.wait(self.abort)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _note(self, what: str, detail: str = "") -> None:
        self.events.append(Event(time.monotonic(), what, detail))
