"""What can be read of this process and its CPU while they work; None where the system does not tell."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import psutil

from edge.cgroup import read_text

BUSY = 0.3  # CPUs
SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "acpitz")  # Linux's drivers of CPU temperatures


def peak_memory() -> int:
    """The most bytes that this process has had in memory so far, mapped files included."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    # The kernel's ru_maxrss would do, but begins with what the starting process had.
    if found := re.search(r"VmHWM:\s*(\d+) kB", read_text(Path("/proc/self/status")) or ""):
        return int(found[1]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def clock() -> float | None:
    """Hz of the fastest core."""
    try:
        return max((one.current for one in psutil.cpu_freq(percpu=True)), default=0) * 1e6 or None
    except (AttributeError, NotImplementedError, OSError):
        return None


def temperature() -> float | None:
    """Degrees Celsius of the hottest part of the CPU."""
    if not hasattr(psutil, "sensors_temperatures"):
        return None
    try:
        sensors = psutil.sensors_temperatures()
    except OSError:
        return None
    return max((one.current for name in SENSORS for one in sensors.get(name, ())), default=None)


def busy_note() -> str:
    """A line for people when other programs use much of the CPU just now, for then figures are too low; else empty."""
    used = psutil.cpu_percent(interval=0.3) / 100 * (psutil.cpu_count() or 1)
    if used < BUSY:
        return ""
    return f"note: other programs use {used:.1f} CPUs just now; figures will be too low, measure again when they rest"
