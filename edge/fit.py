"""Does a context fit into memory? Asked before llama.cpp allocates it: the system would end the process instead."""

from __future__ import annotations

from convert.gguf_file import GgufFile
from edge import machine
from edge.cost import kv_bytes, kv_bytes_per_token
from edge.errors import MemoryShort
from edge.llama.context import CELL_BLOCK, cells_for
from edge.shapes import from_gguf
from edge.text import size_text


def check_context_fits(file: GgufFile, ctx: int, slots: int, kv_type: str) -> None:
    """Raise MemoryShort if the cache of ``slots`` sequences of ``ctx`` tokens is larger than the free memory.

    Weights are not counted: they are mapped, and a system that is short of memory reads them again and again, which is
    slow and yet runs.
    """
    shape, free = from_gguf(file), machine.memory().available
    needed = kv_bytes(shape, cells_for(ctx) * slots, kv_type, slots)
    if needed <= free:
        return
    block = slots * CELL_BLOCK * kv_bytes_per_token(shape, kv_type)
    most = max(0, (free - slots * shape.state_bytes) // max(1, block) - 1) * CELL_BLOCK  # cells_for may add a block
    raise MemoryShort(
        f"a context of {ctx} tokens needs {size_text(needed)} for its cache, {size_text(free)} of memory are free",
        f"at most about {most} tokens fit: --ctx {most}" if most else "close other programs, or use a smaller model",
    )
