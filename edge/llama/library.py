"""The gate to llama.cpp: everything else in ``edge.llama`` gets the C functions from ``load()``.

A library built for a newer CPU would end the process with an illegal instruction, so the gate reads
what the library was built for from its file, and refuses in words before loading it.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from convert.errors import EdgeError
from edge import machine
from edge.llama import exports

VERSION = "0.3.36"
PACKAGE = "llama-cpp-python"
CPU_LIBRARY_NAMES = ("libggml-cpu.so", "libggml-cpu.dylib", "ggml-cpu.dll", "libggml-cpu.dll")
# Switches of the build that ggml reports beside the instruction sets.
NOT_INSTRUCTIONS = {"LLAMAFILE"}


class LibraryError(EdgeError):
    """llama.cpp's library is missing, of another version, or not for this machine."""


@dataclass(frozen=True)
class SystemInfo:
    """What llama.cpp says of itself: ``features`` by backend, such as {"CPU": {"AVX2": "1"}}."""

    features: dict[str, dict[str, str]]
    gpu_offload: bool


# --- without loading


def folder() -> Path | None:
    """The folder of the C libraries, or None where llama-cpp-python is not installed."""
    override = os.environ.get("LLAMA_CPP_LIB_PATH")  # llama-cpp-python's own
    if override:
        return Path(override)
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "lib"


def version() -> str | None:
    """The installed version of llama-cpp-python, or None."""
    try:
        return importlib.metadata.version(PACKAGE)
    except importlib.metadata.PackageNotFoundError:
        return None


def built_for() -> frozenset[str] | None:
    """The instruction sets that the installed library was compiled for; None if that cannot be told."""
    where = folder()
    if where is None:
        return None
    for name in CPU_LIBRARY_NAMES:
        if (where / name).is_file():
            return instruction_sets(where / name)
    return None


def instruction_sets(library: Path) -> frozenset[str] | None:
    """The instruction sets that this ggml CPU library was compiled for, in llama.cpp's words."""
    answers = {name.upper(): value for name, value in exports.constants(library, "ggml_cpu_has_").items()}
    if not answers:
        return None
    return frozenset(word for word, value in answers.items() if value) - NOT_INSTRUCTIONS


def check_cpu() -> None:
    """Raise LibraryError if the library needs an instruction set that this CPU is known to lack."""
    refuse_if_lacking(built_for(), machine.cpu())


def refuse_if_lacking(needed: frozenset[str] | None, cpu: machine.Cpu) -> None:
    lacking = sorted((needed or frozenset()) & cpu.lacks)
    if lacking:
        sets = ", ".join(lacking)
        raise LibraryError(
            f"{PACKAGE} was built for {sets}, which this CPU ({cpu.name or cpu.arch}) does not have",
            "reinstall it from source on this machine: make setup REBUILD=1",
        )


# --- loading


def load(*, verbose: bool = False) -> ModuleType:
    """Load llama.cpp once and return the module of its C functions, ``llama_cpp.llama_cpp``.

    llama.cpp's own log is silent, or goes to stderr if ``verbose``; ``last_log()`` has its errors.
    Raises LibraryError if the library is missing, of another version, or not for this CPU.
    """
    _log.verbose = verbose
    return _load()


@functools.cache
def _load() -> ModuleType:
    installed = version()
    if folder() is None or installed is None:
        raise LibraryError(f"{PACKAGE} is not installed", "install it with: make setup")
    if installed != VERSION:
        raise LibraryError(
            f"{PACKAGE} {installed} is installed, but {VERSION} is needed: its C functions change",
            "install the right one with: make setup",
        )
    check_cpu()
    try:
        c = importlib.import_module("llama_cpp.llama_cpp")
    except ImportError as error:
        raise LibraryError(
            f"{PACKAGE} cannot be imported ({error})", "repair the environment with: make setup"
        ) from error
    except (OSError, RuntimeError) as error:
        raise LibraryError(*_why_not_loaded(str(error))) from error
    c.llama_log_set(_log_callback(c), None)
    c.llama_backend_init()
    return c


def _why_not_loaded(text: str) -> tuple[str, str]:
    if "libgomp" in text:
        return (
            "llama.cpp needs the system library libgomp.so.1, which is not installed",
            "sudo apt install libgomp1 (Debian, Ubuntu), sudo dnf install libgomp (Fedora)",
        )
    reason = text.strip().splitlines()[-1] if text.strip() else "no reason given"
    return f"llama.cpp cannot be loaded: {reason}", "build it again with: make setup REBUILD=1"


def repacks(c: ModuleType) -> bool:
    """Whether models are loaded with repacked weights.

    GCC up to 12 miscompiles the set-up of AMX tiles, and the first prefill faults: better slow.
    """
    return b"AMX_INT8 = 1" not in c.llama_print_system_info()


def ggml_function(library: str, name: str, result: Any, *arguments: Any) -> Any:
    """A function of ggml, from the copy that llama.cpp works with: its own handle finds what it was linked with.

    ``library``: the one that has it, such as ``ggml-base``. The package has each several times, and another copy would
    know no devices. Windows looks in one library alone, and has one of each.
    """
    handle = load()._lib
    if sys.platform == "win32":
        where = folder()
        assert where is not None, "it was loaded from there"
        names = (where / f"{prefix}{library}.dll" for prefix in ("", "lib"))
        handle = ctypes.CDLL(str(next(path for path in names if path.is_file())))
    function = handle[name]  # a new object: prototypes set elsewhere stay as they are
    function.restype, function.argtypes = result, arguments
    return function


def system_info() -> SystemInfo:
    """Load the library and ask it what it was built with."""
    c = load(verbose=_log.verbose)
    return SystemInfo(parse_system_info(c.llama_print_system_info().decode()), c.llama_supports_gpu_offload())


def parse_system_info(text: str) -> dict[str, dict[str, str]]:
    """Read llama.cpp's line "CPU : AVX = 1 | AVX2 = 1 | CUDA : ARCHS = 900 | "."""
    features: dict[str, dict[str, str]] = {}
    backend: dict[str, str] = {}
    for part in text.split("|"):
        name, colon, rest = part.partition(" : ")
        if colon:
            backend = features.setdefault(name.strip(), {})
            part = rest
        key, equals, value = part.partition("=")
        if equals:
            backend[key.strip()] = value.strip()
    return features


# --- the log

ERROR, CONTINUED = 4, 5  # ggml_log_level


class _Log:
    """Keeps the last errors that llama.cpp wrote; a line may come in several pieces."""

    def __init__(self, keep: int = 8) -> None:
        self.verbose = False
        self._errors: deque[str] = deque(maxlen=keep)
        self._level = 0

    def write(self, level: int, text: str) -> None:
        if self.verbose:
            sys.stderr.write(text)
        if level == CONTINUED:
            if self._level == ERROR and self._errors:
                self._errors[-1] += text
            return
        self._level = level
        if level == ERROR:
            self._errors.append(text)

    def take(self) -> str:
        if not self._errors:
            return ""
        lines = "\n".join(self._errors).splitlines()
        self._errors.clear()
        return "; ".join(line.strip() for line in lines if line.strip())


_log = _Log()


@functools.cache  # C keeps the callback for the life of the process: so must we
def _log_callback(c: ModuleType) -> object:
    def write(level: int, text: bytes | None, _user_data: int | None) -> None:
        _log.write(level, (text or b"").decode("utf-8", "replace"))

    return c.llama_log_callback(write)


def last_log() -> str:
    """The errors that llama.cpp logged since the last call, the last 8 at most, on one line."""
    return _log.take()
