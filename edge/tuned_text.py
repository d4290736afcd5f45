"""What ``edge tune`` found, in words: for its own output and for ``edge show``. Pure."""

from __future__ import annotations

from edge.tuned import NO_LIMIT, Tuned


def explain(tuned: Tuned) -> list[str]:
    """A line for each setting: what it is, and the tokens/s of every choice, which decided."""
    flash = "on" if tuned.flash_attn else "off"
    chosen = {
        "decode threads": str(tuned.threads),
        "prefill threads": str(tuned.threads_batch),
        "flash attention": flash,
        "batch size": str(tuned.rows),
        "decode width": "all" if tuned.width == NO_LIMIT else str(tuned.width),
    }
    lines = []
    for question, choice in chosen.items():
        rates = tuned.measured.get(question, {})
        why = ", ".join(f"{name}: {rate:.1f}" for name, rate in rates.items())
        lines.append(f"{question:<16}{choice:<5}" + (f" of {why} tokens/s" if why else " the default, too slow to try"))
    return lines
