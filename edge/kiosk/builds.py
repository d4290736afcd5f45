"""llama.cpp's libraries for every CPU that a box may meet, compiled once and kept in the user's cache.

All share ``libllama``, ``libggml`` and ``libggml-base``, which are plain x86-64; only ``libggml-cpu`` is made for
each. Nothing but glibc is needed to load them: OpenMP is off, the compiler's own libraries are linked in.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import platformdirs
from filelock import FileLock

from edge.errors import PackError
from edge.kiosk import source
from edge.llama.library import VERSION, instruction_sets

OnProgress = Callable[[str, int, int], None]  # what is being done, how much of it is done, of how much


@dataclass(frozen=True)
class Level:
    """A build of ``libggml-cpu``. ``switches`` of GGML's CMake files are on, all others off; ``sets``: what the library
    must say that it was compiled for; ``flags`` of /proc/cpuinfo that a CPU needs for it."""

    name: str
    switches: tuple[str, ...]
    sets: frozenset[str]
    flags: tuple[str, ...]


SSE42 = Level("sse42", ("SSE42",), frozenset(("SSE3", "SSSE3")), ("pni", "ssse3", "sse4_1", "sse4_2", "popcnt"))
AVX2 = Level(
    "avx2",
    (*SSE42.switches, "AVX", "AVX2", "FMA", "F16C", "BMI2"),
    SSE42.sets | {"AVX", "AVX2", "FMA", "F16C", "BMI2"},
    (*SSE42.flags, "avx", "avx2", "fma", "f16c", "bmi2"),
)
AVX512 = Level(
    "avx512",
    (*AVX2.switches, "AVX512"),
    AVX2.sets | {"AVX512"},
    (*AVX2.flags, "avx512f", "avx512cd", "avx512vl", "avx512dq", "avx512bw"),
)
LEVELS = (AVX512, AVX2, SSE42)  # the best first
# Every instruction set that GGML has a switch for on x86-64; AMX stays off, GCC 11 to 13.2 miscompile it.
SWITCHES = (
    *("SSE42", "AVX", "AVX2", "FMA", "F16C", "BMI2", "AVX_VNNI", "AVX512", "AVX512_VBMI", "AVX512_VNNI"),
    *("AVX512_BF16", "AMX_TILE", "AMX_INT8", "AMX_BF16"),
)
OPTIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "ON",
    # The names that llama-cpp-python loads: libllama.so, not libllama.so.0.
    "CMAKE_PLATFORM_NO_VERSIONED_SONAME": "ON",
    "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
    "CMAKE_INSTALL_RPATH": "$ORIGIN",
    # Two copies of the C++ library in a process, numpy's and this one, must not find each other.
    "CMAKE_SHARED_LINKER_FLAGS": "-static-libgcc -static-libstdc++ -Wl,--exclude-libs,ALL -s",
    "GGML_NATIVE": "OFF",
    "GGML_OPENMP": "OFF",
    "GGML_CCACHE": "OFF",
    "GGML_BUILD_COMMIT": "unknown",  # else git is asked of whatever repository the cache lies in
    "LLAMA_BUILD_NUMBER": "0",
    "LLAMA_BUILD_COMMIT": "unknown",
    **{f"LLAMA_BUILD_{part}": "OFF" for part in ("COMMON", "TESTS", "TOOLS", "EXAMPLES", "SERVER", "APP")},
    "LLAMA_OPENSSL": "OFF",
}
CPU_LIBRARY = "libggml-cpu.so"
COMMON_LIBRARIES = ("libllama.so", "libggml.so", "libggml-base.so")
LICENCE = "LICENSE"
MACHINE = "x86_64"
STEP = re.compile(r"\[\s*(\d+)(?:/(\d+)|%)\]")  # of ninja, of make
THEIRS = ("CFLAGS", "CXXFLAGS", "CPPFLAGS", "LDFLAGS", "NINJA_STATUS", "CMAKE_GENERATOR")  # would change the build


def libraries(on_progress: OnProgress = lambda what, done, of: None) -> dict[str, Path]:
    """``common/libllama.so``, ``avx2/libggml-cpu.so`` ... and llama.cpp's ``LICENSE`` -> where they are.

    Compiled where they are not yet, which takes minutes. Raises PackError.
    """
    check_machine()
    kept, folder = kept_folder(), cache_folder()
    if not kept.is_dir():
        cmake = find_tool("cmake")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock"):
                if not kept.is_dir():
                    build(folder, kept, cmake, on_progress)
        except OSError as error:
            raise PackError(f"llama.cpp cannot be built in {folder}: {error.strerror or error}") from error
    return {name: kept / name for name in file_names()}


def kept_folder() -> Path:
    """Where the libraries are, or will be. Raises PackError where there is no compiler."""
    return cache_folder() / key(compiler_version(find_tool("c++")))


def file_names() -> list[str]:
    """Of everything that a build leaves."""
    common = [f"common/{name}" for name in COMMON_LIBRARIES]
    return [*common, *(f"{level.name}/{CPU_LIBRARY}" for level in LEVELS), LICENCE]


def check_machine() -> None:
    if sys.platform != "linux" or platform.machine() != MACHINE:
        raise PackError(f"boxes are for Linux on {MACHINE}, and are packed there", "run the command on such a machine")


def find_tool(name: str) -> str:
    """Its path; what pip installed beside this Python first. Raises PackError."""
    beside = sysconfig.get_path("scripts")
    found = shutil.which(name, path=os.pathsep.join((beside, os.environ.get("PATH", os.defpath))))
    if found is None:
        hint = "pip install cmake ninja" if name == "cmake" else "sudo apt install build-essential"
        raise PackError(f"llama.cpp is compiled for the box, which needs {name}", f"install it: {hint}")
    return found


def cache_folder() -> Path:
    return Path(platformdirs.user_cache_dir("edge", appauthor=False)) / "kiosk"


def compiler_version(compiler: str) -> str:
    """Its first line; what is compiled also needs this system's glibc, at least parts of it."""
    asked = subprocess.run([compiler, "--version"], capture_output=True, text=True)
    return f"{asked.stdout.partition(chr(10))[0]}, {'-'.join(platform.libc_ver())}"


def key(compiler: str) -> str:
    """Changes when anything does that the libraries depend on."""
    of = [VERSION, source.SHA256, compiler, OPTIONS, [(level.name, level.switches) for level in LEVELS]]
    return f"{VERSION}-{hashlib.sha256(json.dumps(of).encode()).hexdigest()[:12]}"


def switches(level: Level) -> dict[str, str]:
    return {f"GGML_{switch}": "ON" if switch in level.switches else "OFF" for switch in SWITCHES}


def build(folder: Path, kept: Path, cmake: str, on_progress: OnProgress) -> None:
    """Compile every level in ``folder``, then give the result its name ``kept``. After an interruption it goes on."""
    on_progress("fetching the source of llama.cpp", 0, 1)
    llama_cpp = source.unpack(folder)
    work, made = folder / f"{kept.name}.work", folder / f"{kept.name}.made"
    shutil.rmtree(made, ignore_errors=True)
    work.mkdir(exist_ok=True)
    with (work / "build.log").open("w", buffering=1, encoding="utf-8") as log:
        # One folder for all: what does not depend on the level is compiled once, by the plainest level.
        for number, level in enumerate(reversed(LEVELS), start=1):
            what = f"building llama.cpp for {level.name} ({number} of {len(LEVELS)})"
            run([cmake, "-S", str(llama_cpp), "-B", str(work), *generator(), *defined(OPTIONS | switches(level))], log)
            jobs = str(len(os.sched_getaffinity(0)))
            target = "llama" if level is LEVELS[-1] else "ggml-cpu"
            command = [cmake, "--build", str(work), "--target", target, "-j", jobs]
            run(command, log, lambda done, of, what=what: on_progress(what, done, of))
            keep(work / "bin", made, level)
    shutil.copyfile(llama_cpp / LICENCE, made / LICENCE)
    made.rename(kept)
    shutil.rmtree(work)
    if not os.environ.get("LLAMA_CPP_SDIST"):
        shutil.rmtree(folder / source.NAME)


def generator() -> list[str]:
    """Ninja where there is one, as it is quicker."""
    beside = sysconfig.get_path("scripts")
    ninja = shutil.which("ninja", path=os.pathsep.join((beside, os.environ.get("PATH", os.defpath))))
    return ["-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}"] if ninja else ["-G", "Unix Makefiles"]


def defined(options: Mapping[str, str]) -> list[str]:
    return [f"-D{name}={value}" for name, value in options.items()]


def keep(binaries: Path, made: Path, level: Level) -> None:
    """Copy what was compiled. Raises PackError if the CPU's part is for another CPU than it should be."""
    library = binaries / CPU_LIBRARY
    if (sets := instruction_sets(library)) != level.sets:
        found = " ".join(sorted(sets or ())) or "an unknown CPU"
        raise PackError(f"llama.cpp was compiled for {found}, not for {level.name}", "report this, with your compiler")
    (made / level.name).mkdir(parents=True)
    shutil.copy2(library, made / level.name)
    if level is LEVELS[-1]:
        (made / "common").mkdir()
        for name in COMMON_LIBRARIES:
            shutil.copy2(binaries / name, made / "common")


def run(command: list[str], log: TextIO, on_step: Callable[[int, int], None] = lambda done, of: None) -> None:
    """Raises PackError with the line of its output that tells most, and where all of it is."""
    environment = {name: value for name, value in os.environ.items() if name not in THEIRS}
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    )
    telling = ""
    try:
        for line in process.stdout or ():
            log.write(line)
            if step := STEP.match(line):
                on_step(int(step[1]), int(step[2] or 100))
            elif re.search(r"error[: ]|No space left|CMake Error", line) and not telling:
                telling = line.strip()
        code = process.wait()
    finally:
        if process.poll() is None:  # Ctrl-C
            process.terminate()
            process.wait()
    if code != 0:
        log.flush()
        raise PackError(f"llama.cpp cannot be built: {telling or f'exit code {code}'}", f"the full log: {log.name}")
