"""The service, through ``systemctl``, on machines that systemd runs."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import durable
from .errors import BoxError
from .layout import read_small
from .units import SERVICE, SOCKET

SECONDS = 1200.0  # a first start reads the whole model
BOOTED = Path("/run/systemd/system")  # sd_booted(3)
RUNNING = ("active", "activating", "reloading")  # or about to
UNITS = Path("/etc/systemd/system")


@dataclass(frozen=True)
class Systemd:
    """``units``: the folder of unit files that an administrator writes."""

    units: Path = UNITS
    systemctl: tuple[str, ...] = ("systemctl",)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        """Raises BoxError when it cannot be run, or does not end."""
        try:
            return subprocess.run(
                [*self.systemctl, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise BoxError(f"systemctl {' '.join(arguments)} failed: {error}", "see: systemctl status") from error

    def must(self, *arguments: str) -> None:
        """Raises BoxError, with the last that it said, when it fails."""
        done = self.run(*arguments)
        if done.returncode:
            said = done.stderr.decode("utf-8", errors="replace").strip().splitlines()
            raise BoxError(
                f"systemctl {' '.join(arguments)} failed: {said[-1] if said else f'status {done.returncode}'}",
                f"see: journalctl -u {SERVICE}",
            )

    def state(self) -> str:
        """In systemd's word, such as active, activating, failed."""
        return self.run("is-active", SERVICE).stdout.decode("utf-8", errors="replace").strip()

    def is_installed(self) -> bool:
        return (self.units / SERVICE).exists()

    def stop(self) -> None:
        self.must("stop", SERVICE)

    def start(self) -> None:
        self.must("start", SERVICE)

    def apply(self, texts: Mapping[str, str]) -> None:
        """Make the unit files these, and run the service by them. Raises BoxError, OSError."""
        changed = [name for name, text in texts.items() if read_small(self.units / name) != text]
        for name in changed:
            durable.write(self.units / name, texts[name].encode())
        if changed:
            self.must("daemon-reload")
        self.must("enable", SOCKET, SERVICE)
        self.must("stop", SERVICE)
        self.must("restart" if SOCKET in changed else "start", SOCKET)
        self.must("start", SERVICE)


def find() -> Systemd | None:
    """None where another init runs."""
    return Systemd() if BOOTED.is_dir() else None
