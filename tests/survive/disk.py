"""Disks that are full or read-only, and other odd places to work in, during each operation.

    python -m tests.survive.disk [--count 100] [--only convert pull ...] [--seed 1]

Works in a namespace of its own (``unshare -rm``), where a folder is a disk of any size (a tmpfs). Half of
``--count`` are disks of several sizes, from no room beside the old result to almost enough; the other half are disks
that become full at an exact moment: before the Nth time that the program opens a file for writing, syncs, renames,
links, cuts or removes one. Beside them, for each operation: a read-only disk; files of the future (the clock was set
back by ten years); no HOME; a HOME and a TMPDIR that are not there; a full TMPDIR; umask 077 and 000.

Violations: it fails, and says so in more or less than one line of error, or with another exit code than 1, or with a
traceback; a file under its final name that is neither the old one nor the new one; an old file that is gone; the
program's own check says that something is damaged; it says that all is well, and the result is another than usual; the
same command fails once there is room, or leaves files behind. Of odd places, that it fails at all, but for the full
TMPDIR and the read-only disk, where it may fail in a line.

Columns: ``refused``, one line of error and the old result; ``done``, the usual result in spite of it.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.survive.common import Ended, Tally, parser
from tests.survive.operations import OPERATIONS, Operation

INSIDE = "EDGE_SURVIVE_NAMESPACE"  # set where the namespace is ours
FUTURE = 10 * 365 * 86400  # seconds
BIG = 1 << 30  # bytes of a disk that has room for everything
PAGE = 4096


@dataclass(frozen=True)
class Place:
    """An odd place to work in. ``must_work``: nothing is really missing there."""

    name: str
    prepare: Callable[[Disk], None]
    options: Callable[[dict[str, str]], dict[str, Any]]
    must_work: bool = True


def places(odd: Path) -> list[Place]:
    """``odd``: a folder beside the disk. What ``options`` gives goes to ``Operation.run``."""
    (full := odd / "full").mkdir()
    mount(full, PAGE)
    (full / "x").write_bytes(bytes(PAGE - 1))

    def nothing(disk: Disk) -> None:
        pass

    def without(*names: str, **more: str) -> Callable[[dict[str, str]], dict[str, Any]]:
        return lambda env: {"env": {name: env[name] for name in env if name not in names} | more}

    return [
        Place("read-only disk", lambda disk: remount(disk.folder, "ro"), lambda env: {}, must_work=False),
        Place("clock set back", to_future, lambda env: {}),
        Place("no HOME", nothing, without("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME")),
        Place("HOME is missing", nothing, without(HOME=str(odd / "nowhere"))),
        Place("TMPDIR is missing", nothing, without(TMPDIR=str(odd / "nowhere"))),
        Place("TMPDIR is full", nothing, without(TMPDIR=str(full)), must_work=False),
        Place("umask 077", nothing, lambda env: {"umask": 0o077}),
        Place("umask 000", nothing, lambda env: {"umask": 0}),
    ]


def mount(folder: Path, size: int) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "survive", str(folder)], check=True)


def remount(folder: Path, option: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{option}", str(folder)], check=True)


def unmount(folder: Path) -> None:
    subprocess.run(["umount", "-l", str(folder)], check=True)


def to_future(disk: Disk) -> None:
    """Times of earlier results as they are after a clock was set back."""
    for path in sorted(disk.folder.rglob("*"), reverse=True):
        if disk.operation.ignores(path.relative_to(disk.folder).as_posix()):
            continue
        then = path.lstat().st_mtime + FUTURE
        os.utime(path, (then, then), follow_symlinks=False)


def used(folder: Path) -> int:
    """Bytes of a disk that are taken."""
    found = os.statvfs(folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


class Disk:
    """A folder that is a disk with an operation's old result on it, for one try."""

    def __init__(self, operation: Operation, folder: Path) -> None:
        self.operation, self.folder = operation, folder

    def __enter__(self) -> Disk:
        self.folder.mkdir()
        mount(self.folder, BIG)
        self.operation.copy(self.folder)
        return self

    def __exit__(self, *_: object) -> None:
        unmount(self.folder)
        self.folder.rmdir()

    def shrink(self, room: int) -> None:
        """To ``room`` bytes beside what is there."""
        remount(self.folder, f"size={used(self.folder) // PAGE * PAGE + max(PAGE, room // PAGE * PAGE)}")

    def check(self, ended: Ended, where: str, tally: Tally, *, must_work: bool = False) -> None:
        """Judge how it ended, then let it try again with room."""
        name = self.operation.name
        if ended.code == 0:
            tally.add(name, "done")
            if self.operation.content(self.folder) != self.operation.new:
                tally.violation(name, f"{where}: it ended well, with another result")
        else:
            tally.add(name, "refused")
            if must_work or ended.complaint:
                tally.violation(name, f"{where}: {ended.complaint or ended.errors.strip()[-300:]}")
        for wrong in self.operation.wrong(self.folder):
            tally.violation(name, f"{where}: {wrong}")
        remount(self.folder, f"rw,size={BIG}")
        (self.folder / FILLER).unlink(missing_ok=True)
        if ended.code:
            again = self.operation.run(self.folder)
            if again.code or self.operation.content(self.folder) != self.operation.new:
                tally.violation(name, f"{where}: the next run, with room: {again.errors.strip()[-300:]}")
        if left := self.operation.left_over(self.folder):
            tally.violation(name, f"{where}: it leaves {', '.join(sorted(left))}")


FILLER = ".filler"


def peak_room(operation: Operation, folder: Path) -> int:
    """Bytes beside the old result that an undisturbed run has on the disk in the end; what it takes meanwhile may be
    more."""
    with Disk(operation, folder) as disk:
        before = used(folder)
        assert operation.run(folder).code == 0
        return max(PAGE * 4, used(disk.folder) - before, biggest(folder))


def biggest(folder: Path) -> int:
    """A result is beside the one that it replaces until it has its name."""
    return max(path.lstat().st_size for path in folder.rglob("*"))


def starve(operation: Operation, folder: Path, count: int, rng: random.Random, tally: Tally) -> None:
    room = peak_room(operation, folder)
    tally.figures[f"{operation.name} room"] = room
    sizes = count // 2
    for index in range(sizes):
        size = round(room * 1.1 * (index + rng.random() * (index > 0)) / sizes)
        with Disk(operation, folder) as disk:
            disk.shrink(size)
            tally.add(operation.name, "small disks")
            disk.check(operation.run(folder), f"{size} bytes of room", tally)
    moments = list(range(operation.changes, 0, -1))
    rng.shuffle(moments)
    for index in range(count - sizes):
        moment = moments[index % len(moments)]
        with Disk(operation, folder) as disk:
            disk.shrink(room * 3 + (64 << 20))
            tally.add(operation.name, "disks that fill")
            ended = operation.run(folder, ["fill", str(moment), str(folder / FILLER)])
            disk.check(ended, f"full before change {moment} of {operation.changes}", tally)


def displace(operation: Operation, folder: Path, odd: list[Place], tally: Tally) -> None:
    for place in odd:
        with Disk(operation, folder) as disk:
            place.prepare(disk)
            tally.add(operation.name, "odd places")
            options = place.options(operation.environment(folder))
            disk.check(operation.run(folder, **options), place.name, tally, must_work=place.must_work)


def survive(names: list[str], count: int, seed: int) -> Tally:
    """``count`` full disks in all, shared out among the operations, and every odd place for each."""
    tally, rng = Tally(), random.Random(seed)
    with tempfile.TemporaryDirectory(prefix="survive-") as scratch:
        (odd := Path(scratch) / "odd").mkdir()
        known = places(odd)
        for index, name in enumerate(names):
            operation = OPERATIONS[name](name)
            operation.ready(Path(scratch))
            folder = Path(scratch) / "disk"
            displace(operation, folder, known, tally)
            starve(operation, folder, count // len(names) + (index < count % len(names)), rng, tally)
            shutil.rmtree(operation.before)
            print(f"{name}: done", flush=True)
        unmount(odd / "full")
    return tally


def enter_namespace() -> None:
    """Run this program again as root of a namespace of its own, where it may mount."""
    command = ["unshare", "-rm", sys.executable, "-m", "tests.survive.disk", *sys.argv[1:]]
    os.execvpe(command[0], command, {**os.environ, INSIDE: "1"})


def main() -> int:
    options = parser("Full, read-only and odd disks.", list(OPERATIONS), 100).parse_args()
    if not os.environ.get(INSIDE):
        enter_namespace()
    return survive(options.only, options.count, options.seed).finish("disk")


if __name__ == "__main__":
    sys.exit(main())
