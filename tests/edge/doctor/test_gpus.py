"""What nvidia-smi says, or does not, played by small scripts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from edge.doctor.gpus import Gpu, GpuError, gpu_checks, nvidia_gpus

H200 = Gpu("NVIDIA H200", 143771 << 20, 143155 << 20, "550.54.15")
H200_LINE = "NVIDIA H200, 143771 MiB, 143155 MiB, 550.54.15"


@pytest.fixture
def program(tmp_path: Path) -> Path:
    if sys.platform == "win32":
        pytest.skip("scripts stand in for nvidia-smi")
    return tmp_path / "nvidia-smi"


def says(program: Path, text: str, code: int = 0) -> str:
    return runs(program, f"cat <<'END'\n{text}\nEND\nexit {code}")


def runs(program: Path, script: str) -> str:
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    return str(program)


def test_two_gpus(program: Path):
    odd = "Orin (nvgpu), [N/A], [N/A], 540.4.0"
    found = nvidia_gpus(says(program, f"{H200_LINE}\n{odd}"))
    assert found == [H200, Gpu("Orin (nvgpu)", None, None, "540.4.0")]


def test_it_is_asked_for_all_that_is_read(program: Path):
    asked = program.with_name("asked")
    nvidia_gpus(runs(program, f'echo "$@" > {asked}; echo "{H200_LINE}"'))
    assert "name,memory.total,memory.free,driver_version" in asked.read_text()


@pytest.mark.parametrize("code", [0, 6])
def test_a_driver_without_a_gpu(program: Path, code: int):
    assert nvidia_gpus(says(program, "No devices were found", code)) == []


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 550.54", "restart"),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", "not loaded"),
        ("NVIDIA-SMI couldn't find libnvidia-ml.so library in your system.", "--gpus all"),
        ("Segmentation fault", "install"),
    ],
)
def test_a_driver_that_fails(program: Path, text: str, hint: str):
    with pytest.raises(GpuError) as caught:
        nvidia_gpus(says(program, text, 9))
    assert text.splitlines()[0] in caught.value.message
    assert hint in caught.value.hint


def test_an_answer_of_another_shape(program: Path):
    with pytest.raises(GpuError, match="fails: hello"):
        nvidia_gpus(says(program, "hello"))
    with pytest.raises(GpuError, match="exit code 0"):
        nvidia_gpus(says(program, ""))
    with pytest.raises(GpuError, match="NVIDIA H200"):
        nvidia_gpus(says(program, H200_LINE, 1))


def test_a_driver_that_hangs(program: Path, monkeypatch: pytest.MonkeyPatch):
    """nvidia-smi may sleep in the kernel, where not even SIGKILL ends it: who waits for its end waits for ever, as
    subprocess.run does."""
    hanging: list[subprocess.Popen[bytes]] = []
    really_kill = subprocess.Popen.kill
    monkeypatch.setattr(subprocess.Popen, "kill", lambda self: hanging.append(self))
    with pytest.raises(GpuError, match=r"no answer in 0\.1 s"):
        nvidia_gpus(runs(program, "exec sleep 60"), seconds=0.1)
    [process] = hanging
    assert process.poll() is None
    really_kill(process)
    process.communicate()


def test_a_program_that_cannot_run(program: Path):
    program.write_bytes(b"no program")
    program.chmod(0o755)
    with pytest.raises(GpuError, match="cannot be run"):
        nvidia_gpus(str(program))


def test_the_lines():
    two = gpu_checks([H200, Gpu("Orin", None, None, "540")], ["CUDA"])
    assert [check.found for check in two] == [
        "NVIDIA H200: 150.1 GB free of 150.8 GB, driver 550.54.15",
        "Orin, driver 540; it does not tell how much memory it has",
    ]
    assert {check.status for check in two} == {"ok"}
    [broken] = gpu_checks(GpuError("it hangs", "restart"), ["CUDA"])
    assert (broken.status, broken.found, broken.todo) == ("warn", "it hangs", "restart")


@pytest.mark.parametrize(
    ("found", "built_with", "status", "words"),
    [
        (None, [], "ok", "no NVIDIA driver; llama.cpp runs on the CPU"),
        (None, ["CUDA"], "warn", "built with CUDA, but runs on the CPU"),
        (None, ["Vulkan"], "ok", "no NVIDIA driver; llama.cpp is built with Vulkan"),
        ([], [], "ok", "an NVIDIA driver, but no GPU"),
    ],
)
def test_without_a_gpu(found: list[Gpu] | None, built_with: list[str], status: str, words: str):
    [check] = gpu_checks(found, built_with)
    assert check.status == status
    assert words in check.found
