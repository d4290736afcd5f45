"""Install a box: check all of it, copy what is missing, build the other slot, try it, switch to it.

A cut at any moment leaves the current slot as it was, or the new one current and whole. The order of the last steps is
what that rests on: see ``switch_to``.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import check, durable, log, slot, store, trial, trust, units
from .check import Checked, Progress
from .errors import BoxError
from .layout import (
    SLOTS,
    Layout,
    clean,
    current_slot,
    gate_closed,
    holding,
    is_folder,
    is_owned,
    previous_slot,
    read_small,
    remove,
    switch,
    told,
)
from .manifest import LAUNCH, MANIFEST, Manifest
from .service import RUNNING, Systemd
from .target import misfits, read_target

MIN_SPEED = 0.8  # of the planned decode speed


@dataclass(frozen=True)
class Ways:
    """How an install goes: ``key`` is a fingerprint that was told, ``min_speed`` a part of the planned decode speed,
    ``listen`` where the service is to be asked from now on; without ``systemd`` no service is touched."""

    key: str | None = None
    min_speed: float = MIN_SPEED
    systemd: Systemd | None = None
    listen: str | None = None


def install(path: Path, layout: Layout, ways: Ways, say: Callable[[str], None], progress: Progress) -> Manifest:
    """Raises BoxError; then what was current still is."""

    def note(text: str) -> None:
        say(text)
        log.write(layout.log, text)

    try:
        checked = check_all(path, layout, ways, progress)
        with holding(layout):
            clean(layout)
            if is_installed_and_sound(layout, checked, progress):
                note(f"{title(checked.manifest)} is installed already, and sound")
                if ways.systemd is not None:
                    serve(layout, checked.manifest, ways.systemd, ways.listen)
            else:
                put_in_place(layout, checked, ways, note, progress)
            clean(layout)
            store.sweep(layout)
    except BoxError as error:
        if is_owned(layout.log.parent):
            log.write(layout.log, f"{path.name} was not installed: {error}")
        raise
    return checked.manifest


def check_all(path: Path, layout: Layout, ways: Ways, progress: Progress) -> Checked:
    """Everything that can be known before something is written. Raises BoxError."""
    checked = check.check_box(path, trust.trusted(layout, ways.key), progress)
    if found := misfits(checked.manifest, read_target()):
        raise BoxError(". ".join(found), "this box cannot run here")
    if ways.systemd is not None:
        unit_files(layout, checked.manifest, ways.listen)
    elif ways.listen is not None:
        raise BoxError(
            "--listen is for the service, and none is touched here", "edge serve has --host, --port, --socket"
        )
    if not layout.root.exists():
        with told(layout.root):
            wanted = store.needed(layout, checked.manifest.files)
            store.check_room(store.free_disk(layout.root), wanted, layout.root)
    return checked


def is_installed_and_sound(layout: Layout, checked: Checked, progress: Progress) -> bool:
    """Raises BoxError, OSError."""
    name = current_slot(layout)
    if name is None or not is_same(layout, name, checked):
        return False
    return not slot.faults(layout.slot(name), checked.manifest, progress)


def is_same(layout: Layout, name: str, checked: Checked) -> bool:
    """The slot is of this very box."""
    try:
        return slot.read_part(layout.slot(name), MANIFEST) == checked.box.manifest
    except BoxError:
        return False


def put_in_place(layout: Layout, checked: Checked, ways: Ways, note: Callable[[str], None], progress: Progress) -> None:
    """Raises BoxError, OSError."""
    manifest, serving = checked.manifest, current_slot(layout)
    name = next(one for one in SLOTS if one != serving)
    new = layout.new(name)
    store.sweep(layout, keep=store.by_name(manifest.files).keys())
    make_room(layout, manifest, note)
    paused = False
    try:
        for one in store.add(layout, checked, progress):
            note(f"store/{one} was damaged on this disk, and was copied again")
        slot.build(layout, checked, new)
        with gate_closed(layout):
            paused = pause(ways.systemd)
            passed = trial.try_slot(layout, new, manifest, ways.min_speed, note)
            if passed.planned:
                note(f"it answers, and decodes {passed.speed:.2f} tokens/s of {passed.planned:.2f} planned")
            trust.pin(layout, checked.key)
            write_launcher(layout)
            switch_to(layout, name, goes_back=serving is not None and not is_same(layout, serving, checked))
    except BaseException:
        try:
            remove(new)
            store.sweep(layout)
        finally:
            if ways.systemd is not None and paused:
                ways.systemd.start()
        raise
    note(f"switched to slot {name}: {title(manifest)}, signed by {checked.key}")
    if ways.systemd:
        try:
            serve(layout, manifest, ways.systemd, ways.listen)
        except BoxError as error:
            put_back(layout, name, serving, ways.systemd, note, error)


def make_room(layout: Layout, manifest: Manifest, note: Callable[[str], None]) -> None:
    """The version to go back to is kept until the new one is there, unless only its room is enough. Raises BoxError,
    OSError."""
    wanted = store.needed(layout, manifest.files)
    previous = previous_slot(layout)
    if store.free_disk(layout.root) < wanted and previous is not None:
        remove(layout.previous)
        durable.sync_folder(layout.root)
        clean(layout)
        store.sweep(layout, keep=store.by_name(manifest.files).keys())
        note("the version to go back to was removed, to make room")
    store.check_room(store.free_disk(layout.root), wanted, layout.root)


def pause(systemd: Systemd | None) -> bool:
    """Stop the service for the trial, if it runs: its visitors would slow the trial, and two models may not fit the
    memory. Whoever asks meanwhile waits at its socket, where the gate is closed. Raises BoxError."""
    if systemd is None or systemd.state() not in RUNNING:
        return False
    systemd.stop()
    return True


def switch_to(layout: Layout, name: str, goes_back: bool) -> None:
    """Slot ``name`` has been tried under its other name. First ``previous`` names the slot that is still current,
    which counts as none until the link changes; then the new slot gets its name; the link is last. Raises OSError."""
    serving = current_slot(layout)
    if goes_back and serving is not None:
        durable.write(layout.previous, f"{serving}\n".encode())
    else:
        remove(layout.previous)
    if is_folder(layout.slot(name)):
        durable.publish(layout.slot(name), layout.old(name))
    durable.publish(layout.new(name), layout.slot(name))
    switch(layout, name)


def put_back(
    layout: Layout,
    name: str,
    serving: str | None,
    systemd: Systemd,
    note: Callable[[str], None],
    error: BoxError,
) -> None:
    """The service does not start with the new slot: serve the old one again. Raises BoxError always."""
    if serving is None:
        raise error
    note(f"the service does not start with slot {name}: {error}")
    switch(layout, serving)
    remove(layout.slot(name))
    if is_folder(layout.old(name)):
        durable.publish(layout.old(name), layout.slot(name))
        durable.write(layout.previous, f"{name}\n".encode())
    else:
        remove(layout.previous)
    store.sweep(layout)
    serve(layout, slot.read_manifest(layout.slot(serving)), systemd)
    note(f"slot {serving} is served again")
    raise BoxError(f"the service does not start with the new version, so the old one is back: {error.message}")


def apply(layout: Layout, systemd: Systemd, listen: str | None, say: Callable[[str], None]) -> None:
    """Restart the service by units that fit what is there now: keys, and where it is to be asked. Raises BoxError."""
    name = current_slot(layout)
    if name is None:
        raise BoxError(f"nothing is installed in {layout.root}", "install a box first")
    with holding(layout):
        serve(layout, slot.read_manifest(layout.slot(name)), systemd, listen)
        say(f"it is served at {read_small(layout.listen).strip() or units.LISTEN}")


def serve(layout: Layout, manifest: Manifest, systemd: Systemd, listen: str | None = None) -> None:
    """Run the service by units that fit the current slot; ``listen`` is kept once it does. Raises BoxError, OSError."""
    with told(systemd.units):
        systemd.apply(unit_files(layout, manifest, listen))
    if listen is not None:
        durable.write(layout.listen, f"{listen}\n".encode())


def unit_files(layout: Layout, manifest: Manifest, listen: str | None = None) -> dict[str, str]:
    """Raises BoxError."""
    kept = read_small(layout.listen).strip()
    with told(layout.keys):
        keys = [name for name in units.KEY_FILES if (layout.keys / name).is_file()]
    return units.units(str(layout.root), manifest, listen or kept or units.LISTEN, sys.executable, keys)


def write_launcher(layout: Layout) -> None:
    """``ROOT/edge``: the command line of whatever slot is current. Raises OSError."""
    python, launch = shlex.quote(sys.executable), shlex.quote(str(layout.current / LAUNCH))
    durable.write(layout.launcher, f'#!/bin/sh\nexec {python} {launch} "$@"\n'.encode(), 0o755)


def title(manifest: Manifest) -> str:
    return f"{manifest.name} {manifest.level}, edge {manifest.version}, packed {manifest.created}"
