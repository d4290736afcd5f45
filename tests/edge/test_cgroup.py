"""Limits of control groups, from folders laid out as Linux and containers lay them out."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.cgroup import Limits, cgroup_limits


def group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


def test_cgroup_v2_the_tightest_of_all_levels_wins(tmp_path: Path):
    group(tmp_path / "box", cpu__max="150000 100000\n", memory__max="max\n", memory__current="5\n")
    group(
        tmp_path / "box/app",
        cpu__max="max 100000\n",
        memory__max="1000000\n",
        memory__current="400000\n",
        memory__stat="anon 100000\ninactive_file 300000\n",
    )
    limits = cgroup_limits("0::/box/app\n", tmp_path)
    assert limits == Limits(cpus=1.5, memory=1000000, memory_used=100000)


def test_cgroup_v2_a_fuller_parent_binds(tmp_path: Path):
    group(tmp_path / "box", memory__max="2000\n", memory__current="1900\n")
    group(tmp_path / "box/app", memory__max="1000\n", memory__current="100\n")
    assert cgroup_limits("0::/box/app\n", tmp_path).memory == 2000


def test_cgroup_v1(tmp_path: Path):
    group(tmp_path / "cpu,cpuacct/job", **{"cpu__cfs_quota_us": "50000\n", "cpu__cfs_period_us": "100000\n"})
    group(
        tmp_path / "memory/job",
        memory__limit_in_bytes="8000\n",
        memory__usage_in_bytes="3000\n",
        memory__stat="total_inactive_file 1000\n",
    )
    limits = cgroup_limits("4:memory:/job\n1:cpu,cpuacct:/job\n", tmp_path)
    assert limits == Limits(cpus=0.5, memory=8000, memory_used=2000)


def test_cgroup_v1_without_limits(tmp_path: Path):
    group(tmp_path / "cpu/job", **{"cpu__cfs_quota_us": "-1\n", "cpu__cfs_period_us": "100000\n"})
    group(tmp_path / "memory/job", memory__limit_in_bytes="9223372036854771712\n", memory__usage_in_bytes="1\n")
    assert cgroup_limits("4:memory:/job\n1:cpu:/job\n", tmp_path) == Limits()


def test_a_container_that_sees_its_host_group_by_name_only(tmp_path: Path):
    """Docker on v1: the path in /proc/self/cgroup is the host's, the mount shows only the container's own group."""
    group(tmp_path / "memory", memory__limit_in_bytes="5000\n", memory__usage_in_bytes="0\n")
    assert cgroup_limits("4:memory:/docker/0123abc\n", tmp_path).memory == 5000


@pytest.mark.parametrize("membership", ["", "nonsense", "0::/../outside\n", "::::\n"])
def test_odd_memberships_are_no_limits(membership: str, tmp_path: Path):
    assert cgroup_limits(membership, tmp_path) == Limits()
