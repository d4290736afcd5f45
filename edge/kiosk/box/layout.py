"""What lies where under the root, which slot is current, and who may change it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from . import durable
from .errors import BoxError
from .units import GATE

DEFAULT_ROOT = Path("/opt/edge-kiosk")
SLOTS = ("a", "b")
FOLDER_MODE = 0o755
MOST_TEXT = 1 << 16  # bytes of a small file


@dataclass(frozen=True)
class Layout:
    root: Path

    @property
    def store(self) -> Path:
        return self.root / "store"

    @property
    def slots(self) -> Path:
        return self.root / "slots"

    @property
    def current(self) -> Path:
        """A link to the slot that is served."""
        return self.root / "current"

    @property
    def previous(self) -> Path:
        """Names the slot to go back to."""
        return self.root / "previous"

    @property
    def trusted(self) -> Path:
        return self.root / "trusted"

    @property
    def listen(self) -> Path:
        """Where the service is asked, if not at the usual address."""
        return self.root / "listen"

    @property
    def keys(self) -> Path:
        """Of ``units.KEY_FILES``, for root alone."""
        return self.root / "keys"

    @property
    def log(self) -> Path:
        return self.root / "log" / "kiosk.log"

    @property
    def trial(self) -> Path:
        """Of a slot that is being tried: its state, its socket, what it says."""
        return self.root / "trial"

    @property
    def gate(self) -> Path:
        return self.root / GATE

    @property
    def launcher(self) -> Path:
        return self.root / "edge"

    def slot(self, name: str) -> Path:
        return self.slots / name

    def new(self, name: str) -> Path:
        """A slot that is being built or tried."""
        return self.slots / f"{name}.new"

    def old(self, name: str) -> Path:
        """A slot that is being replaced."""
        return self.slots / f"{name}.old"


def current_slot(layout: Layout) -> str | None:
    """``a`` or ``b``, None where nothing is installed. Raises BoxError."""
    try:
        target = os.readlink(layout.current)  # noqa: PTH115 - the text, whatever it leads to
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BoxError(
            f"cannot read the link {layout.current}: {error.strerror}", "remove it, install again"
        ) from error
    for name in SLOTS:
        if target == f"slots/{name}" and is_folder(layout.slot(name)):
            return name
    raise BoxError(f"{layout.current} leads to no slot", "remove it, install again")


def previous_slot(layout: Layout) -> str | None:
    """The slot to go back to, if there is one."""
    name = read_small(layout.previous).strip()
    is_other = name in SLOTS and name != current_slot(layout)
    return name if is_other and is_folder(layout.slot(name)) else None


def switch(layout: Layout, name: str) -> None:
    """Make this slot the current one: a power cut leaves the link to the old one or to the new one. Raises OSError."""
    partial = layout.root / ".current.partial"
    remove(partial)
    partial.symlink_to(f"slots/{name}")
    durable.publish(partial, layout.current)


def read_small(path: Path) -> str:
    """A small text file of ours; empty when there is none. A link is none of ours. Raises BoxError."""
    try:
        opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise BoxError(f"cannot read {path}: {error.strerror}", "mend it, or remove it") from error
    with open(opened, "rb") as file:  # noqa: PTH123 - a descriptor
        if not stat.S_ISREG(os.fstat(opened).st_mode):
            raise BoxError(f"{path} is not a file", "remove it")
        return file.read(MOST_TEXT).decode("utf-8", errors="replace")


def is_folder(path: Path) -> bool:
    """A real one, no link."""
    with contextlib.suppress(OSError):
        return stat.S_ISDIR(path.lstat().st_mode)
    return False


def remove(path: Path) -> None:
    """A file, a link (not what it leads to) or a whole folder, if there is one. Raises OSError."""
    if is_folder(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            path.unlink()


def make_folder(path: Path, mode: int = FOLDER_MODE) -> None:
    """Whatever the umask is; one that is there already keeps its mode. Raises OSError."""
    if not is_folder(path):
        path.mkdir()
        path.chmod(mode)


def is_owned(path: Path) -> bool:
    """A folder that is there, and that nobody else can change."""
    try:
        check_owned(path)
    except (BoxError, OSError):
        return False
    return True


def check_owned(path: Path) -> None:
    """What others can change could lead us elsewhere in the midst of work. Raises BoxError."""
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode):
        raise BoxError(f"{path} is not a folder", "remove it, or choose another --root")
    if found.st_uid != os.geteuid():
        raise BoxError(f"{path} belongs to another user", "run this as its owner, or choose another --root")
    if found.st_mode & 0o022:
        raise BoxError(f"others may write into {path}", f"run: chmod go-w {path}")


@contextlib.contextmanager
def holding(layout: Layout) -> Iterator[None]:
    """Make the folders and keep others from changing anything meanwhile. Raises BoxError."""
    with told(layout.root):
        make_parents(layout.root)
        check_owned(layout.root)
        lock = os.open(layout.root / ".lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BoxError(f"another install or rollback works on {layout.root}", "wait for its end") from error
        with told(layout.root):
            for folder in (layout.store, layout.slots, layout.log.parent):
                make_folder(folder)
                check_owned(folder)
            yield
    finally:
        os.close(lock)


@contextlib.contextmanager
def gate_closed(layout: Layout) -> Iterator[None]:
    """Meanwhile the service does not start, whoever asks at its socket. Raises OSError."""
    gate = os.open(layout.gate, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        os.fchmod(gate, 0o600)  # whatever the umask is: nobody else may hold it
        fcntl.flock(gate, fcntl.LOCK_EX)
        yield
    finally:
        os.close(gate)


def make_parents(path: Path) -> None:
    if not path.exists():
        make_parents(path.parent)
        make_folder(path)


@contextlib.contextmanager
def told(root: Path) -> Iterator[None]:
    """An OSError of what is done to the root, in words."""
    try:
        yield
    except OSError as error:
        hints = {
            errno.ENOSPC: "the disk is full: make room; what was there before still works",
            errno.EROFS: "the disk is read-only: mount it writable",
            errno.EACCES: "run this as root, or choose another --root",
            errno.EPERM: "this file system may have no hard links: choose another --root",
            errno.EIO: "the disk or the stick may be failing",
        }
        where = error.filename or root
        raise BoxError(f"cannot change {where}: {error.strerror}", hints.get(error.errno or 0, "")) from error


def leftovers(layout: Layout) -> set[Path]:
    """What a cut left behind, and slots that are neither served nor to go back to. Raises BoxError."""
    found = {layout.trial}
    for folder in (layout.root, layout.store, layout.slots, layout.log.parent):
        if is_folder(folder):
            found |= {path for path in folder.iterdir() if path.name.startswith(".") and path.suffix == ".partial"}
    kept = {current_slot(layout), previous_slot(layout)}
    if is_folder(layout.slots):
        found |= {path for path in layout.slots.iterdir() if path.name not in kept}
    return {path for path in found if path.is_symlink() or path.exists()}


def clean(layout: Layout) -> None:
    """Raises BoxError, OSError."""
    for path in leftovers(layout):
        remove(path)
