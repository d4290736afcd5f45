"""A quantized runtime for Qwen and GLM on small machines, on llama.cpp. ``from edge import Engine`` is its API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Engine", "__version__"]

if TYPE_CHECKING:
    from edge.api import Engine


def __getattr__(name: str) -> Any:
    """Import the engine when it is asked for: most commands do without llama.cpp."""
    if name == "Engine":
        from edge.api import Engine

        return Engine
    raise AttributeError(f"module 'edge' has no attribute {name!r}")
