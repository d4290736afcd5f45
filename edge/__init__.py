"""A quantized runtime for Qwen and GLM on small machines, on llama.cpp. ``from edge import Engine`` is its API."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["ConstraintSpec", "Delta", "EdgeError", "Engine", "Options", "Result", "Stream", "__version__"]

if TYPE_CHECKING:
    from convert.errors import EdgeError
    from edge.answer import Delta, Result
    from edge.api import Engine, Stream
    from edge.constrain import ConstraintSpec
    from edge.options import Options

PLACES = {
    "ConstraintSpec": "edge.constrain",
    "Delta": "edge.answer",
    "EdgeError": "convert.errors",
    "Engine": "edge.api",
    "Options": "edge.options",
    "Result": "edge.answer",
    "Stream": "edge.api",
}


def __getattr__(name: str) -> Any:
    """Import a part of the API when it is asked for: most commands do without llama.cpp."""
    if name not in PLACES:
        raise AttributeError(f"module 'edge' has no attribute {name!r}")
    return getattr(import_module(PLACES[name]), name)
