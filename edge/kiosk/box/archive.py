"""The small zip archive at a box's end, which Python runs. Its members decide every byte of it.

So a changed byte anywhere shows, headers and times included, whatever wrote the archive: it is made again from its
members and compared.
"""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Mapping

from .errors import BoxError

LARGEST = 64 << 20  # bytes
MOST_MEMBERS = 1000
LOCAL = struct.Struct("<4s5H3L2H")
CENTRAL = struct.Struct("<4s6H3L5H2L")
END = struct.Struct("<4s4H2LH")
DAY = (1 << 5) | 1  # 1980-01-01, the first that zip knows
PLAIN_FILE = 0o100644 << 16
VERSION, UNIX, UTF8 = 20, 3 << 8, 0x800


def make(members: Mapping[str, bytes]) -> bytes:
    """A zip archive of uncompressed files. Raises BoxError when it would be too large."""
    body, directory = io.BytesIO(), io.BytesIO()
    if sum(len(data) for data in members.values()) > LARGEST - (1 << 20) or len(members) > MOST_MEMBERS:
        raise BoxError("the archive of the box would be too large", "pack fewer files")
    for name, data in members.items():
        coded, checksum, offset = name.encode(), zlib.crc32(data), body.tell()
        shared = (UTF8, 0, 0, DAY, checksum, len(data), len(data), len(coded), 0)
        body.write(LOCAL.pack(b"PK\3\4", VERSION, *shared) + coded + data)
        directory.write(CENTRAL.pack(b"PK\1\2", UNIX | VERSION, VERSION, *shared, 0, 0, 0, PLAIN_FILE, offset) + coded)
    start, listed = body.tell(), directory.getvalue()
    return body.getvalue() + listed + END.pack(b"PK\5\6", 0, 0, len(members), len(members), len(listed), start, 0)


def start_of(tail: bytes, size: int) -> int:
    """Where the archive begins in a file of ``size`` bytes that ends with ``tail``. Raises BoxError."""
    if len(tail) == END.size:
        magic, _, _, _, _, listed, offset, _ = END.unpack(tail)
        length = listed + offset + END.size
        if magic == b"PK\5\6" and length <= min(size, LARGEST):
            return size - length
    raise BoxError("this is no whole box: its end is missing", "copy it again")


def read(data: bytes) -> dict[str, bytes]:
    """The members. Raises BoxError for anything that ``make`` does not write."""
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            plain = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
            if plain and len(entries) <= MOST_MEMBERS and sum(entry.file_size for entry in entries) <= len(data):
                members = {entry.filename: archive.read(entry) for entry in entries}
                if make(members) == data:
                    return members
    except (zipfile.BadZipFile, ValueError, struct.error, EOFError, OSError, RuntimeError, NotImplementedError):
        pass
    raise BoxError("the archive in the box is damaged", "copy it again; do not trust this box")
