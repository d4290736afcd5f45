"""What the system tells of this process and its CPU, and where it tells nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from edge.bench import gauges

HELD = 100_000_000  # bytes


class Reading(NamedTuple):
    current: float


def fails(error: type[Exception]) -> Any:
    def fail(*_: Any, **__: Any) -> Any:
        raise error

    return fail


# --- memory


def peak_of_child(code: str) -> int:
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\nfrom edge.bench import gauges\nprint(gauges.peak_memory())"],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


def test_the_peak_stays_when_memory_is_given_back() -> None:
    before = peak_of_child("")
    after = peak_of_child(f"held = b'x' * {HELD}; del held")
    assert 0.9 * HELD < after - before < 1.2 * HELD


def test_mapped_files_count(tmp_path: Path) -> None:
    """As a model's weights are."""
    path = tmp_path / "weights"
    path.write_bytes(b"x" * HELD)
    code = f"import mmap; file = open({str(path)!r}, 'rb'); m = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)"
    assert peak_of_child(f"{code}; m.read()") - peak_of_child("") > 0.9 * HELD


def test_what_the_starting_process_had_does_not_count() -> None:
    """The kernel's maximum of a child begins with its parent's memory at the fork."""
    held = b"x" * HELD
    assert peak_of_child("") < HELD < len(held) + 1


def test_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    if sys.platform == "win32":
        pytest.skip("asked in another way there")
    real = gauges.peak_memory()
    monkeypatch.setattr(gauges, "read_text", lambda _: None)
    assert 0.5 * real < gauges.peak_memory() < 2 * real + HELD
    monkeypatch.setattr(gauges, "read_text", lambda _: "Name:\tx\nVmHWM:\t    1234 kB\nVmRSS:\t 99 kB\n")
    if sys.platform == "linux":
        assert gauges.peak_memory() == 1234 * 1024


# --- clock and temperature


def test_the_fastest_cores_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_freq", lambda percpu: [Reading(800.0), Reading(2450.5)], raising=False)
    assert gauges.clock() == 2450.5e6


@pytest.mark.parametrize("told", [[], [Reading(0.0)], AttributeError, NotImplementedError, FileNotFoundError])
def test_no_clock(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Virtual machines and macOS tell none, or 0."""
    answer = fails(told) if isinstance(told, type) else lambda percpu: told
    monkeypatch.setattr(psutil, "cpu_freq", answer, raising=False)
    assert gauges.clock() is None


def test_the_hottest_part_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    sensors = {"coretemp": [Reading(61.0), Reading(67.5)], "nvme": [Reading(90.0)], "acpitz": [Reading(30.0)]}
    monkeypatch.setattr(psutil, "sensors_temperatures", lambda: sensors, raising=False)
    assert gauges.temperature() == 67.5


@pytest.mark.parametrize("told", [{}, {"nvme": [Reading(90.0)]}, {"coretemp": []}, OSError])
def test_no_temperature(told: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = fails(told) if isinstance(told, type) else lambda: told
    monkeypatch.setattr(psutil, "sensors_temperatures", answer, raising=False)
    assert gauges.temperature() is None
    monkeypatch.delattr(psutil, "sensors_temperatures")
    assert gauges.temperature() is None


def test_readings_of_this_machine_can_be() -> None:
    clock, temperature = gauges.clock(), gauges.temperature()
    assert clock is None or 1e7 < clock < 1e11
    assert temperature is None or -60 < temperature < 200


# --- others at work


@pytest.mark.parametrize(("percent", "says"), [(0.0, ""), (3.7, ""), (3.8, "0.3 CPUs"), (25.0, "2.0 CPUs")])
def test_a_note_where_other_programs_are_at_work(percent: float, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval: percent)
    monkeypatch.setattr(psutil, "cpu_count", lambda: 8)
    note = gauges.busy_note()
    assert says in note and bool(note) == bool(says)
    assert not note or (note.startswith("note: ") and "\n" not in note)
