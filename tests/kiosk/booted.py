"""A real systemd, as process 1 of namespaces of its own, on an overlay over this machine's files.

Nothing outside changes: what it writes lies in memory, it has no network but its own loopback, and of the system's
units it starts none by itself.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SYSTEMD = Path("/lib/systemd/systemd")
PATIENCE = 60.0  # seconds
PLAIN_PYTHON = str(Path(sys.executable).resolve())  # an environment may lie in a folder that is another one in there

# Arguments: a folder to mount on, one to copy over the root, then pairs of folders to be seen elsewhere.
BOOT = r"""
set -eu
place=$1 files=$2
shift 2
mount -t tmpfs tmpfs "$place"
mkdir "$place/upper" "$place/work" "$place/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$place/upper,workdir=$place/work" "$place/root"
cd "$place/root"
rm -rf usr/lib/systemd/system-generators usr/lib/systemd/system/*.target.wants etc/systemd/system/*.wants
cp -a "$files/." .
while [ $# -gt 0 ]; do
    mkdir -p "./$2"
    mount --bind "$1" "./$2"
    shift 2
done
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
mount --rbind /dev dev
mkdir old
pivot_root . old
umount -l old
mount --make-rshared /
ip link set lo up
echo "$(head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \n')" > /etc/machine-id
container=test exec /lib/systemd/systemd --system --unit=test.target --show-status=0 --log-target=console
"""
TARGET = "[Unit]\nDescription=Nothing but what the test starts\nDefaultDependencies=no\n"
NAMESPACES = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--propagation", "private")


@dataclass(frozen=True)
class Booted:
    pid: int  # of its process 1, out here

    def run(self, *command: str, check: bool = True) -> str:
        """In there. What it printed."""
        inside = ["nsenter", "-t", str(self.pid), "-a", "--", *command]
        done = subprocess.run(inside, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
        assert done.returncode == 0 or not check, f"{command}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, *command: str) -> subprocess.Popen[str]:
        """In there, beside what follows."""
        inside = ["nsenter", "-t", str(self.pid), "-a", "--", *command]
        return subprocess.Popen(inside, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)

    def show(self, unit: str, *names: str) -> dict[str, str]:
        """Properties of a unit."""
        told = self.run("systemctl", "show", unit, *(f"--property={name}" for name in names))
        return dict(line.split("=", 1) for line in told.splitlines())


def missing() -> str:
    """What this machine lacks; empty where a systemd can be booted."""
    if getattr(os, "geteuid", lambda: 1)() != 0:
        return "namespaces need root"
    if not SYSTEMD.exists():
        return f"there is no {SYSTEMD}"
    if lacking := [name for name in ("unshare", "nsenter", "pivot_root", "ip") if shutil.which(name) is None]:
        return f"there is no {lacking[0]}"
    kinds = Path("/proc/filesystems").read_text().split()
    if "overlay" not in kinds or cgroups() is None:
        return "the kernel has no overlay file system, or no cgroup2 is mounted"
    return ""


def cgroups() -> Path | None:
    """Where cgroup2 is mounted."""
    mounts = (line.split() for line in Path("/proc/self/mounts").read_text().splitlines())
    return next((Path(mount[1]) for mount in mounts if mount[2] == "cgroup2"), None)


@contextmanager
def booted(place: Path, files: Path, shown: Mapping[str, str]) -> Iterator[Booted]:
    """``place``: an empty folder. ``files`` are copied over the root. ``shown``: folder -> where it is seen, too."""
    group = cgroups()
    assert group is not None
    own = group / f"edge-test-{os.getpid()}"
    own.mkdir()
    units = files / "etc" / "systemd" / "system"
    units.mkdir(parents=True, exist_ok=True)
    (units / "test.target").write_text(TARGET)
    pairs = [text for pair in shown.items() for text in pair]
    boot = ["sh", "-c", BOOT, "sh", str(place), str(files), *pairs]
    enter = 'echo $$ > "$1/cgroup.procs"; shift; exec unshare "$@"'
    with (place.parent / "boot.log").open("wb") as log:
        outside = subprocess.Popen(
            ["sh", "-c", enter, "sh", str(own), *NAMESPACES, "--fork", "--kill-child", "--", *boot],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            yield wait_for(outside, place.parent / "boot.log")
        finally:
            outside.kill()
            outside.wait()
            remove_group(own)


def wait_for(outside: subprocess.Popen[bytes], log: Path) -> Booted:
    children = Path(f"/proc/{outside.pid}/task/{outside.pid}/children")
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end and outside.poll() is None:
        if found := children.read_text().split():
            one = Booted(int(found[0]))
            if one.run("systemctl", "is-system-running", check=False).strip() in ("running", "degraded"):
                return one
        time.sleep(0.1)
    raise AssertionError(f"systemd did not start: {log.read_text(errors='replace')}")


def remove_group(group: Path) -> None:
    """Once its processes are gone."""
    (group / "cgroup.kill").write_text("1")
    end = time.monotonic() + PATIENCE
    for folder in [*sorted((path for path in group.rglob("*") if path.is_dir()), reverse=True), group]:
        while True:
            try:
                folder.rmdir()
                break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.05)
