"""Facts about this machine: its CPU, cores, memory and disk. What cannot be known is None or absent.

Instruction sets go by llama.cpp's words (``AVX2``, ``AVX512_VNNI``, ``MATMUL_INT8`` ...).
"""

from __future__ import annotations

import ctypes
import math
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from edge.cgroup import Limits, cgroup_limits, read_text
from edge.topology import Topology, read_topology, sysctl

# llama.cpp's word -> the flags of /proc/cpuinfo that must all be there.
X86_CPUINFO = {
    "SSE3": ("pni",),
    "SSSE3": ("ssse3",),
    "AVX": ("avx",),
    "AVX2": ("avx2",),
    "FMA": ("fma",),
    "F16C": ("f16c",),
    "BMI2": ("bmi2",),
    "AVX_VNNI": ("avx_vnni",),
    # A build for AVX512 uses these five together.
    "AVX512": ("avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"),
    "AVX512_VBMI": ("avx512vbmi",),
    "AVX512_VNNI": ("avx512_vnni",),
    "AVX512_BF16": ("avx512_bf16",),
    "AMX_INT8": ("amx_tile", "amx_int8"),
}
ARM_CPUINFO = {
    "NEON": ("asimd",),
    "ARM_FMA": ("asimd",),
    "FP16_VA": ("asimdhp",),
    "DOTPROD": ("asimddp",),
    "MATMUL_INT8": ("i8mm",),
    "SVE": ("sve",),
    "SME": ("sme",),
    "SME2": ("sme2",),
}
X86_SYSCTL = {
    "SSE3": ("SSE3",),
    "SSSE3": ("SSSE3",),
    "AVX": ("AVX1.0",),
    "AVX2": ("AVX2",),
    "FMA": ("FMA",),
    "F16C": ("F16C",),
    "BMI2": ("BMI2",),
    "AVX512": ("AVX512F", "AVX512CD", "AVX512VL", "AVX512DQ", "AVX512BW"),
    "AVX512_VBMI": ("AVX512VBMI",),
    "AVX512_VNNI": ("AVX512VNNI",),
}
ARM_SYSCTL = {
    "NEON": "hw.optional.AdvSIMD",
    "ARM_FMA": "hw.optional.AdvSIMD",
    "FP16_VA": "hw.optional.arm.FEAT_FP16",
    "DOTPROD": "hw.optional.arm.FEAT_DotProd",
    "MATMUL_INT8": "hw.optional.arm.FEAT_I8MM",
    "SME": "hw.optional.arm.FEAT_SME",
    "SME2": "hw.optional.arm.FEAT_SME2",
}
# Numbers of IsProcessorFeaturePresent. Windows has none for FMA, F16C, BMI2 and the parts of AVX-512.
X86_WINDOWS = {"SSE3": 13, "SSSE3": 36, "AVX": 39, "AVX2": 40, "AVX512": 41}
ARM_WINDOWS = {"NEON": 19, "ARM_FMA": 19, "DOTPROD": 43, "SVE": 46}

X86 = {"x86_64", "amd64", "i386", "i686", "x86"}
ARM = {"aarch64", "arm64"}


@dataclass(frozen=True)
class Cpu:
    """``features`` says of each known instruction set whether the CPU has it; an absent one is unknown."""

    name: str | None
    arch: str
    features: Mapping[str, bool] = field(default_factory=dict)

    @property
    def has(self) -> frozenset[str]:
        return frozenset(word for word, there in self.features.items() if there)

    @property
    def lacks(self) -> frozenset[str]:
        return frozenset(word for word, there in self.features.items() if not there)


@dataclass(frozen=True)
class Cores:
    """Counts of CPU cores; ``quota`` is the cgroup's limit in CPUs, None without one."""

    physical: int | None
    logical: int
    usable: int
    quota: float | None


@dataclass(frozen=True)
class Memory:
    """Bytes. ``total`` and ``available`` are what this process may use; ``limit`` is the cgroup's."""

    total: int
    available: int
    limit: int | None


# --- CPU


def cpu() -> Cpu:
    """The CPU of this machine, without running any of its special instructions."""
    arch = platform.machine().lower()
    if sys.platform == "win32":
        return cpu_from_windows(_windows_feature, _windows_cpu_name(), arch)
    if sys.platform == "darwin":
        return cpu_from_sysctl(sysctl("hw.optional", "machdep.cpu"), arch)
    return cpu_from_cpuinfo(read_text(Path("/proc/cpuinfo")) or "", arch)


def cpu_from_cpuinfo(text: str, arch: str) -> Cpu:
    """Read the text of Linux's /proc/cpuinfo. On mixed cores, a set counts only if every core has it."""
    name = None
    per_core: list[set[str]] = []
    for line in text.splitlines():
        key, _, value = line.partition(":")
        key = key.strip()
        if key in ("model name", "Model") and name is None:
            name = " ".join(value.split()) or None
        elif key in ("flags", "Features"):
            per_core.append(set(value.split()))
    if not per_core:
        return Cpu(name, arch)
    table = X86_CPUINFO if arch in X86 else ARM_CPUINFO if arch in ARM else {}
    flags = set.intersection(*per_core)
    return Cpu(name, arch, {word: flags.issuperset(needed) for word, needed in table.items()})


def cpu_from_sysctl(values: Mapping[str, str], arch: str) -> Cpu:
    """Read macOS's sysctl values, by name. A name that this macOS does not know leaves its set unknown."""
    name = values.get("machdep.cpu.brand_string")
    if arch in ARM:
        known = {word: values[key] == "1" for word, key in ARM_SYSCTL.items() if key in values}
        return Cpu(name, arch, known)
    if "machdep.cpu.features" not in values:
        return Cpu(name, arch)
    flags = set(values["machdep.cpu.features"].split())
    flags |= set(values.get("machdep.cpu.leaf7_features", "").split())
    return Cpu(name, arch, {word: flags.issuperset(needed) for word, needed in X86_SYSCTL.items()})


def cpu_from_windows(present: Callable[[int], bool], name: str | None, arch: str) -> Cpu:
    """Ask Windows' IsProcessorFeaturePresent, given as ``present``."""
    table = X86_WINDOWS if arch in X86 else ARM_WINDOWS if arch in ARM else {}
    return Cpu(name, arch, {word: present(number) for word, number in table.items()})


def _windows_feature(number: int) -> bool:
    if sys.platform != "win32":
        return False
    return bool(ctypes.windll.kernel32.IsProcessorFeaturePresent(number))


def _windows_cpu_name() -> str | None:
    if sys.platform != "win32":
        return None
    import winreg

    try:
        with winreg.OpenKey(winreg.HKEY_LOCAL_MACHINE, r"HARDWARE\DESCRIPTION\System\CentralProcessor\0") as key:
            return str(winreg.QueryValueEx(key, "ProcessorNameString")[0]).strip()
    except OSError:
        return None


# --- cores, memory, disk


def cores(limits: Limits | None = None) -> Cores:
    """Count cores. ``usable`` honours this process's affinity and its cgroup's CPU quota."""
    limits = limits or cgroup_limits()
    logical = psutil.cpu_count() or 1
    process = psutil.Process()
    allowed = len(process.cpu_affinity()) if hasattr(process, "cpu_affinity") else logical
    # Rounded down: more threads than the quota pays for are put to sleep in the middle of a step.
    by_quota = allowed if limits.cpus is None else math.floor(limits.cpus)
    return Cores(psutil.cpu_count(logical=False), logical, max(1, min(allowed, by_quota)), limits.cpus)


def usable_cores(limits: Limits | None = None, topology: Topology | None = None) -> int:
    """How many threads decoding gains from, at least 1: the performance cores that this process may use.

    Slow cores are left out, since a step waits for its slowest thread, but for a process that is kept on them; of the
    hyperthreads of a core one counts.
    """
    counted, found = cores(limits), topology or read_topology()
    by_quota = found.fast if counted.quota is None else math.floor(counted.quota)
    # Where the system does not tell which hyperthreads share a core, it may still tell how many cores there are.
    return max(1, min(found.fast, by_quota, counted.physical or found.fast))


def memory(limits: Limits | None = None) -> Memory:
    """Memory in bytes, cut down to what the cgroup leaves."""
    limits = limits or cgroup_limits()
    machine = psutil.virtual_memory()
    if limits.memory is None:
        return Memory(machine.total, machine.available, None)
    left = max(0, limits.memory - limits.memory_used)
    return Memory(min(machine.total, limits.memory), min(machine.available, left), limits.memory)


def disk_free(path: Path) -> int | None:
    """Bytes that this user may still write at ``path``, which need not exist yet; None if unknown."""
    for folder in (path.absolute(), *path.absolute().parents):
        try:
            return psutil.disk_usage(str(folder)).free
        except FileNotFoundError:
            continue
        except OSError:
            return None
    return None
