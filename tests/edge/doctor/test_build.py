"""What a folder of libraries tells of the build, and what builds another."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge.doctor import build
from edge.doctor.build import Build, compilers, cuda_compiler, library_build, read_build

NEEDS_GOMP = b"\x7fELF...\0libggml-base.so.0\0libgomp.so.1\0libm.so.6\0"
CPU_ONLY = Build((), 1, None)


def folder_of(folder: Path, *names: str, cpu: bytes = b"") -> Path:
    for name in names:
        (folder / name).write_bytes(cpu if "-cpu" in name else b"")
    return folder


def test_each_library_counts_once(tmp_path: Path):
    """The package holds each three times: libggml-cpu.so, .so.0 and .so.0.25.3."""
    cpu = ["libggml-cpu.so", "libggml-cpu.so.0", "libggml-cpu.so.0.25.3"]
    folder_of(tmp_path, "libggml.so", "libggml-base.so", *cpu, "libllama.so", cpu=NEEDS_GOMP)
    assert read_build(tmp_path) == Build((), 1, "libgomp.so.1")


@pytest.mark.parametrize(
    ("names", "build"),
    [
        (["libggml-cuda.so", "libggml-cpu.so"], Build(("CUDA",), 1, None)),
        (["ggml-vulkan.dll", "ggml-cpu-haswell.dll", "ggml-cpu-x64.dll", "ggml-base.dll"], Build(("Vulkan",), 2, None)),
        (["libggml-metal.dylib", "libggml-metal.0.dylib", "libggml-cpu.dylib"], Build(("Metal",), 1, None)),
        (["libggml-blas.so", "libggml-base.so"], Build((), 0, None)),
    ],
)
def test_kinds_of_builds(tmp_path: Path, names: list[str], build: Build):
    assert read_build(folder_of(tmp_path, *names)) == build


def test_an_openmp_that_came_with_a_wheel_is_not_the_systems(tmp_path: Path):
    cpu = NEEDS_GOMP.replace(b"libgomp.so.1", b"libgomp-a34b3233.so.1.0.0")
    assert read_build(folder_of(tmp_path, "libggml-cpu.so", cpu=cpu)).openmp is None


def test_a_missing_openmp_is_told_before_llama_cpp_fails():
    build = Build((), 1, "libgomp.so.1")
    there = library_build(build, nvidia=False, has=lambda name: name == "libgomp.so.1")
    assert (there.status, there.found) == ("ok", "CPU only, 1 CPU variant, OpenMP by libgomp.so.1")
    missing = library_build(build, nvidia=False, has=lambda name: False)
    assert missing.status == "bad"
    assert "libgomp.so.1 is not installed" in missing.found
    assert "apt install libgomp1" in missing.todo
    assert "libomp5" in library_build(Build((), 1, "libomp.so.5"), nvidia=False, has=lambda name: False).todo


def test_the_loader_is_asked():
    assert not build.can_be_loaded("libno-such-library.so.1")
    if sys.platform == "linux":
        assert build.can_be_loaded("libc.so.6") or build.can_be_loaded("libc.so")


def test_a_gpu_that_the_build_cannot_use():
    unused = library_build(CPU_ONLY, nvidia=True)
    assert (unused.status, unused.todo) == ("warn", "make setup CUDA=1")
    assert library_build(CPU_ONLY, nvidia=False).status == "ok"
    for backend in ("CUDA", "Vulkan"):
        used = library_build(Build((backend,), 1, None), nvidia=True)
        assert (used.status, used.found) == ("ok", f"{backend} and CPU, 1 CPU variant")


def test_a_folder_without_the_cpus_part():
    assert library_build(Build((), 0, None), nvidia=False).status == "bad"


def test_compilers_matter_only_until_the_library_is_there(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "platform", "linux")
    only_c = {"CC": "/usr/bin/cc", "CXX": None}
    assert compilers(only_c, installed=True).status == "ok"
    missing = compilers(only_c, installed=False)
    assert (missing.status, missing.todo) == ("bad", "sudo apt install build-essential")
    assert missing.found.startswith("none for C++;")
    both = compilers({"CC": "/usr/bin/cc", "CXX": "/usr/bin/c++"}, installed=False)
    assert (both.status, both.found) == ("ok", "/usr/bin/cc, /usr/bin/c++")


def executable(path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)
    return str(path)


@pytest.mark.skipif(sys.platform == "win32", reason="programs end in .exe there")
def test_which_compilers_a_build_would_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    gcc, clang = executable(tmp_path / "gcc"), executable(tmp_path / "clang++")
    nvcc = executable(tmp_path / "cuda" / "bin" / "nvcc")
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("CC", "CXX", "CUDACXX", "CUDA_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CUDA_HOME", str(tmp_path / "cuda"))
    assert build.find_compilers() == {"CC": gcc, "CXX": clang}
    assert build.find_nvcc() == nvcc
    monkeypatch.setenv("CC", "no-such-compiler -m64")
    assert build.find_compilers()["CC"] is None


def test_cuda_compiler():
    assert cuda_compiler("/usr/bin/nvcc").status == "ok"
    assert "make setup CUDA=1" in cuda_compiler(None).todo
