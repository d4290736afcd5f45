"""The set-up script: what it says to an old Python, a missing compiler, a failed build; what it reads on the way."""

from __future__ import annotations

import ast
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))  # setup.py imports its neighbour, as a script does

import build_log  # noqa: E402
from build_log import Progress, parse_step  # noqa: E402

spec = importlib.util.spec_from_file_location("edge_setup", ROOT / "tools" / "setup.py")
assert spec
assert spec.loader
setup = importlib.util.module_from_spec(spec)
spec.loader.exec_module(setup)
SetupError = setup.SetupError


# --- Python


@pytest.mark.parametrize("name", ["setup.py", "build_log.py"])
def test_an_old_python_can_read_the_script(name: str):
    """An old Python must get our sentence, not a SyntaxError; `annotations` of __future__ came with 3.7."""
    text = (ROOT / "tools" / name).read_text(encoding="utf-8")
    ast.parse(text, feature_version=(3, 6))
    assert "__future__" not in text


def test_an_old_python_is_told_the_next_step():
    with pytest.raises(SetupError) as caught:
        setup.check_python((3, 8, 10, "final", 0), lambda name: None)
    assert str(caught.value) == (
        "Python 3.11 or newer is needed, this is 3.8.10; "
        "install it from python.org or your package manager, then: make PYTHON=python3.12 setup"
    )


def test_an_old_python_beside_a_new_one():
    with pytest.raises(SetupError, match=r"make PYTHON=python3\.12 setup"):
        setup.check_python((3, 9, 2), lambda name: "/usr/bin/" + name if name == "python3.12" else None)


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 14, 1), (4, 0, 0)])
def test_a_new_python_passes(version):
    setup.check_python(version, lambda name: None)


def test_a_python_without_venv(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(setup, "succeeds", lambda command: False)
    with pytest.raises(SetupError, match="python3-venv"):
        setup.make_venv(tmp_path / "venv")


# --- compilers


def test_no_compiler_names_what_to_install():
    if sys.platform == "win32":
        setup.check_compilers({"PATH": ""}, cuda=False)  # CMake looks for Visual Studio without PATH
        return
    with pytest.raises(SetupError, match=r"build-essential|xcode-select"):
        setup.check_compilers({"PATH": ""}, cuda=False)


def test_a_c_compiler_alone_is_not_enough(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(setup, "WINDOWS", False)
    for name in ("gcc", "g++"):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
        if name == "gcc":
            with pytest.raises(SetupError, match="C and C"):
                setup.check_compilers({"PATH": str(tmp_path)}, cuda=False)
    setup.check_compilers({"PATH": str(tmp_path)}, cuda=False)


def test_cuda_without_nvcc(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(setup, "USUAL_CUDA", str(tmp_path))
    with pytest.raises(SetupError, match="nvcc is not found"):
        setup.check_compilers({"PATH": ""}, cuda=True)


def test_the_build_is_for_this_cpu_and_the_persons_options_win(tmp_path: Path, monkeypatch):
    """SOURCE_DATE_EPOCH turns off every instruction set: 5 times slower, without a word."""
    monkeypatch.setattr(setup, "USUAL_CUDA", str(tmp_path))
    (tmp_path / "bin").mkdir()
    nvcc = tmp_path / "bin" / ("nvcc.exe" if os.name == "nt" else "nvcc")
    nvcc.touch()
    given = {"PATH": "", "SOURCE_DATE_EPOCH": "1", "NINJA_STATUS": "x", "CMAKE_ARGS": "-DGGML_NATIVE=OFF"}
    made = setup.build_environment(given, cuda=True)
    assert made["CMAKE_ARGS"] == "-DLLAVA_BUILD=OFF -DGGML_CUDA=on -DGGML_NATIVE=OFF"
    assert made["CUDACXX"] == str(nvcc)
    assert not {"SOURCE_DATE_EPOCH", "NINJA_STATUS"} & set(made)
    assert setup.build_environment({}, cuda=False)["CMAKE_ARGS"] == "-DLLAVA_BUILD=OFF"


@pytest.mark.parametrize(
    ("code", "answer", "without_amx"),
    [
        (0, b"12.2.0\n", True),
        (0, b"11.4.0\n", True),
        (0, b"13.2.0\n", True),
        (0, b"13.3.0\n", False),
        (0, b"14.1.0\n", False),
        (0, b"10.2.1\n", False),  # does not know -mno-amx-tile
        (1, b"", False),  # clang
    ],
)
def test_amx_is_left_out_where_gcc_miscompiles_it(code: int, answer: bytes, without_amx: bool, monkeypatch):
    """On a Xeon with AMX, a library built by GCC 12 crashed in the first prefill of any quantized model."""
    asked: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        asked.append(command)
        return subprocess.CompletedProcess(command, code, answer)

    monkeypatch.setattr(subprocess, "run", run)
    made = setup.build_environment({"PATH": "", "CC": "ccache gcc", "CFLAGS": "-pipe"}, cuda=False)
    assert asked == [["ccache", "gcc", "-dumpfullversion"]]
    assert made["CFLAGS"] == ("-pipe -mno-amx-tile -mno-amx-int8 -mno-amx-bf16" if without_amx else "-pipe")
    assert ("CXXFLAGS" in made) == without_amx


def test_without_a_compiler_there_is_no_gcc():
    assert setup.gcc_version({"PATH": "", "CC": "no-such-compiler"}) is None


# --- which way to the library


@pytest.fixture
def ways(tmp_path: Path, monkeypatch):
    """Records which way ``get_library`` takes; nothing is fetched or built."""
    taken: list[str] = []
    monkeypatch.delenv("CMAKE_ARGS", raising=False)
    monkeypatch.setattr(setup, "find_wheel", lambda *a: None)
    monkeypatch.setattr(setup, "cached_wheel", lambda *a: None)
    monkeypatch.setattr(setup, "check_compilers", lambda *a, **k: None)
    monkeypatch.setattr(setup, "pip", lambda venv, arguments, what: taken.append("wheel " + arguments[-1]))
    monkeypatch.setattr(setup, "build", lambda command, *a, **k: taken.append("build " + " ".join(command[5:])))
    return taken


def test_a_wheel_that_pip_finds_comes_first(ways, tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "find_wheel", lambda *a: "found.whl")
    monkeypatch.setattr(setup, "cached_wheel", lambda *a: "cached.whl")
    setup.get_library(tmp_path, "0.3.36", cuda=False, rebuild=False)
    assert ways == ["wheel found.whl"]


def test_then_the_wheel_built_before(ways, tmp_path, monkeypatch):
    monkeypatch.setattr(setup, "cached_wheel", lambda *a: "cached.whl")
    setup.get_library(tmp_path, "0.3.36", cuda=False, rebuild=False)
    assert ways == ["wheel cached.whl"]


def test_then_a_build_that_fills_the_cache(ways, tmp_path):
    setup.get_library(tmp_path, "0.3.36", cuda=False, rebuild=False)
    assert len(ways) == 1
    assert ways[0].startswith("build install -v")
    assert "--no-cache-dir" not in ways[0]


def test_a_rebuild_replaces_the_wheel_built_before(ways, tmp_path, monkeypatch):
    """A wheel that crashes stayed in pip's cache: the next environment got it again."""
    removed = []
    monkeypatch.setattr(setup, "cached_wheel", lambda *a: "cached.whl")
    monkeypatch.setattr(setup, "succeeds", lambda command: removed.append(command[-3:]))
    setup.get_library(tmp_path, "0.3.36", cuda=False, rebuild=True)
    assert removed == [["cache", "remove", "llama_cpp_python"]]
    assert len(ways) == 1 and ways[0].startswith("build install -v") and "--no-cache-dir" not in ways[0]


@pytest.mark.parametrize("how", ["cuda", "own options"])
def test_a_special_build_keeps_away_from_the_cache(how, ways, tmp_path, monkeypatch):
    """pip's cache does not know CMAKE_ARGS: a CUDA build would be answered with the CPU wheel, or the reverse."""
    monkeypatch.setattr(setup, "find_wheel", lambda *a: "found.whl")
    monkeypatch.setattr(setup, "cached_wheel", lambda *a: "cached.whl")
    if how == "own options":
        monkeypatch.setenv("CMAKE_ARGS", "-DGGML_NATIVE=OFF")
    setup.get_library(tmp_path, "0.3.36", cuda=how == "cuda", rebuild=False)
    assert len(ways) == 1
    assert ways[0].startswith("build install -v")
    assert "--no-cache-dir" in ways[0]


def test_the_wheel_in_pips_cache_is_found_by_its_version(tmp_path: Path, monkeypatch):
    right, wrong = (tmp_path / f"llama_cpp_python-{v}-py3-none-linux_x86_64.whl" for v in ("0.3.36", "0.3.3"))
    for path in (wrong, right):
        path.touch()
    listing = f"{wrong}\n{right}\n"
    monkeypatch.setattr(setup, "pip_command", lambda *a: [sys.executable, "-c", f"print({listing!r})"])
    assert setup.cached_wheel(tmp_path, "0.3.36") == str(right)
    assert setup.cached_wheel(tmp_path, "0.3.37") is None
    monkeypatch.setattr(setup, "pip_command", lambda *a: [sys.executable, "-c", "raise SystemExit(1)"])
    assert setup.cached_wheel(tmp_path, "0.3.36") is None, "the cache may be switched off"


def test_the_pin_is_read_from_the_project():
    from edge.llama import library

    assert setup.pinned_version((ROOT / "pyproject.toml").read_text(encoding="utf-8")) == library.VERSION


def test_a_finished_set_up_is_known_by_its_stamp(tmp_path: Path):
    stamp = tmp_path / "stamp"
    wanted = {"project": "abc", "extras": ["test"], "with": []}
    assert not setup.covers(stamp, wanted)
    stamp.write_text(json.dumps({"project": "abc", "extras": ["dev", "test"], "with": []}))
    assert setup.covers(stamp, wanted)
    assert not setup.covers(stamp, {**wanted, "project": "changed"})
    assert not setup.covers(stamp, {**wanted, "extras": ["oracle"]})
    for damaged in ("", "[]", "{}", '{"project": "abc"}'):
        stamp.write_text(damaged)
        assert not setup.covers(stamp, wanted)


# --- the build


@pytest.mark.parametrize(
    ("line", "done"),
    [
        ("  [27/140] Building CXX object vendor/llama.cpp/x.cpp.o", 27 / 140),
        ("[1/4] Linking", 0.25),
        ("[ 35%] Building C object", 0.35),
        ("[5/0] nonsense", None),
        ("[9/3] nonsense", None),
        ("array[1/2]", None),
        ("  -- Performing Test GGML_MACHINE", None),
        ("[notice] A new release of pip is available", None),
        ("", None),
    ],
)
def test_lines_of_the_build(line: str, done: float | None):
    assert parse_step(line) == done


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_one_line_that_changes_in_place():
    now = [0.0]
    out = Terminal()
    progress = Progress(out, lambda: now[0])
    for at, line in [(3, "Collecting llama-cpp-python"), (40, "[1/100] x"), (100, "[25/100] x"), (130, "")]:
        now[0] = at
        progress.line(line)
    progress.close()
    assert out.getvalue().count("\n") == 1
    shown = [text.rstrip() for text in out.getvalue().split("\r")[1:]]
    assert shown == [
        "  fetching and preparing, 0:03 so far",
        "  building: 1 %, 0:40 so far",
        "  building: 25 %, 1:40 so far, about 3:00 left",
        "  building: 25 %, 2:10 so far, about 4:30 left",
    ]


def test_a_log_file_gets_a_plain_line_every_half_minute():
    now = [0.0]
    out = io.StringIO()
    progress = Progress(out, lambda: now[0])
    for second in range(1, 301):
        now[0] = second
        progress.line(f"[{second}/600] x")
    progress.close()
    lines = out.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[-1] == "  building: 50 %, 5:00 so far, about 4:59 left"
    assert "\r" not in out.getvalue()


def test_a_build_that_fails_names_the_log_and_shows_its_last_errors(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.StringIO())
    script = "print('[1/3] ok'); print('ggml.c:5: error: no such thing'); raise SystemExit(1)"
    log = tmp_path / "build.log"
    with pytest.raises(SetupError) as caught:
        setup.build([sys.executable, "-c", script], dict(os.environ), log, cuda=False)
    message = str(caught.value)
    assert message.startswith("the build failed")
    assert "ggml.c:5: error: no such thing" in message
    assert str(log) in message
    assert "[1/3] ok" in log.read_text()
    assert "about ten minutes on two cores" in sys.stdout.getvalue()


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ("ERROR: No matching distribution found for llama-cpp-python==0.3.36", "check the network"),
        ("OSError: [Errno 28] No space left on device", "the disk is full"),
        ("c++: fatal error: Killed signal terminated program cc1plus", "memory ran out"),
        ('  CUDA_ARCHITECTURES is set to "native", but no GPU was detected.', "CMAKE_CUDA_ARCHITECTURES"),
        ("CMake Error: CMAKE_CXX_COMPILER not set, after EnableLanguage", "Visual Studio Build Tools"),
    ],
)
def test_known_causes_get_advice(line: str, advice: str):
    assert advice in build_log.failure(["start", line, "end"], "the build", Path("build.log"))


def test_the_reason_is_shown_and_not_what_pip_says_of_every_failure():
    """pip's last lines are the same whatever failed; the reason stands hundreds of lines above."""
    log = [
        "  [3/140] /usr/bin/g++ -Werror=return-type -o x",
        "  CMake Error in ggml-cuda/CMakeLists.txt:",
        "    the reason",
        "",
        "  error: subprocess-exited-with-error",
        "  Building wheel for llama-cpp-python (pyproject.toml): finished with status 'error'",
        "  ERROR: Failed building wheel for llama-cpp-python",
        "Failed to build llama-cpp-python",
        "ERROR: Could not build wheels for llama-cpp-python, which is required",
    ]
    assert build_log.telling_lines(log) == ["CMake Error in ggml-cuda/CMakeLists.txt:", "the reason"]


# --- the proof, and the rest


def test_a_library_that_dies_of_an_illegal_instruction(tmp_path: Path, monkeypatch):
    dying = "import os, signal; os.kill(os.getpid(), signal.SIGILL)"
    if os.name == "nt":
        dying = "import os; os._exit(0xC000001D)"
    monkeypatch.setattr(setup, "PROOF", dying)
    monkeypatch.setattr(setup, "python_of", lambda venv: Path(sys.executable))
    with pytest.raises(SetupError, match="instructions that this CPU does not have; build it on this machine"):
        setup.prove(tmp_path)


def test_the_proof_passes_here(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(setup, "python_of", lambda venv: Path(sys.executable))
    setup.prove(tmp_path)


def test_other_ends_of_the_proof():
    assert setup.explain_proof(1, "x\nerror: built for AVX512; do this\n") == "built for AVX512; do this"
    assert "exit code -11" in setup.explain_proof(-signal.SIGSEGV, "")


@pytest.mark.parametrize("name", ["Makefile", "tools/setup.py", "tools/build_log.py"])
def test_no_network_address(name: str):
    """Which index to use is the person's choice, by pip's own configuration."""
    assert not re.search(r"https?:|index-url", (ROOT / name).read_text(encoding="utf-8"))


def test_make_alone_helps_and_convert_asks_for_a_model():
    environment = {k: v for k, v in os.environ.items() if k not in ("MODEL", "MAKEFLAGS", "MAKELEVEL")}
    helped = subprocess.run(["make"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert "make setup" in helped.stdout
    asked = subprocess.run(["make", "convert"], cwd=ROOT, env=environment, capture_output=True, text=True)
    assert asked.returncode != 0
    assert "error: say which model" in asked.stderr
