"""A machine that a box does not fit is told why, in a sentence each."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from edge.kiosk.box.manifest import Golden, Manifest
from edge.kiosk.box.target import Target, best_level, cpu_flags, memory_bytes, misfits, read_target

GIB = 1 << 30
BOX = Manifest(
    name="tiny",
    level="Q4_K_M",
    version="1",
    created="2026-11-30T12:00:00Z",
    machine="x86_64",
    python="3.11",
    glibc="2.28",
    cpu={"avx512": ("avx512f", "avx2"), "avx2": ("avx2", "fma"), "sse42": ("sse4_2", "popcnt")},
    files=(),
    serve=(),
    memory=GIB,
    golden=Golden("?", "!"),
)
HERE = Target("x86_64", (3, 11), True, True, "2.36", frozenset({"avx2", "fma", "sse4_2", "popcnt"}), 8 * GIB)


def test_a_machine_that_fits() -> None:
    assert misfits(BOX, HERE) == []
    assert misfits(BOX, replace(HERE, glibc="2.28", memory=GIB + (256 << 20))) == []
    assert misfits(BOX, replace(HERE, memory=0)) == []  # unknown


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"machine": "aarch64"}, "this box is for x86_64, and this machine is aarch64"),
        ({"python": (3, 9)}, "this box needs Python 3.11, and this is 3.9"),
        ({"python": (3, 13)}, "this box needs Python 3.11, and this is 3.13"),
        ({"is_cpython": False}, "this box needs the usual 64-bit Python (CPython)"),
        ({"is_64_bit": False}, "this box needs the usual 64-bit Python (CPython)"),
        (
            {"lacking": ("libstdc++.so.6",)},
            "this box needs libstdc++.so.6, which this system lacks (Debian, Ubuntu: apt install libstdc++6)",
        ),
        ({"glibc": None}, "this box needs glibc 2.28 or newer, and the C library here is another"),
        ({"glibc": "2.9"}, "this box needs glibc 2.28 or newer, and this system has 2.9"),
        (
            {"flags": frozenset({"sse4_2"})},
            "this CPU cannot do what the least of the box's libraries (sse42) needs: popcnt",
        ),
        (
            {"memory": GIB},
            "this box needs 1024 MiB of memory beside 256 MiB for the system, and this machine has 1024 MiB",
        ),
    ],
)
def test_what_does_not_fit(change: dict[str, Any], sentence: str) -> None:
    assert misfits(BOX, replace(HERE, **change)) == [sentence]


def test_the_best_level_that_this_cpu_can() -> None:
    assert best_level(BOX.cpu, frozenset({"avx512f", "avx2", "fma"})) == "avx512"
    assert best_level(BOX.cpu, HERE.flags) == "avx2"
    assert best_level(BOX.cpu, frozenset({"sse4_2", "popcnt"})) == "sse42"
    assert best_level(BOX.cpu, frozenset({"avx512f"})) is None


def test_flags_are_those_of_every_core() -> None:
    """The small cores of some CPUs lack what the large ones have."""
    assert cpu_flags("flags\t\t: sse4_2 avx2\nflags\t\t: sse4_2\nvmx flags\t: ept\n") == {"sse4_2"}
    assert cpu_flags("Features\t: asimd fphp\n") == {"asimd", "fphp"}
    assert cpu_flags("") == frozenset()


def test_memory() -> None:
    assert memory_bytes("MemTotal:        1024 kB\nMemFree: 5 kB\n") == 1 << 20
    assert memory_bytes("rubbish") == 0


def test_this_machine_is_read() -> None:
    here = read_target()
    assert here.memory > 0
    assert here.flags
    assert here.is_cpython and here.is_64_bit
