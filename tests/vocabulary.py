"""Tokenizer files of the small checkpoints: a byte-level BPE vocabulary built without any training.

Ids: 256 byte tokens, then one token per merge, then the family's special tokens with their real texts. Ids
from there up to `vocab_size` stay empty, as in the published checkpoints.
"""

from __future__ import annotations

from typing import Any

WORDS = """
 the and of to in is you that it he was for on are as with his they at be this have from or one had by word
 but not what all were we when your can said there use an each which she do how their if will up other about
 out many then them these so some her would make like him into time has look two more write go see number no
 way could people my than first water been call who oil its now find long down day did get come made may part
 hello world model token int return def class import print 你好 我们 今天 天气 北京 请问 什么 怎么 谢谢 可以
 模型 问题 回答 没有 知道 时间 朋友 中国 こんにちは ありがとう 1 2 3 😀 🦙
"""

SPLITS = {
    "qwen2": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "glm4": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}

# (text, special): `<|fim_*|>` are not special there but look it; `<tool_call>` is not and does not.
SPECIALS = {
    "qwen2": [
        ("<|endoftext|>", True),
        ("<|im_start|>", True),
        ("<|im_end|>", True),
        ("<|fim_prefix|>", False),
        ("<|fim_middle|>", False),
        ("<|fim_suffix|>", False),
        ("<tool_call>", False),
        ("</tool_call>", False),
    ],
    "glm4": [
        ("<|endoftext|>", True),
        ("[MASK]", True),
        ("[gMASK]", True),
        ("[sMASK]", True),
        ("<sop>", True),
        ("<eop>", True),
        ("<|system|>", True),
        ("<|user|>", True),
        ("<|assistant|>", True),
        ("<|observation|>", True),
        ("<|code_prefix|>", False),
        ("<think>", False),
    ],
}

CHAT_TEMPLATES = {
    "qwen2": "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    "glm4": "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
}

EOS = {"qwen2": ["<|im_end|>", "<|endoftext|>"], "glm4": ["<|endoftext|>", "<|user|>", "<|observation|>"]}


def byte_alphabet() -> list[str]:
    """The 256 printable characters that stand for the bytes 0..255 in a byte-level vocabulary."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [b for b in range(256) if b not in printable]
    return [chr(b) if b in printable else chr(256 + others.index(b)) for b in range(256)]


def merges() -> list[tuple[str, str]]:
    """Merges that build every word of WORDS, and the same word after a space, from left to right."""
    alphabet = byte_alphabet()
    found: dict[tuple[str, str], None] = {}
    for word in WORDS.split():
        for text in (word, " " + word):
            pieces = [alphabet[b] for b in text.encode()]
            for pair in found:  # earlier merges come first when the word is tokenized
                pieces = _merged(pieces, pair)
            while len(pieces) > 1:
                pair = (pieces[0], pieces[1])
                found[pair] = None
                pieces = _merged(pieces, pair)
    return list(found)


def _merged(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    out: list[str] = []
    for piece in pieces:
        if out and (out[-1], piece) == pair:
            out[-1] += piece
        else:
            out.append(piece)
    return out


MERGES = merges()
ORDINARY = [*sorted(byte_alphabet()), *("".join(pair) for pair in MERGES)]


def token_id(family: str, text: str) -> int:
    """The id of one of the family's special tokens."""
    return len(ORDINARY) + [content for content, _ in SPECIALS[family]].index(text)


def size(family: str) -> int:
    """How many ids have a token; a checkpoint's `vocab_size` is larger."""
    return len(ORDINARY) + len(SPECIALS[family])


def tokenizer_json(family: str, *, merge_pairs: bool) -> dict[str, Any]:
    """`tokenizer.json` as the family publishes it; merges as pairs (new files) or as "a b" strings (old)."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    split = {"Regex": SPLITS[family]}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": len(ORDINARY) + i, "content": text, "single_word": False, "lstrip": False}
            | {"rstrip": False, "normalized": False, "special": special}
            for i, (text, special) in enumerate(SPECIALS[family])
        ],
        "normalizer": {"type": "NFC"} if family == "qwen2" else None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {"type": "Split", "pattern": split, "behavior": "Isolated", "invert": False},
                byte_level,
            ],
        },
        "post_processor": byte_level,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": family == "glm4",
            "vocab": {token: i for i, token in enumerate(ORDINARY)},
            "merges": [list(pair) if merge_pairs else " ".join(pair) for pair in MERGES],
        },
    }


def tokenizer_config(family: str) -> dict[str, Any]:
    """`tokenizer_config.json` without a chat template."""
    added = tokenizer_json(family, merge_pairs=False)["added_tokens"]
    end = EOS[family][0]
    return {
        "tokenizer_class": {"qwen2": "Qwen2Tokenizer", "glm4": "PreTrainedTokenizerFast"}[family],
        "added_tokens_decoder": {str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in added},
        "additional_special_tokens": [text for text, special in SPECIALS[family] if special],
        "bos_token": None,
        "eos_token": end,
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 32768,
    }
