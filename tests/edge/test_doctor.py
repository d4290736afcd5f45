"""What ``edge doctor`` finds, each check alone, and that it never loads the library."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edge import doctor, machine
from edge.llama import library

AVX2_CPU = machine.Cpu("Laptop", "x86_64", {"AVX": True, "AVX2": True, "AVX512": False})


def test_doctor_runs_without_loading_the_library(tmp_path: Path):
    """A library for another CPU ends the process that loads it, the doctor's too."""
    ask = (
        "import json, sys; from pathlib import Path; from edge.doctor import checks;"
        f"found = checks(Path({str(tmp_path)!r}));"
        "print(json.dumps([[c.name for c in found], [m for m in sys.modules if m.startswith('llama_cpp')]]))"
    )
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    names, loaded = json.loads(done.stdout)
    assert loaded == []
    assert names == [
        "Python",
        "llama-cpp-python",
        "instruction sets",
        "C++ compiler",
        "CPU",
        "memory",
        "disk",
        "GPU",
    ]


def test_this_installation_is_healthy(tmp_path: Path):
    assert [check for check in doctor.checks(tmp_path) if check.status == "bad"] == []


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


def test_a_compiler_matters_only_until_the_library_is_there(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    assert doctor.compiler(None, True).status == "ok"
    missing = doctor.compiler(None, False)
    assert (missing.status, missing.todo) == ("bad", "sudo apt install build-essential")
    assert doctor.compiler("/usr/bin/c++", False).status == "ok"


def test_limits_on_cores_are_told():
    check = doctor.cpu_cores(AVX2_CPU, machine.Cores(physical=4, logical=8, usable=1, quota=1.5))
    assert check.status == "warn"
    assert "1 usable here (a quota of 1.5 CPUs)" in check.found
    pinned = doctor.cpu_cores(AVX2_CPU, machine.Cores(physical=4, logical=8, usable=2, quota=None))
    assert "(affinity)" in pinned.found
    assert "unknown physical" in doctor.cpu_cores(AVX2_CPU, machine.Cores(None, 2, 2, None)).found


def test_memory_and_disk(tmp_path: Path):
    assert doctor.memory(machine.Memory(8 * 10**9, 6 * 10**9, None)).status == "ok"
    assert doctor.memory(machine.Memory(10**9, 10**9, 10**9)).status == "warn"
    assert "control group" in doctor.memory(machine.Memory(10**9, 10**9, 10**9)).found
    assert doctor.disk(tmp_path, 10**9).status == "warn"
    assert doctor.disk(tmp_path, 10**11).status == "ok"
    assert doctor.disk(tmp_path, None).status == "warn"


def test_gpu(tmp_path: Path):
    assert doctor.gpu(None, tmp_path).status == "ok"
    assert doctor.gpu("/usr/bin/nvidia-smi", tmp_path).todo == "make setup CUDA=1"
    (tmp_path / "libggml-cuda.so").touch()
    assert "built with CUDA" in doctor.gpu("/usr/bin/nvidia-smi", tmp_path).found
    assert doctor.gpu(None, tmp_path).status == "warn"
