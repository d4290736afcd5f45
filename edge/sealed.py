"""Files that only this device can have written: authenticated with a key that never leaves it (keyed BLAKE2b).

    magic · what it is about, a digest of 32 bytes · content · a MAC of 32 bytes over all before it

Nobody's bytes but our own are looked at: the MAC is compared before anything else, and the whole is only read where its
size can be right. Not encrypted: what is secret has no place in it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from convert.durable import publish
from convert.errors import EdgeError

MAGIC = b"edge-sealed-1\n\0\0"
KEY = DIGEST = MAC = 32  # bytes
AROUND = len(MAGIC) + DIGEST + MAC
PARTIAL = ".partial"  # ends the name of a file that is not whole yet


class SealError(EdgeError):
    """The file is not one that this device wrote, or not about what is wanted."""


def read(path: Path, key: bytes, about: bytes, most: int) -> bytearray:
    """The content, of at most ``most`` bytes. Raises SealError, OSError."""
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        if not AROUND <= size <= AROUND + most:
            raise SealError(f"{path.name} has {size} bytes")
        head, content, mac = bytearray(len(MAGIC) + DIGEST), bytearray(size - AROUND), bytearray(MAC)
        for part in (head, content, mac):
            fill(file, part)
    if not hmac.compare_digest(mac, mac_of(key, (head, content))):
        raise SealError(f"{path.name} was damaged or changed, or is another device's")
    if head != MAGIC + about:
        raise SealError(f"{path.name} is about something else")
    return content


def write(path: Path, key: bytes, about: bytes, content: bytes | bytearray) -> None:
    """Whole or not at all. Raises OSError."""
    head = MAGIC + about
    write_private(path, (head, content, mac_of(key, (head, content))))


def read_key(path: Path) -> bytes:
    """Raises SealError for one that is no key or that others can read; OSError."""
    with opened(path) as file:
        found = os.fstat(file.fileno())
        if found.st_size != KEY:
            raise SealError(f"{path.name} has {found.st_size} bytes, not {KEY}")
        if os.name != "nt" and (found.st_mode & 0o077 or found.st_uid != os.geteuid()):
            raise SealError(f"{path.name} is not this user's alone")
        fill(file, key := bytearray(KEY))
    return bytes(key)


def make_key(path: Path) -> bytes:
    """A new one, in place of what is there. Raises OSError."""
    key = secrets.token_bytes(KEY)
    write_private(path, (key,))
    return key


def mac_of(key: bytes, parts: Iterable[bytes | bytearray]) -> bytes:
    seen = hashlib.blake2b(key=key, digest_size=MAC)
    for part in parts:
        seen.update(part)
    return seen.digest()


@contextmanager
def opened(path: Path) -> Iterator[BinaryIO]:
    """For reading; only a file, where a pipe would keep one waiting, and nothing that a link points to. Raises
    SealError, OSError."""
    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):  # not every system has each
        flags |= getattr(os, name, 0)
    descriptor = os.open(path, flags)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise SealError(f"{path.name} is not a file")
        with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
            yield file
    finally:
        os.close(descriptor)


def fill(file: BinaryIO, part: bytearray) -> None:
    """Read as much as it is long. Raises SealError where there is less."""
    view, done = memoryview(part), 0
    while done < len(part):
        count = file.readinto(view[done:])  # type: ignore[attr-defined]
        if not count:
            raise SealError("the file became shorter while it was read")
        done += count


def write_private(path: Path, parts: Iterable[bytes | bytearray]) -> None:
    """For this user alone, whatever the umask; whole or not at all. Raises OSError."""
    partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o600)
        with os.fdopen(descriptor, "wb") as file:
            if os.name != "nt":
                os.fchmod(descriptor, 0o600)
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(descriptor)
        publish(partial, path)
    finally:
        partial.unlink(missing_ok=True)
