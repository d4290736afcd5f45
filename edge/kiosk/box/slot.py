"""A slot: the files of one box as a tree of hard links, with its signed manifest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from . import durable, store
from .check import Checked, Progress
from .errors import BoxError
from .layout import Layout, is_folder, make_folder, remove
from .manifest import COMMON, KEY, MANIFEST, SIGNATURE, File, Manifest, parse

MOST_MANIFEST = 64 << 20  # bytes


def tree(manifest: Manifest) -> dict[str, File]:
    """Path in the slot -> file. Libraries are looked for in one folder, so each level's gets the common ones too."""
    found = {file.path: file for file in manifest.files}
    for file in manifest.files:
        parts = file.path.split("/")
        if parts[:2] == ["lib", COMMON] and len(parts) == 3:
            found.update({f"lib/{level}/{parts[2]}": file for level in manifest.cpu})
    return found


def build(layout: Layout, checked: Checked, folder: Path) -> None:
    """Raises OSError."""
    remove(folder)
    make_folder(folder)
    folders = {folder}
    for path, file in tree(checked.manifest).items():
        target = folder / path
        for parent in reversed(target.relative_to(folder).parents):
            if folder / parent not in folders:
                make_folder(folder / parent)
                folders.add(folder / parent)
        os.link(layout.store / store.name_of(file), target, follow_symlinks=False)
    for name in (MANIFEST, SIGNATURE, KEY):
        durable.write(folder / name, checked.box.members[name], 0o444)
    os.sync()
    for one in folders:
        durable.sync_folder(one)


def read_manifest(folder: Path) -> Manifest:
    """Of a slot. Raises BoxError."""
    return parse(read_part(folder, MANIFEST))


def read_part(folder: Path, name: str) -> bytes:
    """One of the manifest's three files. Raises BoxError."""
    try:
        with (folder / name).open("rb") as file:
            return file.read(MOST_MANIFEST)
    except OSError as error:
        raise BoxError(f"cannot read {folder / name}: {error.strerror}", "install the box again") from error


def faults(folder: Path, manifest: Manifest, progress: Progress) -> list[str]:
    """What is missing, damaged or too much in a slot, a line each. Raises OSError."""
    wanted = tree(manifest)
    of, done, found = sum(file.size for file in wanted.values()), 0, []
    known: dict[int, str] = {}  # hard links to one inode are hashed once

    def on_bytes(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        progress("checking", min(done, of), of)

    for path, file in wanted.items():
        target = folder / path
        if not store.is_there(target, file.size):
            found.append(f"{path} is missing, or has another size")
        elif known.get(target.lstat().st_ino) == store.name_of(file):
            on_bytes(file.size)
        elif store.is_sound(target, file, on_bytes):
            known[target.lstat().st_ino] = store.name_of(file)
        else:
            found.append(f"{path} is damaged")
    extra = set(names(folder)) - set(wanted) - {MANIFEST, SIGNATURE, KEY}
    return found + [f"{path} is not of the box" for path in sorted(extra)]


def names(folder: Path) -> Iterator[str]:
    """Everything in the slot that is no folder."""
    for parent, folders, files in os.walk(folder):
        links = [name for name in folders if not is_folder(Path(parent) / name)]
        for name in [*files, *links]:
            yield str((Path(parent) / name).relative_to(folder))
