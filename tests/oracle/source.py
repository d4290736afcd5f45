"""llama.cpp's source as llama-cpp-python ships it: LLAMA_CPP_SDIST, or fetched once into .cache/."""

from __future__ import annotations

from pathlib import Path

from edge.kiosk.source import unpack

CACHE = Path(__file__).resolve().parents[2] / ".cache"


def llama_cpp_source() -> Path:
    """The folder `vendor/llama.cpp` of the source distribution."""
    return unpack(CACHE)
