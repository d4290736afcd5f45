"""The reference library for each kind of tokenizer file, as the gate asks it.

What the model's own Python code did around the library (normalize, split, add tokens) is done here; nothing of the
repository is run. Written apart from the converter on purpose: what both get wrong, no check would find.
"""

from __future__ import annotations

import base64
import functools
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import tiktoken
from sentencepiece import SentencePieceProcessor
from tokenizers import Tokenizer

Encode = Callable[[str], list[int]]

# The published split rules: tokenization_qwen.py of Qwen-7B, tokenization_chatglm.py of glm-4-9b-chat.
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN_SPLIT, GLM4_SPLIT = SPLIT % r"\p{N}", SPLIT % r"\p{N}{1,3}"
# The special tokens a chat needs, in the order of their ids behind the vocabulary.
QWEN_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
GLM_ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
GLM4_SPECIALS = ("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", *GLM_ROLES)
CHATGLM3_SPECIALS = ("[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", *GLM_ROLES)
PREFIX = ("[gMASK]", "<sop>")


@dataclass(frozen=True)
class Reference:
    """``encode`` takes a text in which nothing is special, ``encode_markup`` one that may hold special tokens.

    ``prefix``: the ids that the reference puts before every prompt.
    """

    library: str
    encode: Encode
    encode_markup: Encode
    specials: list[str]
    prefix: list[int] = field(default_factory=list)


def open_reference(checkpoint: Path) -> Reference:
    """The reference for the tokenizer file of a checkpoint folder."""
    if (path := checkpoint / "tokenizer.json").is_file():
        return json_reference(Tokenizer.from_file(str(path)))
    if (path := checkpoint / "qwen.tiktoken").is_file():
        return tiktoken_reference(path.read_bytes(), QWEN_SPLIT, QWEN_SPECIALS, prefix=(), nfc=True)
    data = (checkpoint / "tokenizer.model").read_bytes()
    if b"\0" not in data:  # text, where a SentencePiece model is full of zeros
        return tiktoken_reference(data, GLM4_SPLIT, GLM4_SPECIALS, prefix=PREFIX)
    return sentencepiece_reference(data)


def json_reference(tokenizer: Tokenizer) -> Reference:
    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    return Reference("tokenizers", encode, encode, added)


def tiktoken_reference(
    data: bytes, split: str, specials: tuple[str, ...], prefix: tuple[str, ...], nfc: bool = False
) -> Reference:
    pairs = (line.split() for line in data.splitlines() if line.strip())
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    ids = {text: id for id, text in enumerate(specials, len(ranks))}
    encoding = tiktoken.Encoding("model", pat_str=split, mergeable_ranks=ranks, special_tokens=ids)
    normalize = functools.partial(unicodedata.normalize, "NFC") if nfc else str

    def encode(text: str) -> list[int]:
        return encoding.encode_ordinary(normalize(text))

    def encode_markup(text: str) -> list[int]:
        return encoding.encode(normalize(text), allowed_special="all")

    return Reference("tiktoken", encode, encode_markup, list(specials), [ids[text] for text in prefix])


def sentencepiece_reference(data: bytes) -> Reference:
    """As ChatGLM3's code has it: the text between special tokens is encoded piece by piece."""
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(data)
    ids = {text: id for id, text in enumerate(CHATGLM3_SPECIALS, processor.vocab_size())}

    def encode(text: str) -> list[int]:
        return processor.Encode(text)

    def encode_markup(text: str) -> list[int]:
        parts = re.split("(" + "|".join(map(re.escape, ids)) + ")", text)
        return [id for part in parts for id in ([ids[part]] if part in ids else encode(part))]

    return Reference("sentencepiece", encode, encode_markup, list(ids), [ids[text] for text in PREFIX])
