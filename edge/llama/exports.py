"""Read constant functions out of a compiled library without loading it.

ggml says what it was compiled for by functions such as ``ggml_cpu_has_avx2``, whose whole body is
"return 0" or "return 1". Their few bytes tell the answer without running any of them.
Linux (ELF, x86-64 and aarch64) and Windows (PE, x86-64 and arm64). Anything else, and anything
damaged, gives no answer.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from pathlib import Path

# [endbr64] [push rbp; mov rbp,rsp] (mov eax,N | xor eax,eax) [pop rbp] ret
X86_64 = re.compile(
    rb"(?:\xf3\x0f\x1e\xfa)?(?:\x55(?:\x48\x89\xe5|\x48\x8b\xec))?"
    rb"(?:\xb8(?P<constant>....)|\x31\xc0|\x33\xc0)\x5d?\xc3",
    re.DOTALL,
)
# [bti c] (mov w0,#0 | mov w0,wzr | mov w0,#1) ret
AARCH64 = re.compile(
    rb"(?:\x5f\x24\x03\xd5)?(?:\x00\x00\x80\x52|\xe0\x03\x1f\x2a|(?P<one>\x20\x00\x80\x52))\xc0\x03\x5f\xd6"
)
LONGEST = 20  # bytes of the longest body above
MAX_FILE = 256 << 20


def constants(path: Path, prefix: str) -> dict[str, int]:
    """The exported functions whose names start with ``prefix`` and whose body only returns a constant.

    Returns name without the prefix -> constant. Functions with any other body are left out; a file that
    cannot be read or is of another kind gives an empty dict.
    """
    try:
        if path.stat().st_size > MAX_FILE:
            return {}
        data = path.read_bytes()
        if data[:4] == b"\x7fELF":
            decode, bodies = _elf(data)
        elif data[:2] == b"MZ":
            decode, bodies = _pe(data)
        else:
            return {}
        start = prefix.encode()
        found = {name: decode.match(body) for name, body in bodies if name.startswith(start)}
        return {name[len(start) :].decode(): _value(match) for name, match in found.items() if match}
    except (OSError, struct.error, ValueError, IndexError, OverflowError):  # damaged
        return {}


def _value(match: re.Match[bytes]) -> int:
    groups = match.groupdict()
    if groups.get("constant"):
        return int.from_bytes(groups["constant"], "little")
    return 1 if groups.get("one") else 0


def _name(data: bytes, start: int) -> bytes:
    end = data.index(b"\0", start)  # ValueError at the end of the file
    return data[start:end]


def _elf(data: bytes) -> tuple[re.Pattern[bytes], Iterator[tuple[bytes, bytes]]]:
    if data[4:6] != b"\x02\x01":
        raise ValueError("not 64-bit little-endian")
    decode = {62: X86_64, 183: AARCH64}.get(*struct.unpack_from("<H", data, 18))
    if decode is None:
        raise ValueError("another kind of CPU")
    programs, sections = struct.unpack_from("<QQ", data, 32)
    _, program_size, program_count, section_size, section_count = struct.unpack_from("<5H", data, 52)
    loads = []
    for i in range(program_count):
        kind, _, offset, address, _, in_file = struct.unpack_from("<IIQQQQ", data, programs + i * program_size)
        if kind == 1:  # PT_LOAD
            loads.append((address, offset, in_file))

    def section(i: int) -> tuple[int, int, int, int]:
        """Kind, offset, size, link."""
        _, kind, _, _, offset, size, link = struct.unpack_from("<IIQQQQI", data, sections + i * section_size)
        return kind, offset, size, link

    def bodies() -> Iterator[tuple[bytes, bytes]]:
        for i in range(section_count):
            kind, offset, size, link = section(i)
            if kind != 11:  # SHT_DYNSYM
                continue
            names = section(link)[1]
            table = data[offset : offset + size]
            for name, _, _, home, address, _ in struct.iter_unpack("<IBBHQQ", table[: len(table) // 24 * 24]):
                if home != 0:  # defined here
                    yield _name(data, names + name), _at(data, address, loads)

    return decode, bodies()


def _pe(data: bytes) -> tuple[re.Pattern[bytes], Iterator[tuple[bytes, bytes]]]:
    (header,) = struct.unpack_from("<I", data, 60)
    if data[header : header + 4] != b"PE\0\0":
        raise ValueError("not a PE file")
    machine, section_count = struct.unpack_from("<HH", data, header + 4)
    decode = {0x8664: X86_64, 0xAA64: AARCH64}.get(machine)
    (optional_size,) = struct.unpack_from("<H", data, header + 20)
    optional = header + 24
    if decode is None or data[optional : optional + 2] != b"\x0b\x02":
        raise ValueError("another kind of CPU, or not PE32+")
    loads = []
    for i in range(section_count):
        size, address, in_file, offset = struct.unpack_from("<4I", data, optional + optional_size + i * 40 + 8)
        loads.append((address, offset, min(size, in_file)))
    (directory,) = struct.unpack_from("<I", data, optional + 112)

    def word(address: int, shape: str = "<I") -> int:
        (value,) = struct.unpack(shape, _at(data, address, loads)[: struct.calcsize(shape)])
        return value

    def bodies() -> Iterator[tuple[bytes, bytes]]:
        count, functions, names, ordinals = (word(directory + at) for at in (24, 28, 32, 36))
        for i in range(count):
            ordinal = word(ordinals + 2 * i, "<H")
            name = _name(data, _offset(word(names + 4 * i), loads))
            yield name, _at(data, word(functions + 4 * ordinal), loads)

    return decode, bodies()


def _offset(address: int, loads: list[tuple[int, int, int]]) -> int:
    """Where in the file the byte at ``address`` is. ``loads`` are (address, offset, size in the file)."""
    for start, offset, size in loads:
        if start <= address < start + size:
            return address - start + offset
    raise ValueError("address outside the file")


def _at(data: bytes, address: int, loads: list[tuple[int, int, int]]) -> bytes:
    try:
        offset = _offset(address, loads)
    except ValueError:
        return b""  # a variable of zeros takes no space in the file
    return data[offset : offset + LONGEST]
