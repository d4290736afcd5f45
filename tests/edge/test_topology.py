"""Cores and their kinds, from the files and values of real systems."""

from __future__ import annotations

import struct
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import pytest

from edge import topology
from edge.topology import Core, Topology, from_linux, from_sysctl, from_windows, thread_candidates


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def sysfs(
    root: Path,
    siblings: Sequence[str],
    name: str = "core_cpus_list",
    cpu_files: Mapping[str, Sequence[int]] = {},
    **kinds: str,
) -> Path:
    """A folder like /sys/devices. ``siblings``: of each CPU, in order; ``cpu_files``: a number of each CPU, by name;
    ``kinds``: Intel's lists of CPUs."""
    write(root / "system/cpu/online", f"0-{len(siblings) - 1}")
    for cpu, listed in enumerate(siblings):
        write(root / f"system/cpu/cpu{cpu}/topology/{name}", listed)
        for file, values in cpu_files.items():
            write(root / f"system/cpu/cpu{cpu}/{file}", str(values[cpu]))
    for kind, cpus in kinds.items():
        write(root / kind / "cpus", cpus)
    return root


def cpus(*numbers: int) -> frozenset[int]:
    return frozenset(numbers)


def counts(found: Topology) -> tuple[int, int, int]:
    return found.performance, found.physical, found.logical


# --- Linux

XEON = ["0,4", "1,5", "2,6", "3,7"] * 2  # four cores with two threads each, numbered as Linux does on x86
I7_1260P = ["0-1", "0-1", "2-3", "2-3", "4-5", "4-5", "6-7", "6-7", "8", "9", "10", "11", "12", "13", "14", "15"]


@pytest.mark.parametrize("name", ["core_cpus_list", "thread_siblings_list"])
def test_hyperthreads_share_a_core(tmp_path: Path, name: str):
    found = from_linux(frozenset(range(8)), sysfs(tmp_path, XEON, name))
    assert found.cores[1] == Core("performance", (1, 5))
    assert counts(found) == (4, 4, 8)


def test_taskset_to_the_hyperthreads_of_one_core(tmp_path: Path):
    root = sysfs(tmp_path, XEON)
    assert from_linux(cpus(2, 6), root) == Topology((Core("performance", (2, 6)),))
    assert counts(from_linux(cpus(2, 3), root)) == (2, 2, 2)
    assert from_linux(cpus(0, 4, 5), root).cores == (Core("performance", (0, 4)), Core("performance", (5,)))


def test_intels_two_kinds(tmp_path: Path):
    root = sysfs(tmp_path, I7_1260P, cpu_core="0-7", cpu_atom="8-15")
    found = from_linux(frozenset(range(16)), root)
    assert (*counts(found), found.efficiency, found.fast) == (4, 12, 16, 8, 4)
    kept = from_linux(cpus(8, 9, 10), root)
    assert (*counts(kept), kept.efficiency, kept.fast) == (0, 3, 3, 3, 3), "a process kept on efficiency cores"


def test_a_list_of_atoms_alone_tells_nothing(tmp_path: Path):
    assert counts(from_linux(cpus(0, 1), sysfs(tmp_path, ["0", "1"], cpu_atom="0-1"))) == (2, 2, 2)


def test_a_board_with_big_and_little_cores(tmp_path: Path):
    """RK3588: four A55, four A76 in two clusters of slightly different clocks."""
    capacity = [530] * 4 + [1024, 1024, 1010, 1010]
    root = sysfs(tmp_path, [str(i) for i in range(8)], cpu_files={"cpu_capacity": capacity})
    found = from_linux(frozenset(range(8)), root)
    assert [core.cpus for core in found.cores if core.kind == "performance"] == [(4,), (5,), (6,), (7,)]
    assert from_linux(cpus(0, 1), root).performance == 0, "by the machine's largest, not by that of the usable CPUs"


@pytest.mark.parametrize(
    ("megahertz", "performance"),
    [
        ([5100] * 4 + [3300] * 4, 4),  # Zen 5 and Zen 5c
        ([5700, 5650, 5500, 5450, 5300, 5250, 5250, 5250], 8),  # preferred cores are one kind
        ([5100, 5100, 4400, 4400, 3900, 3900, 3000, 3000], 8),  # no two clusters
        ([3400] * 8, 8),
    ],
)
def test_frequencies_count_only_in_two_plain_clusters(tmp_path: Path, megahertz: list[int], performance: int):
    files = {"cpu_capacity": [1024] * 8, "cpufreq/cpuinfo_max_freq": [1000 * one for one in megahertz]}
    root = sysfs(tmp_path, [str(i) for i in range(8)], cpu_files=files)
    assert from_linux(frozenset(range(8)), root).performance == performance


def test_what_cannot_be_read_is_a_performance_core_for_itself(tmp_path: Path):
    everything = Topology((Core("performance", (0,)), Core("performance", (3,))))
    assert from_linux(cpus(0, 3), tmp_path / "nowhere") == everything
    assert from_linux(cpus(0, 3), sysfs(tmp_path, ["x", "", "", "3-"], cpu_core="?", cpu_atom="3")) == everything


def test_a_number_that_one_cpu_lacks_tells_nothing(tmp_path: Path):
    root = sysfs(tmp_path, ["0", "1", "2"], cpu_files={"cpu_capacity": [300, 300, 1024]})
    assert from_linux(cpus(0, 1, 2), root).performance == 1
    (root / "system/cpu/cpu1/cpu_capacity").unlink()
    assert from_linux(cpus(0, 1, 2), root).performance == 3


def test_there_is_always_a_core(tmp_path: Path):
    assert counts(from_linux(frozenset(), tmp_path)) == (1, 1, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="reads sysfs")
def test_the_affinity_of_this_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: [1, 5], raising=False)
    root = sysfs(tmp_path, XEON)
    assert counts(topology.read_topology(devices=root)) == (1, 1, 2)
    assert counts(topology.read_topology([0, 1], root)) == (2, 2, 2)


def test_this_machine():
    found = topology.read_topology()
    assert 1 <= found.physical <= found.logical == len(topology.allowed_cpus())


# --- macOS


def test_an_apple_chip():
    values = {
        "hw.perflevel0.physicalcpu": "4",
        "hw.perflevel0.logicalcpu": "4",
        "hw.perflevel1.physicalcpu": "6",
        "hw.perflevel1.logicalcpu": "6",
        "hw.physicalcpu": "10",
        "hw.logicalcpu": "10",
    }
    found = from_sysctl(values, frozenset(range(10)))
    assert (*counts(found), found.efficiency) == (4, 10, 10, 6)


def test_an_intel_mac_and_one_that_tells_nothing():
    values = {"hw.physicalcpu": "6", "hw.logicalcpu": "12"}
    assert counts(from_sysctl(values, frozenset(range(12)))) == (6, 6, 12)
    assert counts(from_sysctl({}, frozenset(range(4)))) == (4, 4, 4)


# --- Windows


def record(speed: int, *masks: tuple[int, int], relation: int = 0) -> bytes:
    """SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX of one core; ``masks``: (mask, group)."""
    groups = b"".join(struct.pack("<QH6x", mask, group) for mask, group in masks)
    return struct.pack("<IIBB20xH", relation, 32 + len(groups), 1, speed, len(masks)) + groups


def test_windows_efficiency_classes():
    records = record(1, (0b0011, 0)) + record(1, (0b1100, 0)) + record(0, (0b10000, 0)) + record(0, (0b100000, 0))
    found = from_windows(records, frozenset(range(6)))
    assert found.cores[0] == Core("performance", (0, 1))
    assert (*counts(found), found.efficiency) == (2, 4, 6, 2)
    assert from_windows(records, cpus(0, 1)) == Topology((Core("performance", (0, 1)),))


def test_windows_with_one_class_has_performance_cores():
    records = record(0, (1, 0)) + record(0, (2, 0), relation=1) + record(0, (2, 0))
    assert counts(from_windows(records, cpus(0, 1))) == (2, 2, 2)


def test_windows_with_two_groups_does_not_go_by_the_affinity():
    """An affinity is a mask of one group: taken for CPUs 0 to 63 it would hide the other group's cores."""
    records = record(0, (1, 0)) + record(0, (1, 1))
    assert from_windows(records, cpus(0)).cores == (Core("performance", (0,)), Core("performance", (64,)))


@pytest.mark.parametrize("records", [b"", b"\0" * 12, record(0, (1, 0))[:-3], b"\0" * 64])
def test_windows_records_that_make_no_sense(records: bytes):
    assert counts(from_windows(records, cpus(0, 1))) == (2, 2, 2)


# --- thread counts


def cores(performance: int, efficiency: int = 0, threads: int = 1) -> Topology:
    fast = [Core("performance", tuple(range(i * threads, (i + 1) * threads))) for i in range(performance)]
    return Topology((*fast, *(Core("efficiency", (1000 + i,)) for i in range(efficiency))))


@pytest.mark.parametrize(
    ("found", "quota", "candidates"),
    [
        (cores(1), None, [1]),
        (cores(1, threads=2), None, [1, 2]),
        (cores(4), None, [1, 2, 4]),
        (cores(4, threads=2), None, [1, 2, 4, 8]),
        (cores(8, 16, threads=2), None, [1, 4, 8, 24, 32]),
        (cores(0, 4), None, [1, 2, 4]),
        (cores(8, 16, threads=2), 6.9, [1, 3, 6]),
        (cores(8, 16, threads=2), 12.0, [1, 4, 8, 12]),
        (cores(4), 0.5, [1]),
        (cores(4), 64.0, [1, 2, 4]),
    ],
)
def test_thread_candidates(found: Topology, quota: float | None, candidates: list[int]):
    assert thread_candidates(found, quota) == candidates
