"""Facts about the machine, from the texts and files that real systems give."""

from __future__ import annotations

import math
from pathlib import Path

import psutil
import pytest

from edge import machine
from edge.cgroup import Limits
from edge.topology import Core, Topology

CELERON = """\
processor\t: 0
model name\t: Intel(R) Celeron(R) N5105 @ 2.00GHz
flags\t\t: fpu sse sse2 pni ssse3 sse4_1 sse4_2 movbe popcnt aes rdrand sha_ni gfni

processor\t: 1
model name\t: Intel(R) Celeron(R) N5105 @ 2.00GHz
flags\t\t: fpu sse sse2 pni ssse3 sse4_1 sse4_2 movbe popcnt aes rdrand sha_ni gfni
"""
RASPBERRY_PI_5 = """\
processor\t: 0
Features\t: fp asimd evtstrm aes crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
Model\t\t: Raspberry Pi 5 Model B Rev 1.0
"""


def test_a_celeron_has_sse_but_no_avx():
    cpu = machine.cpu_from_cpuinfo(CELERON, "x86_64")
    assert cpu.name == "Intel(R) Celeron(R) N5105 @ 2.00GHz"
    assert cpu.has == {"SSE3", "SSSE3"}
    assert {"AVX", "AVX2", "FMA", "F16C", "BMI2", "AVX512"} <= cpu.lacks


def test_avx512_needs_all_five_parts():
    """Knights Landing has avx512f alone; a build for AVX512 also uses bw, dq, vl and cd."""
    flags = "flags : avx512f avx512cd avx512vl avx512dq"
    assert "AVX512" in machine.cpu_from_cpuinfo(flags, "x86_64").lacks
    assert "AVX512" in machine.cpu_from_cpuinfo(flags + " avx512bw", "x86_64").has


def test_a_set_that_one_core_lacks_does_not_count():
    text = "flags : avx avx2\nflags : avx\n"
    cpu = machine.cpu_from_cpuinfo(text, "x86_64")
    assert "AVX" in cpu.has
    assert "AVX2" in cpu.lacks


def test_an_arm_board():
    cpu = machine.cpu_from_cpuinfo(RASPBERRY_PI_5, "aarch64")
    assert cpu.name == "Raspberry Pi 5 Model B Rev 1.0"
    assert cpu.has == {"NEON", "ARM_FMA", "FP16_VA", "DOTPROD"}
    assert cpu.lacks == {"MATMUL_INT8", "SVE", "SME", "SME2"}


@pytest.mark.parametrize("text", ["", "processor : 0\n", "vendor_id : GenuineIntel\nmodel name : X\n"])
def test_without_flags_everything_is_unknown(text: str):
    assert machine.cpu_from_cpuinfo(text, "x86_64").features == {}


def test_an_unknown_architecture_is_unknown():
    assert machine.cpu_from_cpuinfo("flags : avx2\n", "riscv64").features == {}


def test_an_apple_chip():
    values = {
        "machdep.cpu.brand_string": "Apple M1",
        "hw.optional.AdvSIMD": "1",
        "hw.optional.arm.FEAT_DotProd": "1",
        "hw.optional.arm.FEAT_I8MM": "0",
    }
    cpu = machine.cpu_from_sysctl(values, "arm64")
    assert cpu.name == "Apple M1"
    assert cpu.has == {"NEON", "ARM_FMA", "DOTPROD"}
    assert cpu.lacks == {"MATMUL_INT8"}, "names that this macOS does not tell of are unknown, not lacking"


def test_an_intel_mac():
    values = {
        "machdep.cpu.brand_string": "Intel(R) Core(TM) i5",
        "machdep.cpu.features": "FPU SSE3 SSSE3 FMA AVX1.0 F16C",
        "machdep.cpu.leaf7_features": "BMI2 AVX2",
    }
    cpu = machine.cpu_from_sysctl(values, "x86_64")
    assert {"AVX", "AVX2", "FMA", "F16C", "BMI2"} <= cpu.has
    assert "AVX512" in cpu.lacks


def test_windows_does_not_tell_of_fma():
    cpu = machine.cpu_from_windows(lambda number: number in (13, 36, 39), "Some CPU", "amd64")
    assert cpu.has == {"SSE3", "SSSE3", "AVX"}
    assert cpu.lacks == {"AVX2", "AVX512"}
    assert "FMA" not in cpu.features


def test_this_cpu_is_read():
    cpu = machine.cpu()
    assert cpu.arch
    assert cpu.has.isdisjoint(cpu.lacks)


# --- cores, memory, disk


def test_a_quota_cuts_usable_cores_but_never_to_none():
    assert machine.cores(Limits(cpus=0.5)).usable == 1
    assert machine.cores(Limits(cpus=1.9)).usable == 1
    allowed = machine.cores(Limits()).usable
    assert 1 <= allowed <= (psutil.cpu_count() or math.inf)
    assert machine.cores(Limits(cpus=10000.0)).usable == allowed


def test_affinity_cuts_usable_cores(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else 4)
    monkeypatch.setattr(psutil.Process, "cpu_affinity", lambda self: [0, 1, 2, 3, 4, 5], raising=False)
    cores = machine.cores(Limits())
    assert (cores.physical, cores.logical, cores.usable) == (4, 8, 6)
    assert machine.usable_cores() <= 4


def test_threads_by_cores_of_one_kind(monkeypatch: pytest.MonkeyPatch):
    """On taskset to the two hyperthreads of one core there were two threads, which took the core from each other; on a
    hybrid CPU there were as many as cores, and the quick ones waited for the slow ones."""
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 20 if logical else 12)
    one = Topology((Core("performance", (3, 11)),))
    slow = tuple(Core("efficiency", (cpu,)) for cpu in range(12, 20))
    hybrid = Topology((*(Core("performance", (cpu, cpu + 1)) for cpu in (0, 2, 4, 6)), *slow))
    assert machine.usable_cores(Limits(), one) == 1
    assert machine.usable_cores(Limits(), hybrid) == 4
    assert machine.usable_cores(Limits(cpus=3.5), hybrid) == 3
    assert machine.usable_cores(Limits(cpus=0.5), hybrid) == 1
    assert machine.usable_cores(Limits(), Topology(slow)) == 8, "for a process that is kept on slow cores"


def test_threads_where_hyperthreads_are_not_told_apart(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(psutil, "cpu_count", lambda logical=True: 8 if logical else 4)
    untold = Topology(tuple(Core("performance", (cpu,)) for cpu in range(8)))
    assert machine.usable_cores(Limits(), untold) == 4


def test_memory_is_cut_down_to_the_group():
    whole = machine.memory(Limits())
    assert 0 < whole.available <= whole.total
    assert whole.limit is None
    small = machine.memory(Limits(memory=1 << 20, memory_used=3 << 18))
    assert small == machine.Memory(total=1 << 20, available=1 << 18, limit=1 << 20)
    assert machine.memory(Limits(memory=10, memory_used=20)).available == 0


def test_disk_free_of_a_folder_that_is_yet_to_be_made(tmp_path: Path):
    free = machine.disk_free(tmp_path / "not" / "yet")
    assert free is not None
    assert free > 0
