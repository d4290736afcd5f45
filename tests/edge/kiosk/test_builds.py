from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path

import pytest

from edge.errors import PackError
from edge.kiosk import builds, source
from edge.machine import X86_CPUINFO


def test_every_switch_is_given_for_every_level() -> None:
    """What is left out would be decided by the CPU that packs, or by GGML's own defaults."""
    for level in builds.LEVELS:
        given = builds.switches(level)
        assert set(given) == {f"GGML_{switch}" for switch in builds.SWITCHES}
        assert {name.removeprefix("GGML_") for name, value in given.items() if value == "ON"} == set(level.switches)
        assert set(level.switches) <= set(builds.SWITCHES)
    assert not any("AMX" in switch for level in builds.LEVELS for switch in level.switches)


def test_a_level_asks_the_cpu_for_all_that_it_was_compiled_for() -> None:
    for level in builds.LEVELS:
        assert {flag for word in level.sets for flag in X86_CPUINFO[word]} <= set(level.flags)


def test_the_best_level_comes_first() -> None:
    flags = [set(level.flags) for level in builds.LEVELS]
    assert flags[0] > flags[1] > flags[2]


def test_the_key_changes_with_what_is_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    first = builds.key("gcc 12")
    assert first == builds.key("gcc 12")
    assert first != builds.key("gcc 13")
    monkeypatch.setitem(builds.OPTIONS, "GGML_LLAMAFILE", "OFF")
    assert first != builds.key("gcc 12")


@pytest.mark.parametrize(
    "line, step",
    (
        ("[27/140] Building C object", (27, 140)),
        ("[ 12%] Building CXX object", (12, 100)),
        ("-- Configuring done", None),
    ),
)
def test_steps_of_ninja_and_make_move_the_bar(line: str, step: tuple[int, int] | None) -> None:
    seen: list[tuple[int, int]] = []
    builds.run([sys.executable, "-c", f"print({line!r})"], io.StringIO(), lambda done, of: seen.append((done, of)))
    assert seen == ([step] if step else [])


def test_a_failed_build_says_why_and_where_the_rest_is(tmp_path: Path) -> None:
    code = (
        "print('[1/9] cc'); print('ggml.c:1: fatal error: no room'); print('ninja: build stopped'); raise SystemExit(1)"
    )
    with (tmp_path / "build.log").open("w") as log, pytest.raises(PackError, match=r"fatal error: no room.*build\.log"):
        builds.run([sys.executable, "-c", code], log)
    assert "ninja: build stopped" in (tmp_path / "build.log").read_text()


def test_flags_of_this_person_do_not_reach_the_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    """CFLAGS=-march=native would make an SSE4.2 library that only this CPU can run."""
    monkeypatch.setenv("CFLAGS", "-march=native")
    log = io.StringIO()
    builds.run([sys.executable, "-c", "import os; print(os.environ.get('CFLAGS'))"], log)
    assert log.getvalue().strip() == "None"


def test_a_library_for_another_cpu_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / builds.CPU_LIBRARY).write_bytes(b"")
    monkeypatch.setattr(builds, "instruction_sets", lambda path: builds.AVX2.sets)
    with pytest.raises(PackError, match="not for sse42"):
        builds.keep(tmp_path, tmp_path / "made", builds.SSE42)


def test_another_kind_of_machine_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    with pytest.raises(PackError, match="x86_64"):
        builds.libraries()


def test_without_cmake_the_hint_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None if name == "cmake" else "/bin/true")
    with pytest.raises(PackError, match="pip install cmake"):
        builds.libraries()


def test_what_was_built_before_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(builds, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(builds, "find_tool", lambda name: name)
    monkeypatch.setattr(builds, "compiler_version", lambda compiler: "gcc 12")
    monkeypatch.setattr(builds, "build", lambda *arguments: pytest.fail("built again"))
    (tmp_path / builds.key("gcc 12")).mkdir()
    assert builds.libraries()["avx2/libggml-cpu.so"] == tmp_path / builds.key("gcc 12") / "avx2" / "libggml-cpu.so"


def test_source_with_other_bytes_is_refused(tmp_path: Path) -> None:
    (tmp_path / f"{source.NAME}.tar.gz").write_bytes(b"not the archive")
    with pytest.raises(PackError, match="is not the source"):
        source.unpack(tmp_path)
    assert not (tmp_path / source.NAME).exists()


def test_source_that_cannot_be_fetched_can_be_put_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(PackError, match=f"put {source.NAME}.tar.gz into"):
        source.fetch_archive(tmp_path)
