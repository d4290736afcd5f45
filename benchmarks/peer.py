"""The peer of conversion: llama.cpp's own two programs, from the source that llama-cpp-python ships."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from tests.oracle.source import CACHE, llama_cpp_source

BUILD = CACHE / "peer-build"
OPTIONS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DGGML_NATIVE=ON",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    "-DLLAMA_BUILD_SERVER=ON",
    "-DLLAMA_USE_PREBUILT_UI=OFF",  # it would be downloaded
    "-DLLAMA_BUILD_TOOLS=ON",
)


def build_quantize(threads: int) -> Path:
    """The `llama-quantize` program, compiled for this machine; minutes the first time."""
    program = BUILD / "bin" / "llama-quantize"
    if not program.is_file():
        if not shutil.which("cmake"):
            raise SystemExit("cmake is not installed; pip install cmake ninja")
        print("building llama-quantize, about 8 minutes on two cores", flush=True)
        source = str(llama_cpp_source())
        subprocess.run(["cmake", "-S", source, "-B", str(BUILD), *OPTIONS], check=True)
        target = ["--target", "llama-quantize", "-j", str(threads)]
        subprocess.run(["cmake", "--build", str(BUILD), *target], check=True)
    return program


def convert_command(python: str, checkpoint: Path, out: Path) -> list[str]:
    """Step 1: the checkpoint as a bf16 GGUF. `python` must have torch and transformers."""
    script = llama_cpp_source() / "convert_hf_to_gguf.py"
    return [python, str(script), str(checkpoint), "--outtype", "bf16", "--outfile", str(out)]


def quantize_command(program: Path, source: Path, out: Path, level: str, threads: int) -> list[str]:
    """Step 2."""
    return [str(program), str(source), str(out), level, str(threads)]


def environment(threads: int) -> dict[str, str]:
    """Its own gguf before any other, no network, and no more threads than the other side has."""
    limits = {name: str(threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
    return os.environ | limits | {"PYTHONPATH": str(llama_cpp_source() / "gguf-py"), "HF_HUB_OFFLINE": "1"}
