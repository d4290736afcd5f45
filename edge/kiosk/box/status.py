"""What is installed under a root, for people and for scripts."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from . import log, slot, store, trust
from .check import Progress
from .errors import BoxError
from .layout import Layout, current_slot, previous_slot, told
from .manifest import KEY, MANIFEST, SIGNATURE
from .service import RUNNING, Systemd

LOG_LINES = 5


@dataclass(frozen=True)
class Version:
    """What one slot holds. ``key``: the fingerprint it is signed by."""

    slot: str
    name: str
    level: str
    version: str
    created: str
    key: str
    bytes: int


@dataclass(frozen=True)
class Status:
    """``service``: active, activating, reloading, not running, or absent."""

    root: str
    current: Version | None
    previous: Version | None
    service: str
    trusted: tuple[str, ...]
    log: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def read_status(layout: Layout, systemd: Systemd | None) -> Status:
    """Raises BoxError."""
    service = "absent"
    if systemd is not None and systemd.is_installed():
        state = systemd.state()
        service = state if state in RUNNING else "not running"
    return Status(
        root=str(layout.root),
        current=version_of(layout, current_slot(layout)),
        previous=version_of(layout, previous_slot(layout)),
        service=service,
        trusted=tuple(sorted(trust.pinned(layout))),
        log=tuple(log.last_lines(layout.log, LOG_LINES)),
    )


def version_of(layout: Layout, name: str | None) -> Version | None:
    """Raises BoxError."""
    if name is None:
        return None
    folder = layout.slot(name)
    manifest = slot.read_manifest(folder)
    return Version(
        slot=name,
        name=manifest.name,
        level=manifest.level,
        version=manifest.version,
        created=manifest.created,
        key=trust.fingerprint(slot.read_part(folder, KEY)),
        bytes=sum(file.size for file in store.by_name(manifest.files).values()),
    )


def verify_current(layout: Layout, progress: Progress) -> tuple[Version, list[str]]:
    """Hash every file of the current slot: what is installed, and a line for each fault. Raises BoxError."""
    name = current_slot(layout)
    version = version_of(layout, name)
    if name is None or version is None:
        raise BoxError(f"nothing is installed in {layout.root}", "name another --root")
    folder = layout.slot(name)
    signed, signature, key = (slot.read_part(folder, part) for part in (MANIFEST, SIGNATURE, KEY))
    trust.check_signed(signed, signature, key, trust.pinned(layout))
    with told(layout.root):
        return version, slot.faults(folder, slot.read_manifest(folder), progress)
