"""Constants read out of compiled libraries: real ones where there is a compiler, and hand-made bytes."""

from __future__ import annotations

import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.llama.exports import constants

X86_BODIES = {
    "gcc -O2, one": (b"\xb8\x01\x00\x00\x00\xc3", 1),
    "gcc -O2, zero": (b"\x31\xc0\xc3", 0),
    "MSVC, zero": (b"\x33\xc0\xc3", 0),
    "gcc -O2 -fcf-protection": (b"\xf3\x0f\x1e\xfa\xb8\x01\x00\x00\x00\xc3", 1),
    "gcc -O0": (b"\x55\x48\x89\xe5\xb8\x01\x00\x00\x00\x5d\xc3", 1),
    "gcc -O0 -fcf-protection, zero": (b"\xf3\x0f\x1e\xfa\x55\x48\x89\xe5\xb8\x00\x00\x00\x00\x5d\xc3", 0),
    "reads a variable": (b"\x8b\x05\x00\x10\x00\x00\xc3", None),
    "calls": (b"\x55\xe8\x00\x00\x00\x00\x5d\xc3", None),
}
ARM_BODIES = {
    "one": (b"\x20\x00\x80\x52\xc0\x03\x5f\xd6", 1),
    "zero": (b"\x00\x00\x80\x52\xc0\x03\x5f\xd6", 0),
    "zero by wzr": (b"\xe0\x03\x1f\x2a\xc0\x03\x5f\xd6", 0),
    "bti, one": (b"\x5f\x24\x03\xd5\x20\x00\x80\x52\xc0\x03\x5f\xd6", 1),
    "loads": (b"\x00\x00\x40\xb9\xc0\x03\x5f\xd6", None),
}
CODE_ADDRESS = 0x1000


def elf(functions: dict[str, bytes], machine: int = 62) -> bytes:
    """A shared library with only what a reader needs: one PT_LOAD, a .dynsym and its .dynstr."""
    code, names = b"", b"\0"
    symbols = bytes(24)
    for name, body in functions.items():
        symbols += struct.pack("<IBBHQQ", len(names), 0x12, 0, 1, CODE_ADDRESS + len(code), len(body))
        names += name.encode() + b"\0"
        code += body.ljust(32, b"\xcc")
    at_code = 64 + 56
    at_symbols = at_code + len(code)
    at_names = at_symbols + len(symbols)
    at_sections = at_names + len(names)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, machine, 1, 0, 64, at_sections, 0, 64, 56, 1, 64, 3, 0)
    program = struct.pack("<IIQQQQQQ", 1, 5, at_code, CODE_ADDRESS, CODE_ADDRESS, len(code), len(code), 4096)
    sections = bytes(64)
    sections += struct.pack("<IIQQQQIIQQ", 0, 11, 0, 0, at_symbols, len(symbols), 2, 1, 8, 24)
    sections += struct.pack("<IIQQQQIIQQ", 0, 3, 0, 0, at_names, len(names), 0, 0, 1, 0)
    return header + program + code + symbols + names + sections


def pe(functions: dict[str, bytes]) -> bytes:
    """A DLL with only what a reader needs: one section that holds code and the export directory."""
    base, file_at = 0x1000, 0x200
    code = b"".join(body.ljust(32, b"\xcc") for body in functions.values())
    count = len(functions)
    at_functions = base + len(code) + 40
    at_names = at_functions + 4 * count
    at_ordinals = at_names + 4 * count
    at_strings = at_ordinals + 2 * count
    strings, name_addresses = b"", []
    for name in functions:
        name_addresses.append(at_strings + len(strings))
        strings += name.encode() + b"\0"
    directory = struct.pack("<IIHHIIIIIII", 0, 0, 0, 0, 0, 1, count, count, at_functions, at_names, at_ordinals)
    section = code + directory
    section += struct.pack(f"<{count}I", *(base + 32 * i for i in range(count)))
    section += struct.pack(f"<{count}I", *name_addresses) + struct.pack(f"<{count}H", *range(count)) + strings
    dos = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64)
    coff = b"PE\0\0" + struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 240, 0x2000)
    optional = (b"\x0b\x02".ljust(112, b"\0") + struct.pack("<II", base + len(code), 40)).ljust(240, b"\0")
    table = b".all".ljust(8, b"\0") + struct.pack("<4I", len(section), base, len(section), file_at) + bytes(16)
    return (dos + coff + optional + table).ljust(file_at, b"\0") + section


@pytest.mark.parametrize("make", [elf, pe])
def test_every_known_body_of_x86_is_read_and_others_are_left_out(make, tmp_path: Path):
    library = tmp_path / "library"
    library.write_bytes(make({f"has_{i}": body for i, (body, _) in enumerate(X86_BODIES.values())}))
    expected = {str(i): value for i, (_, value) in enumerate(X86_BODIES.values()) if value is not None}
    assert constants(library, "has_") == expected


def test_every_known_body_of_arm_is_read(tmp_path: Path):
    library = tmp_path / "library"
    library.write_bytes(elf({f"has_{i}": body for i, (body, _) in enumerate(ARM_BODIES.values())}, machine=183))
    expected = {str(i): value for i, (_, value) in enumerate(ARM_BODIES.values()) if value is not None}
    assert constants(library, "has_") == expected


def test_only_names_with_the_prefix_count(tmp_path: Path):
    library = tmp_path / "library"
    one = X86_BODIES["gcc -O2, one"][0]
    library.write_bytes(elf({"ggml_cpu_has_avx": one, "ggml_init": one}))
    assert constants(library, "ggml_cpu_has_") == {"avx": 1}


SOURCE = """
int counter;
int has_yes(void) { return 1; }
int has_no(void) { return 0; }
int has_runtime(void) { return counter; }
"""


@pytest.mark.parametrize("level", ["-O0", "-O2"])
def test_a_compiled_library_is_read(level: str, tmp_path: Path):
    """Hand-made bytes stand in only where there is no compiler, or another kind of library than we read."""
    library = tmp_path / "library.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler and sys.platform == "linux":
        source = tmp_path / "source.c"
        source.write_text(SOURCE)
        subprocess.run([compiler, level, "-shared", "-fPIC", "-o", library, source], check=True)
    else:
        frame = b"\x55\x48\x89\xe5" if level == "-O0" else b""
        end = b"\x5d\xc3" if level == "-O0" else b"\xc3"
        bodies = {"has_yes": b"\xb8\x01\0\0\0", "has_no": b"\xb8\0\0\0\0", "has_runtime": b"\x8b\x05\0\0\0\0"}
        library.write_bytes(elf({name: frame + body + end for name, body in bodies.items()}))
    assert constants(library, "has_") == {"yes": 1, "no": 0}


@pytest.mark.parametrize("data", [b"", b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe" + bytes(100), b"text"])
def test_other_files_give_no_answer(data: bytes, tmp_path: Path):
    path = tmp_path / "file"
    path.write_bytes(data)
    assert constants(path, "") == {}


def test_a_missing_file_gives_no_answer(tmp_path: Path):
    assert constants(tmp_path / "nothing", "") == {}


@pytest.mark.parametrize("make", [elf, pe])
def test_every_truncation_is_survived(make, tmp_path: Path):
    whole = make({"has_a": X86_BODIES["gcc -O2, one"][0], "has_b": X86_BODIES["gcc -O2, zero"][0]})
    path = tmp_path / "file"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        assert constants(path, "has_").items() <= {"a": 1, "b": 0}.items()


@settings(max_examples=300, deadline=None)
@given(make=st.sampled_from([elf, pe]), at=st.integers(0, 700), junk=st.binary(min_size=1, max_size=8))
def test_damage_is_survived(make, at: int, junk: bytes, tmp_path_factory: pytest.TempPathFactory):
    data = bytearray(make({"has_a": X86_BODIES["gcc -O2, one"][0]}))
    at = min(at, len(data) - 1)
    data[at : at + len(junk)] = junk
    path = tmp_path_factory.mktemp("damaged") / "file"
    path.write_bytes(data)
    constants(path, "has_")
