"""``store/<sha256>``: every file once, however many slots hold it. Slots hold hard links to these."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterable, Set
from pathlib import Path

from . import container, durable
from .check import Checked, Progress
from .errors import BoxError
from .layout import Layout, remove
from .manifest import File
from .target import mib

EXECUTABLE = ".x"  # ends the name of content that is to be run: hard links share one mode
BLOCK = 4096  # bytes of disk that a small file or a folder takes
MARGIN = 32 << 20  # bytes of disk that stay free


def name_of(file: File) -> str:
    return file.sha256 + (EXECUTABLE if file.executable else "")


def mode_of(file: File) -> int:
    return 0o555 if file.executable else 0o444


def by_name(files: Iterable[File]) -> dict[str, File]:
    """Each content once."""
    return {name_of(file): file for file in files}


def is_there(path: Path, size: int) -> bool:
    """A real file of this size; its content may still have suffered."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISREG(found.st_mode) and found.st_size == size


def on_disk(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def needed(layout: Layout, files: Iterable[File]) -> int:
    """Bytes of disk that these files, and their folders, still take."""
    contents = by_name(files)
    missing = [file for name, file in contents.items() if not is_there(layout.store / name, file.size)]
    folders = {part for file in files for part in Path(file.path).parents}
    return sum(on_disk(file.size) for file in missing) + len(folders) * BLOCK + MARGIN


def check_room(free: int, wanted: int, place: Path) -> None:
    """Raises BoxError."""
    if free < wanted:
        raise BoxError(
            f"{place} has {mib(free)} of disk free, and this box needs {mib(wanted)}", "make room, install again"
        )


def free_disk(place: Path) -> int:
    """Bytes, where ``place`` lies or will. Raises OSError."""
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def add(layout: Layout, checked: Checked, progress: Progress) -> list[str]:
    """Copy what is missing out of the box, or suffered in the store; returns the names of the latter.

    Every byte is hashed once more: the box may lie on a stick that tells other things each time. Data is on disk
    before it gets its name, names before anything uses them. Raises BoxError, OSError."""
    contents = by_name(checked.manifest.files)
    of, done = sum(file.size for file in contents.values()), 0
    copied: list[str] = []
    suffered: list[str] = []

    def on_bytes(nbytes: int) -> None:
        nonlocal done
        done += nbytes
        progress("copying", done, of)

    for name, file in contents.items():
        target = layout.store / name
        if is_there(target, file.size):
            if is_sound(target, file, on_bytes):
                continue
            suffered.append(name)
            done -= file.size
        copy_out(checked.box.path, file, partial(target), on_bytes)
        copied.append(name)
    os.sync()  # one wait for all the small ones; the fsync of each then finds little to do, but tells failures
    for name in copied:
        sync_file(partial(layout.store / name))
        os.replace(partial(layout.store / name), layout.store / name)  # noqa: PTH105
    durable.sync_folder(layout.store)
    return suffered


def partial(target: Path) -> Path:
    return target.with_name(f".{target.name}.partial")


def is_sound(path: Path, file: File, on_bytes: Callable[[int], None]) -> bool:
    """Content and mode are right. Raises OSError."""
    with path.open("rb") as source:
        return container.copy(source, None, file.size, on_bytes) == file.sha256 and stat.S_IMODE(
            os.fstat(source.fileno()).st_mode
        ) == mode_of(file)


def copy_out(box: Path, file: File, target: Path, on_bytes: Callable[[int], None]) -> None:
    remove(target)
    opened = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with open(opened, "wb") as out, container.reading(box) as source:  # noqa: PTH123 - a descriptor
        source.seek(file.offset)
        if container.copy(source, out, file.size, on_bytes) != file.sha256:
            raise BoxError(f"{file.path} changed while it was copied", "the stick may be failing: copy the box again")
        out.flush()
        os.fchmod(opened, mode_of(file))


def sync_file(path: Path) -> None:
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)


def sweep(layout: Layout, keep: Set[str] = frozenset()) -> None:
    """Remove what no slot links to, but for the names in ``keep``. Raises OSError."""
    for path in layout.store.iterdir():
        if path.name not in keep and path.lstat().st_nlink == 1:
            remove(path)
