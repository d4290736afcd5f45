"""The yardstick. How fast this machine is cannot be tested; that both figures are measured, by whom, and how it ends
where they cannot be."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from convert.errors import EdgeError
from edge import machine
from edge.bench import limits
from edge.bench.limits import BLAS_THREADS, LEAST, MachineLimits, bandwidth, flops, machine_limits


def test_a_real_measurement() -> None:
    found = machine_limits(1)
    assert found.threads == 1
    for value in (found.bandwidth, found.flops):
        assert math.isfinite(value) and value > 1e6


class Child:
    """In place of the child: what it was asked, and what it says."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, stdout: str, stderr: str = "", code: int = 0) -> None:
        self.command: list[str] = []
        self.environment: dict[str, str] = {}

        def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
            self.command, self.environment = command, options["env"]
            return subprocess.CompletedProcess(command, code, stdout, stderr)

        monkeypatch.setattr(subprocess, "run", run)


def test_a_blas_has_as_many_threads_as_llama_cpp(monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads their number when it is loaded, whatever the user's environment said."""
    monkeypatch.setenv("OMP_NUM_THREADS", "64")
    child = Child(monkeypatch, json.dumps({"threads": 3, "bandwidth": 1e10, "flops": 1e11}))
    assert machine_limits(3) == MachineLimits(3, 1e10, 1e11)
    assert child.command[0] == sys.executable and child.command[-3:] == ["-m", "edge.bench.limits", "3"]
    assert {name: child.environment[name] for name in BLAS_THREADS} == dict.fromkeys(BLAS_THREADS, "3")
    assert "PATH" in child.environment


@pytest.mark.parametrize(
    ("stdout", "stderr", "why"),
    [
        ("", "Traceback\nMemoryError: no room\n", "MemoryError: no room"),
        ("", "", "no reason given"),
        ("{", "", "no reason given"),
        ("[1]", "", "no reason given"),
        ('{"threads": 1}', "", "no reason given"),
    ],
)
def test_a_child_that_ends_badly(stdout: str, stderr: str, why: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Child(monkeypatch, stdout, stderr, 1)
    with pytest.raises(EdgeError) as caught:
        machine_limits(1)
    assert caught.value.message == f"this machine's limits cannot be measured: {why}" and caught.value.hint


# --- in the child


def rounds(monkeypatch: pytest.MonkeyPatch, *seconds: float) -> None:
    """A clock by which what is timed takes these seconds, one after another."""
    moments = iter([moment for took in seconds for moment in (10.0, 10.0 + took)])
    monkeypatch.setattr(limits.time, "perf_counter", lambda: next(moments))


@pytest.mark.parametrize("threads", [1, 3])
def test_bandwidth_is_of_all_threads_together(threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the best round."""
    rounds(monkeypatch, 1.0, 0.5, 1.0, 2.0, 1.0)
    monkeypatch.setattr(limits, "READ", 1 << 21)
    assert bandwidth(threads) == threads * (1 << 21) / 0.5


def test_operations_of_a_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first warms up, and does not count."""
    rounds(monkeypatch, 0.125, 1.0, 0.25, 1.0, 1.0, 1.0)
    monkeypatch.setattr(limits, "SIDE", 100)
    assert flops() == 2 * 100**3 / 0.25


@pytest.mark.parametrize(
    ("free", "each"),
    [(10**12, 4 << 20), (limits.SHARE * 2 * (3 << 20), 3 << 20), (0, LEAST)],
    ids=["much", "little", "none"],
)
def test_little_memory_is_not_filled(free: int, each: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none was free nothing was read, and the share of nothing was a division by zero."""
    made: list[int] = []
    ones = np.ones

    def spied(count: int, dtype: Any) -> np.ndarray:
        made.append(count * 8)
        return ones(count, dtype)

    monkeypatch.setattr(limits, "READ", 4 << 20)
    monkeypatch.setattr(np, "ones", spied)
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(10**12, free, None))
    assert bandwidth(2) > 0 and made == [each, each]
