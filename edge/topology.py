"""Which CPU cores this process may use, and of what kind. What cannot be read counts as a performance core for itself.

A step of llama.cpp waits for its slowest thread, so two threads on one core, or one on a slow core, hold up the rest.
"""

from __future__ import annotations

import ctypes
import math
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil

DEVICES = Path("/sys/devices")
CLEARLY_SLOWER = 0.7  # of the fastest core's capacity or frequency: an efficiency core
ALIKE = 0.85  # of the fastest of a cluster: cores that were made alike differ by their luck, preferred cores by more

Kind = Literal["performance", "efficiency"]
Group = tuple[Kind, frozenset[int]]  # a core and all of its logical CPUs


@dataclass(frozen=True)
class Core:
    """A physical core; ``cpus``: those of its logical CPUs that this process may use, ascending, at least one.

    They are the system's numbers on Linux and Windows; macOS gives none, there they are only counted.
    """

    kind: Kind
    cpus: tuple[int, ...]


@dataclass(frozen=True)
class Topology:
    """The usable cores of a machine, at least one."""

    cores: tuple[Core, ...]

    @property
    def physical(self) -> int:
        return len(self.cores)

    @property
    def performance(self) -> int:
        """Usable performance cores; 0 where the process is kept on the others."""
        return sum(core.kind == "performance" for core in self.cores)

    @property
    def efficiency(self) -> int:
        return self.physical - self.performance

    @property
    def logical(self) -> int:
        return sum(len(core.cpus) for core in self.cores)

    @property
    def fast(self) -> int:
        """As many threads as can run on cores of one kind: the performance cores, or the others without those."""
        return self.performance or self.physical


def thread_candidates(topology: Topology, quota: float | None = None) -> list[int]:
    """The thread counts worth measuring, ascending, at most 5; none above ``quota``, the cgroup's limit in CPUs."""
    most = topology.logical if quota is None else max(1, math.floor(min(quota, topology.logical)))
    fast = min(most, topology.fast)
    return sorted({1, max(1, fast // 2), fast, min(most, topology.physical), most})


def read_topology(cpus: Iterable[int] | None = None, devices: Path = DEVICES) -> Topology:
    """The cores of this machine; ``cpus`` are the logical CPUs to use, by default those of the process's affinity."""
    chosen = allowed_cpus() if cpus is None else frozenset(cpus)
    if sys.platform == "darwin":
        return from_sysctl(sysctl("hw.perflevel0", "hw.perflevel1", "hw.physicalcpu", "hw.logicalcpu"), chosen)
    if sys.platform == "win32":
        return from_windows(_windows_cores(), chosen)
    return from_linux(chosen, devices)


def allowed_cpus() -> frozenset[int]:
    """The logical CPUs that this process may use, as the system numbers them."""
    process = psutil.Process()
    if hasattr(process, "cpu_affinity"):  # not on macOS
        return frozenset(process.cpu_affinity() or ())
    return frozenset(range(psutil.cpu_count() or 1))


def usable(groups: Iterable[Group], cpus: frozenset[int]) -> Topology:
    """What ``cpus`` leave of the cores ``groups``; CPUs that none of them has are a core each."""
    cores: dict[int, Core] = {}
    left = set(cpus or {0})
    for kind, members in groups:
        if own := sorted(members & left):
            cores[own[0]] = Core(kind, tuple(own))
            left -= members
    cores |= {cpu: Core("performance", (cpu,)) for cpu in left}
    return Topology(tuple(core for _, core in sorted(cores.items())))


# --- Linux


def from_linux(cpus: frozenset[int], devices: Path = DEVICES) -> Topology:
    """Read Linux's sysfs below ``devices``."""
    slow = efficiency_cpus(devices)
    groups = [siblings(devices, cpu) | {cpu} for cpu in sorted(cpus)]
    return usable([("efficiency" if members & slow else "performance", members) for members in groups], cpus)


def siblings(devices: Path, cpu: int) -> frozenset[int]:
    """The logical CPUs of the core that ``cpu`` is in; the second name is that of kernels before 5.3."""
    folder = devices / "system" / "cpu" / f"cpu{cpu}" / "topology"
    return _cpu_list(folder / "core_cpus_list") or _cpu_list(folder / "thread_siblings_list")


def efficiency_cpus(devices: Path) -> frozenset[int]:
    """The logical CPUs of slow cores: by Intel's kinds, else by capacity, else by frequency."""
    online = _cpu_list(devices / "system" / "cpu" / "online")
    fast = _cpu_list(devices / "cpu_core" / "cpus")
    if fast and _cpu_list(devices / "cpu_atom" / "cpus"):
        return online - fast
    capacities = _numbers(devices, online, "cpu_capacity")
    if slow := slower(capacities):
        return slow
    frequencies = _numbers(devices, online, "cpufreq/cpuinfo_max_freq")
    slow = slower(frequencies)
    # A frequency tells less than a capacity: it counts only where there are two clusters and nothing between them.
    clusters = [[frequencies[cpu] for cpu in frequencies if (cpu in slow) is part] for part in (False, True)]
    return slow if all(map(alike, clusters)) else frozenset()


def slower(values: Mapping[int, int]) -> frozenset[int]:
    """The CPUs with clearly less than the largest value."""
    largest = max(values.values(), default=0)
    return frozenset(cpu for cpu, value in values.items() if value < CLEARLY_SLOWER * largest)


def alike(values: list[int]) -> bool:
    return not values or min(values) >= ALIKE * max(values)


def _numbers(devices: Path, cpus: frozenset[int], name: str) -> dict[int, int]:
    """A number that each CPU's folder has; empty where one of them has none."""
    texts = {cpu: _read(devices / "system" / "cpu" / f"cpu{cpu}" / name) for cpu in cpus}
    return {cpu: int(text) for cpu, text in texts.items()} if all(map(str.isdecimal, texts.values())) else {}


def _cpu_list(path: Path) -> frozenset[int]:
    """A list such as ``0-3,8``; empty where it cannot be read."""
    found: set[int] = set()
    for part in _read(path).split(","):
        first, dash, last = part.partition("-")
        if not first.isdecimal() or not (last.isdecimal() or not dash):
            return frozenset()
        found.update(range(int(first), int(last or first) + 1))
    return frozenset(found)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace").strip()
    except OSError:
        return ""


# --- macOS


def from_sysctl(values: Mapping[str, str], cpus: frozenset[int]) -> Topology:
    """Read macOS's sysctl values, by name. Level 0 is the fastest; an Intel Mac has no levels."""
    levels: list[tuple[Kind, str]] = [("performance", "hw.perflevel0."), ("efficiency", "hw.perflevel1.")]
    if "hw.perflevel0.physicalcpu" not in values:
        levels = [("performance", "hw.")]
    groups: list[Group] = []
    number = 0
    for kind, prefix in levels:
        physical, logical = (int(values.get(f"{prefix}{name}", "0")) for name in ("physicalcpu", "logicalcpu"))
        threads = max(1, logical // max(1, physical))
        for _ in range(physical):
            groups.append((kind, frozenset(range(number, number + threads))))
            number += threads
    return usable(groups, cpus)


def sysctl(*names: str) -> dict[str, str]:
    """macOS's values of ``names`` and of all below them; those that it does not know are left out."""
    try:
        listing = subprocess.run(["/usr/sbin/sysctl", *names], capture_output=True, text=True, timeout=10).stdout
    except (OSError, subprocess.SubprocessError):
        return {}
    pairs = (line.split(": ", 1) for line in listing.splitlines() if ": " in line)
    return {key: value.strip() for key, value in pairs}


# --- Windows

PROCESSOR_CORE = 0  # RelationProcessorCore
GROUP_SIZE = 64  # logical CPUs of a processor group


def from_windows(records: bytes, cpus: frozenset[int]) -> Topology:
    """Read SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX records of 64-bit Windows; a higher efficiency class is faster.

    With several processor groups all CPUs are usable: an affinity speaks of one group, and does not say which.
    """
    found: list[tuple[int, frozenset[int]]] = []
    at = 0
    try:
        while at < len(records):
            relation, size = struct.unpack_from("<II", records, at)
            if relation == PROCESSOR_CORE:
                # Relationship, Size; then Flags, EfficiencyClass, 20 reserved bytes, GroupCount, the groups' masks.
                speed, n_groups = struct.unpack_from("<xB20xH", records, at + 8)
                masks = [struct.unpack_from("<QH", records, at + 32 + 16 * i) for i in range(n_groups)]
                bits = [(mask >> bit & 1, bit + group * GROUP_SIZE) for mask, group in masks for bit in range(64)]
                found.append((speed, frozenset(cpu for is_set, cpu in bits if is_set)))
            at += max(size, 8)
    except struct.error:
        return usable((), cpus)
    fastest = max((speed for speed, _ in found), default=0)
    everything = frozenset[int]().union(*(members for _, members in found))
    groups: list[Group] = [("performance" if speed == fastest else "efficiency", members) for speed, members in found]
    return usable(groups, everything if max(everything, default=0) >= GROUP_SIZE else cpus)


def _windows_cores() -> bytes:
    """What GetLogicalProcessorInformationEx says of the cores; empty where it says nothing."""
    if sys.platform != "win32":
        return b""
    ask: Callable[..., int] = ctypes.windll.kernel32.GetLogicalProcessorInformationEx
    size = ctypes.c_uint32(0)
    ask(PROCESSOR_CORE, None, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    return buffer.raw[: size.value] if ask(PROCESSOR_CORE, buffer, ctypes.byref(size)) else b""
