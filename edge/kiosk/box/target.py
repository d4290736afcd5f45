"""This machine against what a box needs; each misfit is a sentence."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .manifest import Manifest

CPUINFO, MEMINFO = Path("/proc/cpuinfo"), Path("/proc/meminfo")
FOR_THE_SYSTEM = 256 << 20  # bytes of memory that a model must leave
LIBRARIES = ("libstdc++.so.6", "libgcc_s.so.1")  # of the system, which the packages' wheels count on
MIB = 1 << 20


@dataclass(frozen=True)
class Target:
    """``glibc``: None where the C library is another. ``memory``: bytes in all, 0 where it is unknown. ``lacking``:
    of ``LIBRARIES``."""

    machine: str
    python: tuple[int, int]
    is_cpython: bool
    is_64_bit: bool
    glibc: str | None
    flags: frozenset[str]
    memory: int
    lacking: tuple[str, ...] = ()


def read_target() -> Target:
    return Target(
        machine=platform.machine(),
        python=sys.version_info[:2],
        is_cpython=sys.implementation.name == "cpython",
        is_64_bit=sys.maxsize > 2**32,
        glibc=glibc_version(),
        flags=cpu_flags(read_text(CPUINFO)),
        memory=memory_bytes(read_text(MEMINFO)),
        lacking=tuple(name for name in LIBRARIES if not can_load(name)),
    )


def can_load(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def glibc_version() -> str | None:
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return None
    return version if name == "glibc" else None


def cpu_flags(cpuinfo: str) -> frozenset[str]:
    """What every core has: ``flags`` on x86, ``Features`` on ARM."""
    lines = re.findall(r"^(?:flags|Features)\s*:(.*)$", cpuinfo, re.MULTILINE)
    return frozenset.intersection(*(frozenset(line.split()) for line in lines)) if lines else frozenset()


def memory_bytes(meminfo: str) -> int:
    found = re.search(r"^MemTotal:\s*([0-9]+) kB", meminfo, re.MULTILINE)
    return int(found.group(1)) * 1024 if found else 0


def best_level(cpu: Mapping[str, Sequence[str]], flags: frozenset[str]) -> str | None:
    """The first level whose flags this CPU has."""
    return next((level for level, needed in cpu.items() if flags.issuperset(needed)), None)


def misfits(manifest: Manifest, target: Target) -> list[str]:
    """Why the box cannot run here; empty when it can."""
    found = []
    if manifest.machine != target.machine:
        found.append(f"this box is for {manifest.machine}, and this machine is {target.machine}")
    if misfit := python_misfit(manifest, target):
        found.append(misfit)
    if target.glibc is None:
        found.append(f"this box needs glibc {manifest.glibc} or newer, and the C library here is another")
    elif numbers(target.glibc) < numbers(manifest.glibc):
        found.append(f"this box needs glibc {manifest.glibc} or newer, and this system has {target.glibc}")
    if target.lacking:
        libraries = " and ".join(target.lacking)
        found.append(f"this box needs {libraries}, which this system lacks (Debian, Ubuntu: apt install libstdc++6)")
    if manifest.machine == target.machine and best_level(manifest.cpu, target.flags) is None:
        least, needed = list(manifest.cpu.items())[-1]
        lacking = " ".join(flag for flag in needed if flag not in target.flags)
        found.append(f"this CPU cannot do what the least of the box's libraries ({least}) needs: {lacking}")
    if target.memory and manifest.memory + FOR_THE_SYSTEM > target.memory:
        found.append(
            f"this box needs {mib(manifest.memory)} of memory beside {mib(FOR_THE_SYSTEM)} for the system, "
            f"and this machine has {mib(target.memory)}"
        )
    return found


def python_misfit(manifest: Manifest, target: Target) -> str:
    if not target.is_cpython or not target.is_64_bit:
        return "this box needs the usual 64-bit Python (CPython)"
    if ".".join(map(str, target.python)) != manifest.python:
        return f"this box needs Python {manifest.python}, and this is {target.python[0]}.{target.python[1]}"
    return ""


def numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"[0-9]+", version)[:3])


def mib(nbytes: int) -> str:
    return f"{-(-nbytes // MIB)} MiB"
