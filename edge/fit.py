"""Does a context fit into memory? Asked before llama.cpp allocates it: the system would end the process instead."""

from __future__ import annotations

from convert.gguf_file import GgufFile
from edge import machine
from edge.errors import MemoryShort
from edge.memory import context_bytes, longest_context
from edge.shapes import from_gguf
from edge.text import size_text


def check_context_fits(file: GgufFile, ctx: int, slots: int, kv_type: str, flash_attn: bool) -> None:
    """Raise MemoryShort if ``slots`` sequences of ``ctx`` tokens, and a step over them, take more than the free memory.

    Weights are not counted: they are mapped, and a system that is short of memory reads them again and again, which is
    slow and yet runs.
    """
    shape, free = from_gguf(file), machine.memory().available
    settings = {"flash_attn": flash_attn, "slots": slots, "kv_type": kv_type}
    needed = sum(context_bytes(shape, ctx, **settings))
    if needed <= free:
        return
    most = longest_context(shape, free, **settings)
    raise MemoryShort(
        f"a context of {ctx} tokens needs {size_text(needed)} of memory, {size_text(free)} are free",
        f"{most} tokens fit: --ctx {most}" if most else "close other programs, or use a smaller model",
    )
