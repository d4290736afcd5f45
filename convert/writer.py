"""Write one GGUF: layout decided first, then blobs at their places in any order, then its name.

The file grows beside its final name and takes that name in one atomic step, so that at any moment the name holds
the old file or the new one. Layout (GGUF v3): magic, version, counts, metadata, tensor infos, padding to 32,
then each blob padded to 32, the last one too.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import struct
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf import GGUFValueType

from convert.durable import publish
from convert.errors import OutputError
from convert.ggml import QType, row_size
from convert.metadata import KV

ALIGNMENT = 32
MAGIC_AND_VERSION = b"GGUF" + struct.pack("<I", 3)
SCALARS = {
    "u32": (GGUFValueType.UINT32, "<I"),
    "i32": (GGUFValueType.INT32, "<i"),
    "f32": (GGUFValueType.FLOAT32, "<f"),
    "bool": (GGUFValueType.BOOL, "<?"),
}


@dataclass(frozen=True)
class TensorInfo:
    """``shape`` outermost first; ``offset`` in bytes from the start of the data section."""

    name: str
    shape: tuple[int, ...]
    qtype: QType
    offset: int
    nbytes: int


def layout(tensors: Iterable[tuple[str, tuple[int, ...], QType]]) -> list[TensorInfo]:
    """Infos in file order, with offsets."""
    infos, offset = [], 0
    for name, shape, qtype in tensors:
        nbytes = math.prod(shape[:-1]) * row_size(qtype, shape[-1])
        infos.append(TensorInfo(name, shape, qtype, offset, nbytes))
        offset += padded(nbytes)
    return infos


def padded(size: int) -> int:
    return -(-size // ALIGNMENT) * ALIGNMENT


def header_bytes(metadata: Sequence[KV], infos: Sequence[TensorInfo]) -> bytes:
    """Everything before the data section, padding included."""
    parts = [MAGIC_AND_VERSION, struct.pack("<QQ", len(infos), len(metadata))]
    parts += [encode_string(kv.key) + encode_value(kv.kind, kv.value) for kv in metadata]
    for info in infos:
        parts.append(encode_string(info.name) + struct.pack("<I", len(info.shape)))
        parts.append(struct.pack(f"<{len(info.shape)}Q", *reversed(info.shape)))
        parts.append(struct.pack("<IQ", info.qtype.value, info.offset))
    data = b"".join(parts)
    return data.ljust(padded(len(data)), b"\0")


def encode_string(text: str) -> bytes:
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def encode_value(kind: str, value: Any) -> bytes:
    """Type tag and value of a metadata entry."""
    if kind == "str":
        return struct.pack("<I", GGUFValueType.STRING) + encode_string(value)
    if kind == "[str]":
        tag = struct.pack("<IIQ", GGUFValueType.ARRAY, GGUFValueType.STRING, len(value))
        return tag + b"".join(map(encode_string, value))
    value_type, code = SCALARS[kind.strip("[]")]
    if kind.startswith("["):
        tag = struct.pack("<IIQ", GGUFValueType.ARRAY, value_type, len(value))
        return tag + struct.pack(f"<{len(value)}{code[-1]}", *value)
    return struct.pack("<I", value_type) + struct.pack(code, value)


class GGUFWriter:
    """One output file while it grows. ``path`` is its final name; ``partial`` the file beside it."""

    def __init__(self, path: Path, metadata: Sequence[KV], infos: Sequence[TensorInfo]) -> None:
        self.path = path
        self.partial = path.with_name(path.name + ".partial")
        self._header = header_bytes(metadata, infos)
        self._infos = {info.name: info for info in infos}
        self.size = len(self._header) + sum(padded(info.nbytes) for info in infos)
        self._lock = threading.Lock()
        self._handle = -1

    def open(self) -> None:
        """Take the partial file. Raises OutputError when another process is writing it, or it cannot be made."""
        with reporting(self.path):
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
            if os.name == "nt":
                self.partial.unlink(missing_ok=True)  # fails while another process has it open
            handle = os.open(self.partial, flags, 0o666)
            if not is_ours(handle, self.partial):
                os.close(handle)
                raise OutputError(f"another process is writing {self.path}", "wait for it to end")
            self._handle = handle
            os.truncate(self._handle, 0)
            os.truncate(self._handle, self.size)  # the padding between blobs is these zeros
            self._write_at(memoryview(self._header), 0)

    def write(self, name: str, first_byte: int, data: memoryview) -> None:
        """Put ``data`` at ``first_byte`` of the tensor's blob. Any thread may call it."""
        with reporting(self.path):
            self._write_at(data, len(self._header) + self._infos[name].offset + first_byte)

    def _write_at(self, data: memoryview, position: int) -> None:
        while data.nbytes:
            if hasattr(os, "pwrite"):
                written = os.pwrite(self._handle, data, position)
            else:
                with self._lock:  # Windows has no positional write
                    os.lseek(self._handle, position, os.SEEK_SET)
                    written = os.write(self._handle, data)
            position, data = position + written, data[written:]

    def finish(self) -> None:
        """Everything is on disk; the file still has its partial name, for the gate to look at."""
        with reporting(self.path):
            os.fsync(self._handle)

    def publish(self) -> None:
        """Give the file its final name, in one step that survives a power cut."""
        with reporting(self.path):
            if os.name == "nt":
                self._close()  # Windows does not rename an open file
            publish(self.partial, self.path)
            self._close()

    def discard(self) -> None:
        """Remove the partial file, if this writer holds it."""
        if self._handle >= 0:
            self._close()
            with contextlib.suppress(OSError):
                self.partial.unlink()

    def _close(self) -> None:
        if self._handle >= 0:
            os.close(self._handle)
            self._handle = -1


def is_ours(handle: int, partial: Path) -> bool:
    """Hold the open file against other processes; the lock ends with the process, however it ends.

    Not ours either when the process that held it finished meanwhile, and the file has its final name by now.
    """
    if os.name == "nt":
        return True
    import fcntl

    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(handle), partial.stat())
    except OSError:
        return False


class reporting:
    """Turns an OSError about the output into an OutputError in plain words."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __enter__(self) -> None: ...

    def __exit__(self, _: Any, error: BaseException | None, __: Any) -> None:
        if not isinstance(error, OSError):
            return
        hint = (
            "choose another place with more room"
            if error.errno == errno.ENOSPC
            else "choose another place, or mend its rights"
        )
        raise OutputError(f"cannot write {self.path}: {error.strerror or error}", hint) from error
