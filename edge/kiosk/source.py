"""The source of llama.cpp as llama-cpp-python ships it, fetched once by pip."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from edge.errors import PackError
from edge.hashing import sha256_of
from edge.llama.library import PACKAGE, VERSION

NAME = f"llama_cpp_python-{VERSION}"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"  # of the archive


def fetch_archive(folder: Path) -> Path:
    """The source distribution in ``folder``, downloaded where it is missing. Raises PackError."""
    archive = folder / f"{NAME}.tar.gz"
    if not archive.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        download(folder)
    if sha256_of(archive) != SHA256:
        raise PackError(f"{archive} is not the source of {PACKAGE} {VERSION}", "delete it and run the command again")
    return archive


def download(folder: Path) -> None:
    """With whatever index this person's pip uses."""
    # Wheels for what pip needs to read the archive: with ":all:" it would compile them, for minutes.
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-binary", PACKAGE, "--no-deps"]
    done = subprocess.run([*command, "--dest", str(folder), f"{PACKAGE}=={VERSION}"], capture_output=True, text=True)
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["no reason given"]
        raise PackError(
            f"pip cannot download the source of {PACKAGE} {VERSION}: {lines[-1].removeprefix('ERROR: ')}",
            f"check the network, or put {NAME}.tar.gz into {folder} yourself",
        )


def unpack(folder: Path) -> Path:
    """``vendor/llama.cpp`` of the source distribution, unpacked below ``folder`` once.

    LLAMA_CPP_SDIST names an unpacked source distribution to use instead. Raises PackError.
    """
    given = os.environ.get("LLAMA_CPP_SDIST")
    unpacked = Path(given) if given else folder / NAME
    if not unpacked.is_dir() and not given:
        partial = folder / f"{NAME}.partial"  # renamed when whole: a half unpacked one would not compile
        shutil.rmtree(partial, ignore_errors=True)
        shutil.unpack_archive(fetch_archive(folder), partial)
        (partial / NAME).rename(unpacked)
        partial.rmdir()
    source = unpacked / "vendor" / "llama.cpp"
    if not (source / "ggml" / "CMakeLists.txt").is_file():
        raise PackError(f"{unpacked} is not an unpacked source distribution of {PACKAGE}")
    return source
