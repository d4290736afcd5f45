"""What kind of build of llama.cpp is installed, by its files and without loading it; and what could build another."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge.doctor.check import Check

GPU_BACKENDS = {"cuda": "CUDA", "hip": "ROCm", "metal": "Metal", "opencl": "OpenCL", "sycl": "SYCL", "vulkan": "Vulkan"}
FOR_NVIDIA = ("CUDA", "Vulkan")
# libggml-cuda.so; libggml-cpu-haswell.so in a build that has the CPU's part once for each kind of CPU. Not
# libggml-cpu.so.0: the package has each library several times.
LIBRARY = re.compile(r"(?:lib)?ggml-([a-z0-9]+)(?:-[\w-]+)?\.(?:so|dylib|dll)")
# As the file names what it needs. A wheel that brings an OpenMP of its own names it otherwise, and has it.
OPENMP = re.compile(rb"\0(lib(?:gomp|i?omp5?)\.so(?:\.\d+)*)\0")
COMPILERS = {"CC": ("cc", "gcc", "clang"), "CXX": ("c++", "g++", "clang++")}
USUAL_CUDA = Path("/usr/local/cuda")


@dataclass(frozen=True)
class Build:
    """``gpus``: what it can compute on beside the CPU; ``variants`` of the CPU's part, each for a kind of CPU.
    ``openmp``: the system library that the CPU's part needs, None for none."""

    gpus: tuple[str, ...]
    variants: int
    openmp: str | None


def read_build(folder: Path) -> Build:
    """What the libraries in ``folder`` are; nothing for one that cannot be read."""
    found = {path: match[1] for path in sorted(folder.glob("*ggml-*")) if (match := LIBRARY.fullmatch(path.name))}
    cpus = [path for path, part in found.items() if part == "cpu"]
    gpus = tuple(GPU_BACKENDS[part] for part in dict.fromkeys(found.values()) if part in GPU_BACKENDS)
    return Build(gpus, len(cpus), needed_openmp(cpus[0]) if cpus else None)


def needed_openmp(library: Path) -> str | None:
    """The system's OpenMP library that a library of Linux needs."""
    try:
        match = OPENMP.search(library.read_bytes())
    except OSError:
        return None
    return match[1].decode() if match else None


def can_be_loaded(library: str) -> bool:
    """Whether the system has ``library``; asked of its loader, since no list of places is right on every system."""
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def library_build(build: Build, nvidia: bool, has: Callable[[str], bool] = can_be_loaded) -> Check:
    """``nvidia``: whether this machine has a GPU of NVIDIA's."""
    name = "library build"
    if not build.variants:
        return Check(name, "bad", "the part for the CPU is missing", "make setup REBUILD=1")
    parts = " and ".join((*build.gpus, "CPU")) if build.gpus else "CPU only"
    found = f"{parts}, {build.variants} CPU variant{'s' if build.variants > 1 else ''}"
    if build.openmp and not has(build.openmp):
        todo = "sudo apt install libgomp1 (Debian, Ubuntu), sudo dnf install libgomp (Fedora)"
        if "gomp" not in build.openmp:
            todo = "sudo apt install libomp5 (Debian, Ubuntu), sudo dnf install libomp (Fedora)"
        return Check(name, "bad", f"{found}; the system library {build.openmp} is not installed", todo)
    if build.openmp:
        found += f", OpenMP by {build.openmp}"
    if nvidia and not any(gpu in FOR_NVIDIA for gpu in build.gpus):
        return Check(name, "warn", f"{found}; the NVIDIA GPU is not used", "make setup CUDA=1")
    return Check(name, "ok", found)


def compilers(paths: Mapping[str, str | None], installed: bool) -> Check:
    """``paths`` of the C and the C++ compiler, by CC and CXX. CMake is not looked for: pip brings its own."""
    name = "compilers"
    found = [path for path in paths.values() if path]
    if len(found) == len(paths):
        return Check(name, "ok", ", ".join(found))
    missing = " and ".join(word for key, word in (("CC", "C"), ("CXX", "C++")) if not paths[key])
    if installed:
        return Check(name, "ok", f"none for {missing}; none is needed, llama.cpp is installed")
    if sys.platform == "win32":
        return Check(name, "warn", f"none for {missing} in PATH; Visual Studio's is found without it")
    todo = "xcode-select --install" if sys.platform == "darwin" else "sudo apt install build-essential"
    return Check(name, "bad", f"none for {missing}; llama.cpp is built from source", todo)


def find_compilers() -> dict[str, str | None]:
    """The paths of the C and the C++ compiler that a build would take."""
    wanted = {variable: os.environ.get(variable, "").split()[:1] or names for variable, names in COMPILERS.items()}
    return {
        variable: next((path for name in names if (path := shutil.which(name))), None)
        for variable, names in wanted.items()
    }


def cuda_compiler(nvcc: str | None) -> Check:
    """For a machine with an NVIDIA GPU whose library is built without CUDA."""
    if nvcc:
        return Check("CUDA compiler", "ok", nvcc)
    return Check("CUDA compiler", "warn", "nvcc is not found", "install NVIDIA's CUDA toolkit, then: make setup CUDA=1")


def find_nvcc() -> str | None:
    """NVIDIA's compiler, where the set-up looks for it."""
    homes = [os.environ.get("CUDA_PATH"), os.environ.get("CUDA_HOME"), USUAL_CUDA]
    folders = [str(Path(home) / "bin") for home in homes if home]
    places = (shutil.which(os.environ.get("CUDACXX", "nvcc")), *(shutil.which("nvcc", path=one) for one in folders))
    return next((place for place in places if place), None)
