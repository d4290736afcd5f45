"""What this machine has and what it lacks, without loading llama.cpp and, unless asked, without the network."""

from __future__ import annotations

import platform
import shutil
import sys
from pathlib import Path

from edge import machine
from edge.cgroup import cgroup_limits, read_text
from edge.doctor.build import (
    compilers,
    cuda_compiler,
    find_compilers,
    find_nvcc,
    library_build,
    read_build,
)
from edge.doctor.check import GB, Check
from edge.doctor.gpus import Gpu, GpuError, gpu_checks, nvidia_gpus
from edge.doctor.hubs import hub_checks
from edge.doctor.models import model_checks
from edge.llama import library
from edge.topology import DEVICES, Topology, read_topology

PYTHON_NEEDED = (3, 11)
MEMORY_LITTLE = 2 * GB  # a 1.5B model at Q4_K_M with its cache
DISK_LITTLE = 5 * GB  # a 7B model at Q4_K_M
# Sets that every compiler of the last years knows and that change the speed.
WORTH_A_BUILD = frozenset({"AVX", "AVX2", "FMA", "F16C", "AVX512", "NEON", "DOTPROD", "MATMUL_INT8"})
# Drivers whose "powersave" is their usual way to work: the CPU chooses its frequency by the load.
OWN_POWERSAVE = ("intel_pstate", "amd-pstate-epp")


def checks(models: Path, *, hubs: bool = False, forbidden_by: str = "") -> list[Check]:
    """All checks, in the order a person would mend them. ``models`` is the models folder; ``hubs``: ask those too,
    unless ``forbidden_by`` says what forbids the network."""
    return [
        *installation(),
        *processor(),
        memory(machine.memory()),
        disk(models, machine.disk_free(models)),
        *(hub_checks(forbidden_by) if hubs else []),
        *model_checks(models),
    ]


def installation() -> list[Check]:
    """Python, llama.cpp, the GPUs that it could use, and what builds it."""
    version, folder = library.version(), library.folder()
    build = read_build(folder) if version is not None and folder is not None and folder.is_dir() else None
    gpus = find_gpus()
    nvidia = isinstance(gpus, list) and bool(gpus)
    built_with = build.gpus if build else ()
    return [
        python(tuple(sys.version_info[:3])),
        llama_cpp(version, folder),
        *([library_build(build, nvidia)] if build else []),
        instruction_sets(library.built_for(), machine.cpu(), installed=version is not None),
        compilers(find_compilers(), version is not None),
        *gpu_checks(gpus, built_with),
        *([cuda_compiler(find_nvcc())] if nvidia and "CUDA" not in built_with else []),
    ]


def find_gpus() -> list[Gpu] | GpuError | None:
    """NVIDIA's GPUs, or why they cannot be told; None without a driver."""
    nvidia_smi = shutil.which("nvidia-smi")
    try:
        return nvidia_gpus(nvidia_smi) if nvidia_smi else None
    except GpuError as error:
        return error


def processor() -> list[Check]:
    limits, topology = cgroup_limits(), read_topology()
    threads = machine.usable_cores(limits, topology)
    slow = governor()
    return [cpu_cores(machine.cpu(), machine.cores(limits), topology, threads), *([slow] if slow else [])]


def python(version: tuple[int, ...]) -> Check:
    found = ".".join(map(str, version)) + f", {sys.executable}"
    if version[:2] < PYTHON_NEEDED:
        return Check("Python", "bad", found, "Python 3.11 or newer is needed: make PYTHON=python3.12 setup")
    return Check("Python", "ok", found)


def llama_cpp(version: str | None, folder: Path | None) -> Check:
    if version is None or folder is None:
        return Check(library.PACKAGE, "bad", "not installed", "make setup")
    if not folder.is_dir():
        return Check(
            library.PACKAGE, "bad", f"{version}, but without its libraries in {folder}", "make setup REBUILD=1"
        )
    if version != library.VERSION:
        return Check(library.PACKAGE, "bad", f"{version} in {folder}", f"{library.VERSION} is needed: make setup")
    return Check(library.PACKAGE, "ok", f"{version} in {folder}")


def instruction_sets(needed: frozenset[str] | None, cpu: machine.Cpu, *, installed: bool) -> Check:
    """Whether this CPU has what the library was built for, and whether the library uses what this CPU has."""
    name = "instruction sets"
    if not installed:
        return Check(name, "warn", f"this CPU has {_words(cpu.has)}; no library to compare with")
    if needed is None:
        return Check(name, "warn", f"this CPU has {_words(cpu.has)}; what llama.cpp was built for is unknown")
    try:
        library.refuse_if_lacking(needed, cpu)
    except library.LibraryError as error:
        return Check(name, "bad", error.message, error.hint)
    unsure = needed - cpu.has
    if unsure:
        return Check(name, "warn", f"llama.cpp needs {_words(needed)}; this system does not tell of {_words(unsure)}")
    unused = (cpu.has & WORTH_A_BUILD) - needed
    if unused:
        return Check(
            name,
            "warn",
            f"llama.cpp is built for {_words(needed)}; this CPU also has {_words(unused)}",
            "for more speed, build it on this machine: make setup REBUILD=1",
        )
    return Check(name, "ok", f"llama.cpp is built for what this CPU has: {_words(needed)}")


def cpu_cores(cpu: machine.Cpu, cores: machine.Cores, topology: Topology, threads: int) -> Check:
    """``topology`` is of the usable cores; ``threads``: as many as will compute."""
    physical = "unknown" if cores.physical is None else str(cores.physical)
    found = f"{cpu.name or cpu.arch or platform.machine()}: {physical} physical, {cores.logical} logical"
    found += kinds(topology)
    used = f"{threads} thread{'s' if threads > 1 else ''} will be used"
    if cores.usable >= cores.logical:
        return Check("CPU", "ok", f"{found}; {used}")
    why = "affinity" if cores.quota is None else f"a quota of {cores.quota:g} CPUs"
    return Check("CPU", "warn", f"{found}; {cores.usable} usable here ({why}); {used}")


def kinds(topology: Topology) -> str:
    """What is special about the usable cores: two kinds of them, several threads a core; empty for plain ones."""
    if not topology.efficiency:
        threads = threads_a_core(topology, "performance")
        return f" ({threads} threads a core)" if threads > 1 else ""
    parts = []
    for kind, count in (("performance", topology.performance), ("efficiency", topology.efficiency)):
        threads = threads_a_core(topology, kind)
        parts += [f"{count} {kind}{f' with {threads} threads each' if threads > 1 else ''}"] if count else []
    return f" ({', '.join(parts)})"


def threads_a_core(topology: Topology, kind: str) -> int:
    return max((len(core.cpus) for core in topology.cores if core.kind == kind), default=0)


def governor(devices: Path = DEVICES) -> Check | None:
    """A note where Linux keeps cores at their lowest frequency. Nothing is said of temperatures and throttling: what
    systems count of them is of all the time since they started."""
    policies = sorted((devices / "system" / "cpu" / "cpufreq").glob("policy*"))
    names = [
        [(read_text(path / name) or "").strip() for name in ("scaling_governor", "scaling_driver")] for path in policies
    ]
    slow = sum(name == "powersave" and driver not in OWN_POWERSAVE for name, driver in names)
    if not slow:
        return None
    found = f"the governor powersave keeps {slow} of {len(policies)} clocks at their lowest frequency"
    return Check("CPU frequency", "warn", found, "sudo cpupower frequency-set -g schedutil")


def memory(found: machine.Memory) -> Check:
    text = f"{found.available / GB:.1f} GB available of {found.total / GB:.1f} GB"
    if found.limit is not None:
        text += " (limited by a control group)"
    if found.available < MEMORY_LITTLE:
        return Check("memory", "warn", text, "close other programs, or use a small model")
    return Check("memory", "ok", text)


def disk(models: Path, free: int | None) -> Check:
    if free is None:
        return Check("disk", "warn", f"free space at {models} is unknown", "check that the folder may be read")
    text = f"{free / GB:.1f} GB free at {models}"
    if free < DISK_LITTLE:
        return Check("disk", "warn", text, "keep models elsewhere: set EDGE_HOME or use --models-dir")
    return Check("disk", "ok", text)


def _words(words: frozenset[str]) -> str:
    return ", ".join(sorted(words)) or "none known"
