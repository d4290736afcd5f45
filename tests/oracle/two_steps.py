"""llama.cpp's own way from a checkpoint to a GGUF: convert_hf_to_gguf.py, then llama_model_quantize."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import llama_cpp

from tests.oracle.source import llama_cpp_source

QUIET = llama_cpp.llama_log_callback(lambda level, text, data: None)
FLOAT_LEVELS = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


def oracle(checkpoint: Path, levels: Iterable[str], folder: Path, dtype: str) -> dict[str, Path]:
    """The checkpoint at each level, as files in `folder`.

    dtype: the checkpoint's own, "bf16", "f16" or "f32": the first step keeps it, so that the second one sees
    every bit. A float level is the first step alone.
    """
    lossless = dtype.upper()
    files = {level: folder / f"{level}.gguf" for level in levels}
    for level in {lossless, *files} & FLOAT_LEVELS.keys():
        if level in files or any(name not in FLOAT_LEVELS for name in files):
            convert_hf(checkpoint, level, folder / f"{level}.gguf")
    for level, file in files.items():
        if level not in FLOAT_LEVELS:
            quantize(folder / f"{lossless}.gguf", file, level)
    return files


def convert_hf(checkpoint: Path, level: str, out: Path) -> None:
    """Step 1: a file of level F32, F16 or BF16."""
    command = [sys.executable, str(Path(__file__).with_name("step1.py")), str(llama_cpp_source())]
    command += [str(checkpoint), "--outtype", FLOAT_LEVELS[level], "--outfile", str(out)]
    done = subprocess.run(command, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"convert_hf_to_gguf.py failed on {checkpoint}:\n{done.stderr[-2000:]}")


def quantize(source: Path, out: Path, level: str) -> None:
    """Step 2."""
    llama_cpp.llama_log_set(QUIET, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{level}")
    params.nthread = 2
    if llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.pointer(params)):
        raise RuntimeError(f"llama_model_quantize failed on {source} for {level}")
