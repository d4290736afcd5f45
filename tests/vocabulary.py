"""Tokenizer files of the small checkpoints: a byte-level BPE vocabulary built without any training.

Ids: 256 byte tokens, then one token per merge, then the family's special tokens with their real texts. Ids
from there up to `vocab_size` stay empty, as in the published checkpoints.
"""

from __future__ import annotations

import json
from base64 import b64encode
from pathlib import Path
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
    "qwen": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "qwen35": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
    "glm": r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
}


def special(*texts: str) -> list[tuple[str, bool]]:
    return [(text, True) for text in texts]


def ordinary(*texts: str) -> list[tuple[str, bool]]:
    """Added to the vocabulary, but not special: they stay in the text when special tokens are left out."""
    return [(text, False) for text in texts]


CHATML = special("<|endoftext|>", "<|im_start|>", "<|im_end|>")
PARTS = special(
    *(f"<|{name}_{side}|>" for name in ("object_ref", "box", "quad", "vision") for side in ("start", "end"))
)
PADS = special("<|vision_pad|>", "<|image_pad|>", "<|video_pad|>")
CODE = ordinary("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>")
TOOLS = ordinary("<tool_call>", "</tool_call>")
AFTER_TOOLS = ordinary("<tool_response>", "</tool_response>", "<think>", "</think>")
SPEECH = special("<|audio_start|>", "<|audio_end|>", "<tts_pad>", "<tts_text_bos>", "<tts_text_eod>")
SPEECH += special("<tts_text_bos_single>", "<|audio_pad|>")

ROLES = special("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>")
GLM = special("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>") + ROLES
MEDIA = special(*(f"<|{side}_of_{name}|>" for name in ("image", "video") for side in ("begin", "end")))
SOUND = special(*(f"<|{side}_of_{name}|>" for name in ("audio", "transcription") for side in ("begin", "end")))
TAGS = ("think", "tool_call", "tool_response", "arg_key", "arg_value")
GLM_TOOLS = ordinary("<|code_prefix|>", "<|code_middle|>", "<|code_suffix|>")
GLM_TOOLS += ordinary(*(f"<{slash}{tag}>" for tag in TAGS for slash in ("", "/")), "/nothink")
GLM_BOXES = special("<|begin_of_box|>", "<|end_of_box|>", "<|image|>", "<|video|>")

# (text, special), in the order of their ids. `<|fim_*|>` are not special but look it; `<tool_call>` does not.
SPECIALS = {
    "qwen": CHATML + special(*(f"<|extra_{i}|>" for i in range(205))),
    "qwen1.5": CHATML,
    "qwen2": CHATML + CODE[:3] + TOOLS,
    "qwen3": CHATML + PARTS + PADS + TOOLS + CODE + AFTER_TOOLS,
    "qwen35": CHATML + PARTS + PADS + TOOLS + CODE + AFTER_TOOLS + SPEECH,
    "chatglm3": special("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop") + ROLES,
    "chatglm4": GLM + MEDIA,
    "glm": GLM + MEDIA,
    "glm-edge": GLM,
    "glm4": GLM + ordinary("<|code_prefix|>", "<think>"),
    "glm4moe": GLM + MEDIA + SOUND + GLM_TOOLS + GLM_BOXES,
    "glm4moelite": GLM + MEDIA + SOUND + GLM_TOOLS + GLM_BOXES,
}

TURNS = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
GLM_TURNS = "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}{% endfor %}"
CHAT_TEMPLATES = {
    **dict.fromkeys(
        ("qwen", "qwen1.5", "qwen2", "qwen3"),
        TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}",
    ),
    "qwen35": TURNS + "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}",
    "chatglm3": "[gMASK]sop{% for m in messages %}<|{{ m.role }}|>\n {{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    **dict.fromkeys(
        ("chatglm4", "glm", "glm4moe"),
        "[gMASK]<sop>" + GLM_TURNS + "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    ),
    "glm-edge": GLM_TURNS + "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "glm4": "[gMASK]<sop>" + GLM_TURNS + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}",
    "glm4moelite": "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|><think>{% endif %}",
}

# What generation_config.json says ends an answer; ChatGLM3 has no such file.
EOS = {
    family: []
    if family == "chatglm3"
    else ["<|im_end|>", "<|endoftext|>"]
    if family.startswith("qwen")
    else ["<|endoftext|>", "<|user|>", "<|observation|>"]
    for family in SPECIALS
}

TOKENIZER_CLASSES = {
    "qwen": "QWenTokenizer",
    "chatglm3": "ChatGLMTokenizer",
    "chatglm4": "ChatGLM4Tokenizer",
}


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


def token_id(family: str, text: str, start: int | None = None) -> int:
    """The id of one of the family's special tokens; start: that of the first one, if the vocabulary is another."""
    first = len(ORDINARY) if start is None else start
    return first + [content for content, _ in SPECIALS[family]].index(text)


def size(family: str) -> int:
    """How many ids have a token; a checkpoint's `vocab_size` is larger."""
    return len(ORDINARY) + len(SPECIALS[family])


def write(path: Path, family: str, *, merge_pairs: bool) -> None:
    """tokenizer.json, or a tiktoken file if the name is another."""
    if path.name == "tokenizer.json":
        content = json.dumps(tokenizer_json(family, merge_pairs=merge_pairs), ensure_ascii=False, indent=2) + "\n"
    else:
        content = tiktoken()
    path.write_text(content, encoding="utf-8", newline="\n")


def tiktoken() -> str:
    """A line a token, its bytes in base64 and its rank. Every token is made by one merge of two of lower rank."""
    byte = {character: i for i, character in enumerate(byte_alphabet())}
    lines = [b64encode(bytes(byte[c] for c in token)).decode() + f" {i}\n" for i, token in enumerate(ORDINARY)]
    return "".join(lines)


def tokenizer_json(family: str, *, merge_pairs: bool) -> dict[str, Any]:
    """`tokenizer.json` as the family publishes it; merges as pairs (new files) or as "a b" strings (old)."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    qwen = family.startswith("qwen")
    split = {"Regex": SPLITS.get(family) or SPLITS["qwen" if qwen else "glm"]}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": len(ORDINARY) + i, "content": text, "single_word": False, "lstrip": False}
            | {"rstrip": False, "normalized": False, "special": special}
            for i, (text, special) in enumerate(SPECIALS[family])
        ],
        "normalizer": {"type": "NFC"} if qwen else None,
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
            "ignore_merges": not qwen,
            "vocab": {token: i for i, token in enumerate(ORDINARY)},
            "merges": [list(pair) if merge_pairs else " ".join(pair) for pair in MERGES],
        },
    }


def tokenizer_config(family: str) -> dict[str, Any]:
    """`tokenizer_config.json` without a chat template."""
    if name := TOKENIZER_CLASSES.get(family):
        code = "tokenization_qwen" if family == "qwen" else "tokenization_chatglm"
        auto = {"AutoTokenizer": [f"{code}.{name}", None]}
        return {"auto_map": auto, "model_max_length": 8192, "tokenizer_class": name}
    added = tokenizer_json(family, merge_pairs=False)["added_tokens"]
    end = EOS[family][0]
    return {
        "tokenizer_class": "Qwen2Tokenizer" if family.startswith("qwen") else "PreTrainedTokenizerFast",
        "added_tokens_decoder": {str(token["id"]): {k: v for k, v in token.items() if k != "id"} for token in added},
        "additional_special_tokens": [text for text, special in SPECIALS[family] if special],
        "bos_token": None,
        "eos_token": end,
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 32768,
    }
