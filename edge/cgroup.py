"""Linux's control groups, v2 and v1: how much CPU and memory a container or a service may use."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

NO_LIMIT = 1 << 60  # v1 writes "no limit" as a number close to 2**63


@dataclass(frozen=True)
class Limits:
    """What the process's control group and those above it allow; None is no limit. Memory is in bytes."""

    cpus: float | None = None
    memory: int | None = None
    memory_used: int = 0


def cgroup_limits(membership: str | None = None, root: Path = Path("/sys/fs/cgroup")) -> Limits:
    """Read Linux's control groups, v2 or v1; no limits elsewhere.

    ``membership`` is the text of /proc/self/cgroup. A group's limit binds all below it, so every
    group from ours up to the root counts, and the tightest wins.
    """
    if membership is None:
        membership = read_text(Path("/proc/self/cgroup")) or ""
    cpus: list[float] = []
    memories: list[tuple[int, int]] = []
    for line in membership.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            for folder in _up(root, path):
                cpus.append(_cpu_max(folder))
                memories.append(_memory(folder, "memory.max", "memory.current", "inactive_file"))
        for controller in controllers.split(","):
            if controller == "cpu":
                cpus.extend(_cfs_quota(folder) for folder in _up(root / controllers, path))
            elif controller == "memory":
                memories.extend(
                    _memory(folder, "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
                    for folder in _up(root / controllers, path)
                )
    quota = min(cpus, default=math.inf)
    # The group with the least left, not the one with the lowest limit, is the one that will say no.
    limit, used = min(memories, key=lambda pair: pair[0] - pair[1], default=(NO_LIMIT, 0))
    if limit >= NO_LIMIT:
        return Limits(None if quota == math.inf else quota)
    return Limits(None if quota == math.inf else quota, limit, used)


def _up(mount: Path, path: str) -> list[Path]:
    """The folders of a group and of those above it, as far as this process can see them."""
    inside = PurePosixPath(path.lstrip("/"))
    if ".." in inside.parts:  # a group outside this container's view
        inside = PurePosixPath()
    return [mount / part for part in (inside, *inside.parents) if (mount / part).is_dir()]


def _cpu_max(folder: Path) -> float:
    quota, _, period = (read_text(folder / "cpu.max") or "max").strip().partition(" ")
    return _ratio(quota, period)


def _cfs_quota(folder: Path) -> float:
    quota = (read_text(folder / "cpu.cfs_quota_us") or "-1").strip()
    return _ratio(quota, (read_text(folder / "cpu.cfs_period_us") or "").strip())


def _ratio(quota: str, period: str) -> float:
    """CPUs; infinite where the quota is "max" or -1."""
    if not (quota.isdecimal() and period.isdecimal()) or int(period) == 0:
        return math.inf
    return int(quota) / int(period)


def _memory(folder: Path, limit_name: str, used_name: str, reclaimable_name: str) -> tuple[int, int]:
    limit = (read_text(folder / limit_name) or "max").strip()
    used = (read_text(folder / used_name) or "0").strip()
    stat = dict(line.split() for line in (read_text(folder / "memory.stat") or "").splitlines() if " " in line)
    if not limit.isdecimal() or not used.isdecimal():
        return NO_LIMIT, 0
    # Old page cache counts as used, but gives way.
    return int(limit), max(0, int(used) - int(stat.get(reclaimable_name, 0)))


def read_text(path: Path) -> str | None:
    """The file's text, or None if it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
