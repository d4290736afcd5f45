"""The rules by which text is split before BPE: those llama.cpp implements, and which of them a tokenizer.json means.

A pre-tokenizer llama.cpp does not have is an error, not a guess.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from convert.errors import UnsupportedError


@dataclass(frozen=True)
class PreTokenizer:
    """A split regex llama.cpp implements, its name there, and what tells namesakes apart.

    ``ignore_merges``: a piece of text that is a token as a whole becomes it, whatever the merges say.
    ``nfc``: text is normalized first; llama.cpp does not, the engine does it for these names.
    ``marker``: a token that must be there.
    """

    name: str
    regex: str
    nfc: bool
    ignore_merges: bool = False
    marker: str | None = None


_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_TAIL = r"|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _TAIL
QWEN35 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*" + _TAIL
GLM4 = _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*" + _TAIL

PRE_TOKENIZERS = (
    PreTokenizer("deepseek-r1-qwen", QWEN2, nfc=True, marker="<｜begin▁of▁sentence｜>"),
    PreTokenizer("qwen2", QWEN2, nfc=True),
    PreTokenizer("qwen35", QWEN35, nfc=True),
    PreTokenizer("glm4", GLM4, nfc=False, marker="[gMASK]", ignore_merges=True),
    PreTokenizer("chatglm-bpe", GLM4, nfc=False, marker="[gMASK]"),
)


def find_pre_tokenizer(tree: Any, markers: Collection[str], ignore_merges: bool) -> PreTokenizer:
    """What the ``pre_tokenizer`` of a tokenizer.json is in llama.cpp. ``markers``: the texts of all added tokens.

    Raises UnsupportedError; an unknown regex is shown beside the nearest known.
    """
    steps = tree.get("pretokenizers", [tree]) if isinstance(tree, dict) else []
    steps = steps if isinstance(steps, list) else []
    splits = [step for step in steps if isinstance(step, dict) and step.get("type") == "Split"]
    levels = [step for step in steps if isinstance(step, dict) and step.get("type") == "ByteLevel"]
    pattern = splits[0].get("pattern") if splits else None
    regex = pattern.get("Regex") if isinstance(pattern, dict) else None
    if len(steps) != 2 or len(levels) != 1 or not isinstance(regex, str):
        kinds = ", ".join(str(step.get("type")) for step in steps if isinstance(step, dict)) or "nothing"
        raise UnsupportedError(f"tokenizer.json splits text by {kinds[:80]}; known is Split by a regex, then ByteLevel")
    if levels[0].get("add_prefix_space") or levels[0].get("use_regex") or splits[0].get("invert"):
        raise UnsupportedError("tokenizer.json uses add_prefix_space, use_regex or invert, which llama.cpp does not")
    if (behavior := splits[0].get("behavior")) != "Isolated":
        raise UnsupportedError(f"tokenizer.json splits with behavior {str(behavior)[:40]!r}; known is Isolated")
    for known in PRE_TOKENIZERS:
        fits = known.marker is None or known.marker in markers
        if regex == known.regex and ignore_merges == known.ignore_merges and fits:
            return known
    nearest = max(PRE_TOKENIZERS, key=lambda known: difflib.SequenceMatcher(None, known.regex, regex[:500]).ratio())
    raise UnsupportedError(
        f"unknown pre-tokenizer regex: nearest is {nearest.name}, {describe_difference(nearest.regex, regex[:500])}",
        "converting with a wrong one would give a model that reads text differently",
    )


def describe_difference(known: str, found: str) -> str:
    parts = difflib.SequenceMatcher(None, known, found).get_opcodes()
    changes = [f"{known[a:b]!r} -> {found[c:d]!r}" for op, a, b, c, d in parts if op != "equal"]
    return (
        "which differs in " + "; ".join(changes[:3])
        if changes
        else "which has other special tokens or another ignore_merges"
    )
