"""llama.cpp's source as llama-cpp-python ships it: LLAMA_CPP_SDIST, or fetched once into .cache/."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAME = "llama_cpp_python-0.3.36"
CACHE = Path(__file__).resolve().parents[2] / ".cache"


def llama_cpp_source() -> Path:
    """The folder `vendor/llama.cpp` of the source distribution.

    Set LLAMA_CPP_SDIST to an unpacked source distribution to use that; otherwise pip downloads the archive.
    """
    if given := os.environ.get("LLAMA_CPP_SDIST"):
        return checked(Path(given))
    unpacked = CACHE / NAME
    if not unpacked.is_dir():
        archive = CACHE / f"{NAME}.tar.gz"
        if not archive.is_file():
            download(NAME.replace("_python-", "-python==").replace("_", "-"))
        shutil.unpack_archive(archive, CACHE)
    return checked(unpacked)


def download(requirement: str) -> None:
    CACHE.mkdir(exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-binary", ":all:", "--no-deps"]
    subprocess.run([*command, "--dest", str(CACHE), requirement], check=True)


def checked(unpacked: Path) -> Path:
    source = unpacked / "vendor" / "llama.cpp"
    if not (source / "convert_hf_to_gguf.py").is_file():
        raise SystemExit(f"{unpacked} is not an unpacked source distribution of llama-cpp-python")
    return source
