"""The reference library for each kind of tokenizer file, as the gate asks it.

What the model's own Python code did around the library (normalize, split, add tokens) is done here; nothing of the
repository is run. Written apart from the converter on purpose: what both get wrong, no check would find.
"""

from __future__ import annotations

import base64
import functools
import json
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import tiktoken
from sentencepiece import SentencePieceProcessor
from tokenizers import AddedToken, Tokenizer

Encode = Callable[[str], list[int]]

# The published split rules: tokenization_qwen.py of Qwen-7B, tokenization_chatglm.py of glm-4-9b-chat.
SPLIT = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|%s| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN_SPLIT, GLM4_SPLIT = SPLIT % r"\p{N}", SPLIT % r"\p{N}{1,3}"
# Special tokens in the order of their ids behind the vocabulary.
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
QWEN_SPECIALS = (*CHATML, *(f"<|extra_{i}|>" for i in range(205)))
FIRST_QWEN_SPECIALS = (*CHATML, "<R>", "<S>", "<X>", "<mask>", "<sep>", *(f"<extra_{i}>" for i in range(200)))
GLM_ROLES = ("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
GLM_MEDIA = ("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>")
GLM4_SPECIALS = ("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", *GLM_ROLES, *GLM_MEDIA)
CHATGLM3_SPECIALS = ("[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>", *GLM_ROLES)
PREFIX = ("[gMASK]", "<sop>")


@dataclass(frozen=True)
class Added:
    """A token of tokenizer_config.json."""

    id: int
    text: str
    special: bool

    @property
    def is_ordinary(self) -> bool:
        """Found in users' text too."""
        return not self.special and not (self.text.startswith("<|") and self.text.endswith("|>"))


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
    added = config_tokens(read_json(checkpoint / "tokenizer_config.json"))
    if (path := checkpoint / "tokenizer.json").is_file():
        return json_reference(Tokenizer.from_file(str(path)), added)
    if (path := checkpoint / "qwen.tiktoken").is_file():
        first = "n_embd" in read_json(checkpoint / "config.json")
        known = FIRST_QWEN_SPECIALS if first else QWEN_SPECIALS
        return tiktoken_reference(path.read_bytes(), QWEN_SPLIT, known, [], prefix=(), nfc=True)
    data = (checkpoint / "tokenizer.model").read_bytes()
    if b"\0" not in data:  # text, where a SentencePiece model is full of zeros
        return tiktoken_reference(data, GLM4_SPLIT, GLM4_SPECIALS, added, prefix=PREFIX)
    return sentencepiece_reference(data, added)


def read_json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def config_tokens(config: dict[str, Any]) -> list[Added]:
    """The tokens that tokenizer_config.json adds, by id."""
    decoder: dict[str, Any] = config.get("added_tokens_decoder") or {}
    found = [Added(int(id), entry["content"], bool(entry.get("special"))) for id, entry in decoder.items()]
    return sorted(found, key=lambda token: token.id)


def json_reference(tokenizer: Tokenizer, added: Sequence[Added]) -> Reference:
    known = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    for token in added:  # one by one, as the library numbers them
        if token.text not in known:
            tokenizer.add_tokens([AddedToken(token.text, normalized=False, special=token.special)])

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special_tokens=False).ids

    decoder = tokenizer.get_added_tokens_decoder()
    return Reference("tokenizers", encode, encode, [decoder[id].content for id in sorted(decoder)])


def tiktoken_reference(
    data: bytes,
    split: str,
    known: Sequence[str],
    added: Sequence[Added],
    *,
    prefix: tuple[str, ...],
    nfc: bool = False,
) -> Reference:
    pairs = (line.split() for line in data.splitlines() if line.strip())
    ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
    ids = behind_vocabulary(known, added, len(ranks))
    encoding = tiktoken.Encoding("model", pat_str=split, mergeable_ranks=ranks, special_tokens=ids)
    normalize = functools.partial(unicodedata.normalize, "NFC") if nfc else str
    ordinary = {token.text for token in added if token.is_ordinary} - set(known)

    def encode(text: str) -> list[int]:
        return encoding.encode(normalize(text), allowed_special=ordinary, disallowed_special=())

    def encode_markup(text: str) -> list[int]:
        return encoding.encode(normalize(text), allowed_special="all")

    return Reference("tiktoken", encode, encode_markup, list(ids), [ids[text] for text in prefix])


def sentencepiece_reference(data: bytes, added: Sequence[Added]) -> Reference:
    """As ChatGLM3's code has it: the text between special tokens is encoded piece by piece."""
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(data)
    renamed = [replace(token, text={"sop": "<sop>", "eop": "<eop>"}.get(token.text, token.text)) for token in added]
    ids = behind_vocabulary(CHATGLM3_SPECIALS, renamed, processor.vocab_size())
    ordinary = {token.text for token in renamed if token.is_ordinary} & set(ids) - set(CHATGLM3_SPECIALS)

    def encode_between(texts: Iterable[str], text: str) -> list[int]:
        longest_first = sorted(texts, key=len, reverse=True)
        parts = re.split("(" + "|".join(map(re.escape, longest_first)) + ")", text) if longest_first else [text]
        return [id for part in parts for id in ([ids[part]] if part in longest_first else processor.Encode(part))]

    encode, encode_markup = functools.partial(encode_between, ordinary), functools.partial(encode_between, ids)
    return Reference("sentencepiece", encode, encode_markup, list(ids), [ids[text] for text in PREFIX])


def behind_vocabulary(known: Sequence[str], added: Sequence[Added], first: int) -> dict[str, int]:
    """Text -> id of the tokens from id ``first`` on: what the config adds goes before the ``known``."""
    texts = dict(enumerate(known, first)) | {token.id: token.text for token in added if token.id >= first}
    return {texts[id]: id for id in sorted(texts)}
