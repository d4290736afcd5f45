"""What this machine has and what it lacks, without loading llama.cpp and without the network."""

from __future__ import annotations

import platform
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge import machine
from edge.cgroup import cgroup_limits
from edge.llama import library

GB = 1e9
PYTHON_NEEDED = (3, 11)
MEMORY_LITTLE = 2 * GB  # a 1.5B model at Q4_K_M with its cache
DISK_LITTLE = 5 * GB  # a 7B model at Q4_K_M
# Sets that every compiler of the last years knows and that change the speed.
WORTH_A_BUILD = frozenset({"AVX", "AVX2", "FMA", "F16C", "AVX512", "NEON", "DOTPROD", "MATMUL_INT8"})

Status = Literal["ok", "warn", "bad"]


@dataclass(frozen=True)
class Check:
    """``found`` is one line on what is there; ``todo`` the next step, empty where none is needed."""

    name: str
    status: Status
    found: str
    todo: str = ""


def checks(models: Path) -> list[Check]:
    """All checks, in the order a person would mend them; ``models`` is the models folder."""
    limits = cgroup_limits()
    cpu = machine.cpu()
    return [
        python(tuple(sys.version_info[:3])),
        llama_cpp(library.version(), library.folder()),
        instruction_sets(library.built_for(), cpu, installed=library.version() is not None),
        compiler(shutil.which("c++") or shutil.which("g++") or shutil.which("clang++"), library.version() is not None),
        cpu_cores(cpu, machine.cores(limits)),
        memory(machine.memory(limits)),
        disk(models, machine.disk_free(models)),
        gpu(shutil.which("nvidia-smi"), library.folder()),
    ]


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


def compiler(path: str | None, installed: bool) -> Check:
    if path:
        return Check("C++ compiler", "ok", path)
    if installed:
        return Check("C++ compiler", "ok", "none found; none is needed, llama.cpp is installed")
    if sys.platform == "win32":
        return Check("C++ compiler", "warn", "not in PATH; Visual Studio's is found without it")
    todo = "xcode-select --install" if sys.platform == "darwin" else "sudo apt install build-essential"
    return Check("C++ compiler", "bad", "none found; llama.cpp is built from source", todo)


def cpu_cores(cpu: machine.Cpu, cores: machine.Cores) -> Check:
    physical = "unknown" if cores.physical is None else str(cores.physical)
    found = f"{cpu.name or cpu.arch or platform.machine()}: {physical} physical, {cores.logical} logical"
    if cores.usable >= cores.logical:
        return Check("CPU", "ok", found)
    why = "affinity" if cores.quota is None else f"a quota of {cores.quota:g} CPUs"
    return Check("CPU", "warn", f"{found}; {cores.usable} usable here ({why})")


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


def gpu(nvidia_smi: str | None, folder: Path | None) -> Check:
    with_cuda = folder is not None and any(folder.glob("*ggml-cuda*"))
    if nvidia_smi and with_cuda:
        return Check("GPU", "ok", "an NVIDIA driver, and llama.cpp is built with CUDA")
    if nvidia_smi:
        return Check("GPU", "warn", "an NVIDIA driver, but llama.cpp is built without CUDA", "make setup CUDA=1")
    if with_cuda:
        return Check("GPU", "warn", "llama.cpp is built with CUDA, but there is no NVIDIA driver: it runs on the CPU")
    return Check("GPU", "ok", "none found; llama.cpp runs on the CPU")


def _words(words: frozenset[str]) -> str:
    return ", ".join(sorted(words)) or "none known"
