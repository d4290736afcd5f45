"""Tokenizer files of the kinds that need no training library: tiktoken ranks and SentencePiece models, small.

The vocabularies are trained here, on a few hundred words, so that they are of the sort that the real ones are.
"""

from __future__ import annotations

import base64
import json
import struct
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convert.checkpoint import Checkpoint
from convert.tokenizer import tokenizer_metadata
from tests.edge import tiny_gguf
from tests.vocabulary import WORDS

SPACE = "▁"
UNKNOWN, NORMAL, CONTROL, USER_DEFINED, UNUSED, BYTE = 2, 1, 3, 4, 5, 6  # piece types, here and in GGUF
TEXT = WORDS + " the people stop open top hope geography isolated geometry 12 2026 333 = == === ....  I'll they're "


def train_bpe(texts: Iterable[str], merges: int) -> list[tuple[str, str]]:
    """The ``merges`` most frequent pairs of neighbours, each joined before the next is counted."""
    words = Counter(texts)
    parts = {word: list(word) for word in words}
    found: list[tuple[str, str]] = []
    for _ in range(merges):
        pairs: Counter[tuple[str, str]] = Counter()
        for word, count in words.items():
            for pair in zip(parts[word], parts[word][1:], strict=False):
                pairs[pair] += count
        if not pairs:
            break
        best = max(pairs, key=lambda pair: (pairs[pair], pair))
        found.append(best)
        for word, pieces in parts.items():
            i = 0
            while i < len(pieces) - 1:
                if (pieces[i], pieces[i + 1]) == best:
                    pieces[i : i + 2] = ["".join(best)]
                i += 1
            parts[word] = pieces
    return found


def byte_tokens(merges: int = 400) -> list[bytes]:
    """Tokens of a byte-level BPE by rank: the 256 bytes, in no order, then the merged ones."""
    texts = [(" " + word).encode().decode("latin-1") for word in TEXT.split()] + ["  ", "    ", "\n\n", "\r\n", "..."]
    single = [bytes([(byte * 7 + 3) % 256]) for byte in range(256)]
    return single + list(dict.fromkeys("".join(pair).encode("latin-1") for pair in train_bpe(texts, merges)))


def impure_tokens() -> list[bytes]:
    """The same, with tokens that merging by lower ranks cannot reach, as glm-4-9b's has some."""
    tokens = byte_tokens()
    return [*tokens[:256], b" sophist", b"whole", b"aXa", *(t for t in tokens[256:] if t != b" sophist"), b"hol", b"Xa"]


def tiktoken_file(tokens: Sequence[bytes]) -> bytes:
    """Tokens by rank as ``base64 rank`` lines."""
    return b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))


@dataclass(frozen=True)
class Piece:
    """One token of a SentencePiece model."""

    text: str
    score: float = 0.0
    type: int = NORMAL


def pieces(merges: int = 400) -> list[Piece]:
    """Those of a BPE model with byte fallback: unknown, begin, end, bytes, joined pieces, then single characters."""
    words = [SPACE + word for word in TEXT.split()] + [SPACE * 2, SPACE * 4]
    joined = list(dict.fromkeys("".join(pair) for pair in train_bpe(words, merges)))
    single = sorted(set("".join(words)))
    learnt = [Piece(text, -float(i)) for i, text in enumerate((*joined, *single))]
    meta = [Piece("<unk>", 0.0, UNKNOWN), Piece("<s>", 0.0, CONTROL), Piece("</s>", 0.0, CONTROL)]
    return meta + [Piece(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)] + learnt


def sentencepiece_file(
    tokens: Sequence[Piece], *, trainer: Mapping[int, int] | None = None, normalizer: Mapping[int, Any] | None = None
) -> bytes:
    """A model file. ``trainer`` and ``normalizer`` change settings by field number (sentencepiece_model.proto)."""
    trained = {3: 2, 35: 1} | dict(trainer or {})  # BPE, byte fallback
    normalized = {1: b"identity", 3: 1, 4: 0, 5: 1} | dict(normalizer or {})
    parts = [(1, message({1: piece.text.encode(), 2: piece.score, 3: piece.type})) for piece in tokens]
    return b"".join(field(number, value) for number, value in (*parts, (2, message(trained)), (3, message(normalized))))


def message(fields: Mapping[int, int | float | bytes]) -> bytes:
    return b"".join(field(number, value) for number, value in fields.items())


def field(number: int, value: int | float | bytes) -> bytes:
    if isinstance(value, bytes):
        return varint(number << 3 | 2) + varint(len(value)) + value
    if isinstance(value, float):
        return varint(number << 3 | 5) + struct.pack("<f", value)
    return varint(number << 3) + varint(value)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def checkpoint(folder: Path, config: Mapping[str, Any] | None = None, **files: bytes | Mapping[str, Any]) -> Checkpoint:
    """A folder with these files and no weights; ``__`` in a name stands for the dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in {"config__json": dict(config or {}), **files}.items():
        data = content if isinstance(content, bytes) else json.dumps(dict(content), ensure_ascii=False).encode()
        (folder / name.replace("__", ".")).write_bytes(data)
    return Checkpoint(folder, dict(config or {}), {})


@dataclass(frozen=True)
class Kind:
    """A tokenizer as some family publishes it: its files, and the special tokens that the family adds."""

    config: Mapping[str, Any]
    files: Mapping[str, bytes | Mapping[str, Any]]
    fallback: Mapping[str, str]

    def checkpoint(self, folder: Path, **config: Any) -> Checkpoint:
        return checkpoint(folder, {**self.config, **config}, **self.files)

    def metadata(self, folder: Path, size: int = 1200, **config: Any) -> dict[str, Any]:
        """The converter's ``tokenizer.*`` keys."""
        found = tokenizer_metadata(self.checkpoint(folder, **config), size, self.fallback)
        return {kv.key: kv.value for kv in found}

    def gguf(self, folder: Path) -> Path:
        """A GGUF without weights, to be loaded with ``vocab_only``. The checkpoint lies in ``folder`` too."""
        none = {key: None for key in tiny_gguf.metadata() if key.startswith("tokenizer.")}
        keys = {"tokenizer.ggml.add_bos_token": False} | self.metadata(folder)
        return tiny_gguf.write(folder / "vocabulary.gguf", none | keys, {})


ENDS = {"eot": "<|user|>", "eom": "<|observation|>"}
KINDS = {
    "qwen": Kind(
        {},
        {
            "qwen__tiktoken": tiktoken_file(byte_tokens()),
            "generation_config__json": {"chat_format": "chatml", "eos_token_id": len(byte_tokens())},
        },
        {"bos": "<|endoftext|>", "eos": "<|endoftext|>", "unk": "<|endoftext|>"},
    ),
    "glm-4": Kind(
        {},
        {"tokenizer__model": tiktoken_file(impure_tokens())},
        {"eos": "<|endoftext|>", "unk": "<|endoftext|>", **ENDS},
    ),
    "chatglm3": Kind({"eos_token_id": 2, "pad_token_id": 0}, {"tokenizer__model": sentencepiece_file(pieces())}, ENDS),
}
