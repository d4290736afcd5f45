"""NVIDIA's GPUs, as the driver's own program tells of them; llama.cpp is not loaded for it."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from convert.errors import EdgeError
from edge.doctor.check import GB, Check

QUERY = ("--query-gpu=name,memory.total,memory.free,driver_version", "--format=csv,noheader")
SECONDS = 10.0  # with the driver asleep it takes two or three
NO_DEVICE = "No devices were found"
# What nvidia-smi says -> what helps.
REMEDIES = {
    "version mismatch": "the driver was updated while it ran: restart the machine",
    "communicate with the NVIDIA driver": "the driver is not loaded: restart the machine, or install it again",
    "libnvidia-ml": "install the NVIDIA driver; in a container, start it with --gpus all",
}


class GpuError(EdgeError):
    """The driver does not tell of its GPUs."""


@dataclass(frozen=True)
class Gpu:
    """Bytes of memory; None where the driver does not say, as for memory that is the machine's own."""

    name: str
    total: int | None
    free: int | None
    driver: str


def nvidia_gpus(nvidia_smi: str, seconds: float = SECONDS) -> list[Gpu]:
    """All GPUs that the driver knows. Raises GpuError."""
    try:
        process = subprocess.Popen([nvidia_smi, *QUERY], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        raise GpuError(f"nvidia-smi cannot be run: {error.strerror}", "install the NVIDIA driver again") from error
    try:
        output, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired as error:
        process.kill()  # and not waited for: a process that hangs in the driver outlives even that
        raise GpuError(
            f"nvidia-smi gave no answer in {seconds:g} s", "the driver hangs: restart the machine"
        ) from error
    text = output.decode(errors="replace").strip()
    if NO_DEVICE in text:
        return []
    gpus = parse(text)
    if process.returncode or not gpus:
        said = text.partition("\n")[0] or f"exit code {process.returncode}"
        hint = next((todo for words, todo in REMEDIES.items() if words in text), "install the NVIDIA driver again")
        raise GpuError(f"nvidia-smi fails: {said}", hint)
    return gpus


def parse(text: str) -> list[Gpu]:
    """Lines such as ``NVIDIA H200, 143771 MiB, 143155 MiB, 550.54.15``; others are left out."""
    rows = (line.rsplit(", ", 3) for line in text.splitlines())
    return [Gpu(row[0], mebibytes(row[1]), mebibytes(row[2]), row[3]) for row in rows if len(row) == 4]


def mebibytes(text: str) -> int | None:
    """Bytes; None for ``[N/A]`` and the like."""
    number, _, unit = text.partition(" ")
    return int(number) << 20 if unit == "MiB" and number.isdecimal() else None


def gpu_checks(found: Sequence[Gpu] | GpuError | None, built_with: Sequence[str]) -> list[Check]:
    """A line for each GPU. ``found`` is None without a driver; ``built_with``: what llama.cpp can compute on beside
    the CPU."""
    if isinstance(found, GpuError):
        return [Check("GPU", "warn", found.message, found.hint)]
    if found:
        return [Check("GPU", "ok", describe(gpu)) for gpu in found]
    none = "no NVIDIA driver" if found is None else "an NVIDIA driver, but no GPU"
    if "CUDA" in built_with:
        return [Check("GPU", "warn", f"{none}; llama.cpp is built with CUDA, but runs on the CPU")]
    if built_with:
        return [Check("GPU", "ok", f"{none}; llama.cpp is built with {' and '.join(built_with)}")]
    return [Check("GPU", "ok", f"{none}; llama.cpp runs on the CPU")]


def describe(gpu: Gpu) -> str:
    if gpu.total is None or gpu.free is None:
        return f"{gpu.name}, driver {gpu.driver}; it does not tell how much memory it has"
    return f"{gpu.name}: {gpu.free / GB:.1f} GB free of {gpu.total / GB:.1f} GB, driver {gpu.driver}"
