"""llama.cpp's own way from a checkpoint to a GGUF: convert_hf_to_gguf.py, then llama_model_quantize."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import llama_cpp

from convert.imatrix import Imatrix
from tests.oracle.source import llama_cpp_source

QUIET = llama_cpp.llama_log_callback(lambda level, text, data: None)
FLOAT_LEVELS = {"F32": "f32", "F16": "f16", "BF16": "bf16"}


def oracle(
    checkpoint: Path,
    levels: Iterable[str],
    folder: Path,
    dtype: str,
    *,
    arguments: Sequence[str] = (),
    imatrix: Imatrix | None = None,
) -> dict[str, Path]:
    """The checkpoint at each level, as files in `folder`.

    dtype: the checkpoint's own, "bf16", "f16" or "f32": the first step keeps it, so that the second one sees
    every bit. A float level is the first step alone, which gets `arguments` too; the second gets `imatrix`.
    """
    lossless = dtype.upper()
    files = {level: folder / f"{level}.gguf" for level in levels}
    floats = {level for level in files if level in FLOAT_LEVELS}
    if floats != files.keys():
        floats.add(lossless)
    convert_hf(checkpoint, {level: folder / f"{level}.gguf" for level in sorted(floats)}, arguments)
    for level, file in files.items():
        if level not in FLOAT_LEVELS:
            quantize(folder / f"{lossless}.gguf", file, level, imatrix)
    return files


def convert_hf(checkpoint: Path, files: Mapping[str, Path], arguments: Sequence[str] = ()) -> None:
    """Step 1: files of levels F32, F16, BF16, all in one process, which takes longest to start."""
    command = [sys.executable, str(Path(__file__).with_name("step1.py")), str(llama_cpp_source()), str(checkpoint)]
    command += [f"{FLOAT_LEVELS[level]}={file}" for level, file in files.items()]
    done = subprocess.run(
        [*command, *arguments], env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"convert_hf_to_gguf.py failed on {checkpoint}:\n{done.stderr[-2000:]}")


def quantize(source: Path, out: Path, level: str, imatrix: Imatrix | None = None) -> None:
    """Step 2, without the metadata that the command line tool adds for an imatrix."""
    llama_cpp.llama_log_set(QUIET, ctypes.c_void_p(0))
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{level}")
    params.nthread = 2
    measured = imatrix.weights if imatrix else {}
    entries = (llama_cpp.llama_model_imatrix_data * (len(measured) + 1))()  # the last, empty one ends the list
    for entry, (name, values) in zip(entries, measured.items(), strict=False):
        entry.name, entry.size = name.encode(), values.size
        entry.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    if measured:
        params.imatrix = entries
    if llama_cpp.llama_model_quantize(str(source).encode(), str(out).encode(), ctypes.pointer(params)):
        raise RuntimeError(f"llama_model_quantize failed on {source} for {level}")
