"""The gate to llama.cpp: refuses in words what would end in an illegal instruction, and explains failures."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from edge import machine
from edge.llama import library
from edge.llama.library import LibraryError
from tests.edge.llama.test_exports import elf

CELERON = machine.cpu_from_cpuinfo("model name : Intel Celeron N5105\nflags : pni ssse3 sse4_2\n", "x86_64")
WORKSTATION = machine.Cpu("Workstation", "x86_64", dict.fromkeys(machine.X86_CPUINFO, True))
ONE, ZERO = b"\xb8\x01\x00\x00\x00\xc3", b"\x31\xc0\xc3"


@pytest.fixture
def avx512_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A ggml CPU library that says it was built for AVX512, compiled if that can be done here."""
    path = tmp_path / "libggml-cpu.so"
    answers = {"avx512": 1, "avx2": 1, "avx512_vnni": 0, "llamafile": 1}
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler and sys.platform == "linux":
        source = tmp_path / "fake.c"
        source.write_text("".join(f"int ggml_cpu_has_{n}(void) {{ return {v}; }}\n" for n, v in answers.items()))
        subprocess.run([compiler, "-O2", "-shared", "-fPIC", "-o", path, source], check=True)
    else:
        path.write_bytes(elf({f"ggml_cpu_has_{n}": ONE if v else ZERO for n, v in answers.items()}))
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    return path


@pytest.fixture
def fresh_load():
    """``load()`` remembers; these tests must see it try."""
    library._load.cache_clear()
    yield
    library._load.cache_clear()


def test_what_a_library_was_built_for(avx512_library: Path):
    assert library.built_for() == {"AVX512", "AVX2"}


def test_a_library_for_more_than_the_cpu_has_is_refused_in_words(avx512_library: Path, monkeypatch):
    monkeypatch.setattr(machine, "cpu", lambda: CELERON)
    with pytest.raises(LibraryError) as caught:
        library.check_cpu()
    assert str(caught.value) == (
        "llama-cpp-python was built for AVX2, AVX512, which this CPU (Intel Celeron N5105) does not have; "
        "reinstall it from source on this machine: make setup REBUILD=1"
    )


def test_a_cpu_that_has_it_all_is_not_refused(avx512_library: Path, monkeypatch):
    monkeypatch.setattr(machine, "cpu", lambda: WORKSTATION)
    library.check_cpu()


def test_what_is_unknown_is_not_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(machine, "cpu", lambda: machine.Cpu(None, "x86_64"))
    library.refuse_if_lacking(frozenset({"AVX512"}), machine.cpu())
    library.refuse_if_lacking(None, CELERON)
    (tmp_path / "libggml-cpu.so").write_bytes(b"no library")
    monkeypatch.setenv("LLAMA_CPP_LIB_PATH", str(tmp_path))
    assert library.built_for() is None


CHILD = """
import json, sys
from edge import machine
from edge.llama import library
machine.cpu = lambda: machine.cpu_from_cpuinfo("model name : Celeron\\nflags : pni\\n", "x86_64")
try:
    library.load()
except library.LibraryError as error:
    print(json.dumps({"said": str(error), "imported": [m for m in sys.modules if m.startswith("llama_cpp")]}))
"""


def test_the_refusal_comes_before_the_library_is_loaded(avx512_library: Path):
    """Importing llama_cpp first would end the process with an illegal instruction and not a word."""
    done = subprocess.run([sys.executable, "-c", CHILD], capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["said"].startswith("llama-cpp-python was built for AVX2, AVX512, which this CPU (Celeron)")
    assert answer["imported"] == []


def test_the_installed_library_says_the_same_in_its_file_and_when_loaded():
    """The bytes of the file are read right: a child process loads it and asks llama.cpp itself."""
    ask = "from edge.llama import library as l; import json; print(json.dumps(l.system_info().features['CPU']))"
    done = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True)
    every_word = {*machine.X86_CPUINFO, *machine.ARM_CPUINFO}
    said = {word for word, value in json.loads(done.stdout).items() if value == "1"} & every_word
    read = library.built_for()
    if sys.platform == "darwin":  # Mach-O is not read: unknown, never a guess
        assert read is None
    else:
        assert read is not None
        assert read == said


def test_loading_gives_the_c_functions_and_keeps_quiet(capfd: pytest.CaptureFixture[str]):
    c = library.load()
    assert c is library.load()
    assert c.llama_model_load_from_file(b"/no/such/file.gguf", c.llama_model_default_params()) is None
    out, err = capfd.readouterr()
    assert (out, err) == ("", "")
    log = library.last_log()
    assert "/no/such/file.gguf" in log
    assert "\n" not in log
    assert library.last_log() == "", "errors are told once"


def test_verbose_lets_llama_cpp_speak(capfd: pytest.CaptureFixture[str]):
    c = library.load(verbose=True)
    c.llama_model_load_from_file(b"/no/such/file.gguf", c.llama_model_default_params())
    library.load()
    assert "/no/such/file.gguf" in capfd.readouterr().err
    library.last_log()


def test_the_log_keeps_errors_whole_and_nothing_else():
    log = library._Log(keep=2)
    log.write(2, "loading\n")
    log.write(4, "tensor 'a' has ")
    log.write(5, "the wrong shape\n")
    log.write(3, "a warning\n")
    log.write(5, "that goes on\n")
    log.write(4, "failed to load\n")
    assert log.take() == "tensor 'a' has the wrong shape; failed to load"
    for i in range(5):
        log.write(4, f"error {i}\n")
    assert log.take() == "error 3; error 4"


@pytest.mark.usefixtures("fresh_load")
def test_a_missing_package_names_the_next_step(monkeypatch):
    monkeypatch.delenv("LLAMA_CPP_LIB_PATH", raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert library.folder() is None
    assert library.built_for() is None
    with pytest.raises(LibraryError, match="not installed; install it with: make setup"):
        library.load()


@pytest.mark.usefixtures("fresh_load")
def test_another_version_is_refused(monkeypatch):
    """The C API moves between versions: a struct of another layout would corrupt memory, not raise."""
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.3.99")
    with pytest.raises(LibraryError, match=r"0\.3\.99 is installed, but 0\.3\.36 is needed"):
        library.load()


@pytest.mark.usefixtures("fresh_load")
def test_a_missing_libgomp_is_named(monkeypatch):
    def fail(name: str):
        raise RuntimeError("Failed to load 'libllama.so': libgomp.so.1: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(LibraryError, match="libgomp1"):
        library.load()


@pytest.mark.usefixtures("fresh_load")
def test_a_library_that_does_not_load_says_why_on_one_line(monkeypatch):
    def fail(name: str):
        raise RuntimeError("Failed to load shared library\n'libllama.so': file too short")

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(LibraryError) as caught:
        library.load()
    assert "file too short" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_system_info_is_read_by_backend():
    text = "CUDA : ARCHS = 900 | USE_GRAPHS = 1 | CPU : SSE3 = 1 | AVX = 1 | OPENMP = 1 | "
    assert library.parse_system_info(text) == {
        "CUDA": {"ARCHS": "900", "USE_GRAPHS": "1"},
        "CPU": {"SSE3": "1", "AVX": "1", "OPENMP": "1"},
    }
    assert library.parse_system_info("") == {}
