"""What ``edge doctor`` finds, each check alone, and that it never loads the library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge import machine
from edge.doctor import checks as doctor
from edge.doctor.gpus import Gpu
from edge.llama import library
from edge.topology import Core, Kind, Topology
from tests.edge import tiny_gguf

AVX2_CPU = machine.Cpu("Laptop", "x86_64", {"AVX": True, "AVX2": True, "AVX512": False})


def test_doctor_runs_without_loading_the_library(tmp_path: Path):
    """A library for another CPU ends the process that loads it, the doctor's too."""
    (tmp_path / "model").mkdir()
    tiny_gguf.write(tmp_path / "model" / "model-Q8_0.gguf")
    ask = (
        "import json, sys; from pathlib import Path; from edge.doctor.checks import checks;"
        f"found = checks(Path({str(tmp_path)!r}));"
        "maps = Path('/proc/self/maps');"
        "text = maps.read_text() if maps.is_file() else '';"
        "loaded = [m for m in sys.modules if m.startswith('llama_cpp')] + [n for n in ('ggml', 'llama.') if n in text];"
        "print(json.dumps([[c.name for c in found], loaded]))"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    names, loaded = json.loads(done.stdout)
    assert loaded == []
    only_on_some = {"CUDA compiler", "CPU frequency"}
    assert [name for name in dict.fromkeys(names) if name not in only_on_some] == [
        "Python",
        "llama-cpp-python",
        "library build",
        "instruction sets",
        "compilers",
        "GPU",
        "CPU",
        "memory",
        "disk",
        "model model:Q8_0",
    ]


def test_this_installation_is_healthy(tmp_path: Path):
    assert [check for check in doctor.checks(tmp_path) if check.status == "bad"] == []


def test_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(library, "version", lambda: None)
    monkeypatch.setattr(library, "folder", lambda: None)
    found = {check.name: check for check in doctor.checks(tmp_path)}
    assert found["llama-cpp-python"].status == "bad"
    assert "library build" not in found


def test_what_a_gpu_adds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A build without CUDA beside an NVIDIA GPU: the GPU is named, and what is missing to use it."""
    (tmp_path / "libggml-cpu.so").touch()
    monkeypatch.setattr(library, "version", lambda: library.VERSION)
    monkeypatch.setattr(library, "folder", lambda: tmp_path)
    monkeypatch.setattr(library, "built_for", lambda: None)
    monkeypatch.setattr(doctor, "find_gpus", lambda: [Gpu("Some GPU", 8 << 30, 7 << 30, "550")])
    monkeypatch.setattr(doctor, "find_nvcc", lambda: None)
    found = {check.name: check for check in doctor.installation()}
    assert found["library build"].todo == "make setup CUDA=1"
    assert found["GPU"].found.startswith("Some GPU")
    assert found["CUDA compiler"].status == "warn"
    (tmp_path / "libggml-cuda.so").touch()
    found = {check.name: check for check in doctor.installation()}
    assert found["library build"].status == "ok"
    assert "CUDA compiler" not in found


def test_the_hubs_are_asked_only_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []
    monkeypatch.setattr(doctor, "hub_checks", lambda forbidden_by: asked.append(forbidden_by) or [])
    doctor.checks(tmp_path)
    assert asked == []
    doctor.checks(tmp_path, hubs=True, forbidden_by="--offline")
    assert asked == ["--offline"]


def test_python():
    assert doctor.python((3, 11, 0)).status == "ok"
    assert doctor.python((3, 10, 9)).status == "bad"


def test_the_package(tmp_path: Path):
    assert doctor.llama_cpp(None, None).todo == "make setup"
    assert doctor.llama_cpp(library.VERSION, tmp_path).status == "ok"
    assert doctor.llama_cpp(library.VERSION, tmp_path / "gone").status == "bad"
    assert "0.3.36 is needed" in doctor.llama_cpp("0.2.0", tmp_path).todo


@pytest.mark.parametrize(
    ("needed", "status", "words"),
    [
        ({"AVX", "AVX2"}, "ok", "AVX, AVX2"),
        ({"AVX", "AVX512"}, "bad", "built for AVX512, which this CPU (Laptop) does not have"),
        ({"AVX"}, "warn", "this CPU also has AVX2"),
        ({"AVX", "AVX2", "FMA"}, "warn", "does not tell of FMA"),
        (None, "warn", "unknown"),
    ],
)
def test_instruction_sets(needed, status: str, words: str):
    check = doctor.instruction_sets(None if needed is None else frozenset(needed), AVX2_CPU, installed=True)
    assert check.status == status
    assert words in check.found


def core(kind: Kind, *cpus: int) -> Core:
    return Core(kind, cpus)


PLAIN = Topology(tuple(core("performance", cpu) for cpu in range(4)))
WITH_SMT = Topology(tuple(core("performance", cpu, cpu + 4) for cpu in range(4)))
HYBRID = Topology((core("performance", 0, 1), core("performance", 2, 3), *(core("efficiency", i) for i in range(4, 8))))


def test_the_kinds_of_cores_and_the_threads_are_told():
    def found(physical: int, logical: int, topology: Topology, threads: int) -> str:
        return doctor.cpu_cores(AVX2_CPU, machine.Cores(physical, logical, logical, None), topology, threads).found

    assert found(4, 4, PLAIN, 4) == "Laptop: 4 physical, 4 logical; 4 threads will be used"
    assert found(4, 8, WITH_SMT, 4) == "Laptop: 4 physical, 8 logical (2 threads a core); 4 threads will be used"
    kinds = "(2 performance with 2 threads each, 4 efficiency)"
    assert found(6, 8, HYBRID, 2) == f"Laptop: 6 physical, 8 logical {kinds}; 2 threads will be used"
    kept = Topology(HYBRID.cores[2:])
    assert "(4 efficiency); 4 threads" in found(6, 8, kept, 4)


def test_limits_on_cores_are_told():
    check = doctor.cpu_cores(AVX2_CPU, machine.Cores(physical=4, logical=8, usable=1, quota=1.5), WITH_SMT, 1)
    assert check.status == "warn"
    assert "1 usable here (a quota of 1.5 CPUs); 1 thread will be used" in check.found
    pinned = doctor.cpu_cores(AVX2_CPU, machine.Cores(physical=4, logical=8, usable=2, quota=None), PLAIN, 2)
    assert "2 usable here (affinity)" in pinned.found
    assert "unknown physical" in doctor.cpu_cores(AVX2_CPU, machine.Cores(None, 2, 2, None), PLAIN, 2).found


@pytest.mark.parametrize(
    ("name", "driver", "noted"),
    [
        ("powersave", "acpi-cpufreq", True),
        ("powersave", "intel_cpufreq", True),
        ("powersave", "intel_pstate", False),
        ("powersave", "amd-pstate-epp", False),
        ("schedutil", "acpi-cpufreq", False),
    ],
)
def test_a_governor_that_keeps_the_lowest_frequency(tmp_path: Path, name: str, driver: str, noted: bool):
    """With Intel's and AMD's own drivers, powersave is how every laptop works at full speed."""
    for number in range(2):
        policy = tmp_path / "system" / "cpu" / "cpufreq" / f"policy{number}"
        policy.mkdir(parents=True)
        (policy / "scaling_governor").write_text(name + "\n")
        (policy / "scaling_driver").write_text(driver + "\n")
    check = doctor.governor(tmp_path)
    assert (check is not None and "2 of 2" in check.found) == noted


def test_without_frequencies_there_is_no_line(tmp_path: Path):
    assert doctor.governor(tmp_path) is None


def test_memory_and_disk(tmp_path: Path):
    assert doctor.memory(machine.Memory(8 * 10**9, 6 * 10**9, None)).status == "ok"
    assert doctor.memory(machine.Memory(10**9, 10**9, 10**9)).status == "warn"
    assert "control group" in doctor.memory(machine.Memory(10**9, 10**9, 10**9)).found
    assert doctor.disk(tmp_path, 10**9).status == "warn"
    assert doctor.disk(tmp_path, 10**11).status == "ok"
    assert doctor.disk(tmp_path, None).status == "warn"
