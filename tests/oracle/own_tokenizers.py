"""Stand-ins for the tokenizers that a repository brings as Python code: what llama.cpp's converter asks of them.

Qwen-7B and ChatGLM3-6B have a vocabulary file and code; the code is not run here. What the converter reads of its
objects is built anew on tiktoken and sentencepiece. glm-4-9b-chat needs a tokenizer.json for the converter.
"""

from __future__ import annotations

import base64
import json
import shutil
from pathlib import Path
from typing import Any

import tiktoken
from sentencepiece import SentencePieceProcessor

SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
GLM4_SPECIALS = [
    *("<|endoftext|>", "[MASK]", "[gMASK]", "[sMASK]", "<sop>", "<eop>"),
    *("<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"),
    *("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>"),
]


def stand_in(folder: Path) -> Any | None:
    """What ``AutoTokenizer.from_pretrained(folder, trust_remote_code=True)`` should answer; None: let it answer."""
    if (folder / "tokenizer.json").is_file():
        return None
    if (folder / "qwen.tiktoken").is_file():
        return Qwen(folder)
    if (folder / "tokenizer.model").is_file() and b"\0" in (folder / "tokenizer.model").read_bytes():
        return ChatGLM3(folder / "tokenizer.model")
    return None


class Qwen:
    """QWenTokenizer; the first revision's special tokens where the config has the first revision's words."""

    def __init__(self, folder: Path) -> None:
        lines = (folder / "qwen.tiktoken").read_bytes().split(b"\n")
        pairs = (line.split() for line in lines if line)
        self.mergeable_ranks = {base64.b64decode(token): int(rank) for token, rank in pairs}
        names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
        if "n_embd" in json.loads((folder / "config.json").read_text(encoding="utf-8")):
            names += ["<R>", "<S>", "<X>", "<mask>", "<sep>", *(f"<extra_{i}>" for i in range(200))]
        else:
            names += [f"<|extra_{i}|>" for i in range(205)]
        self.special_tokens = {name: len(self.mergeable_ranks) + i for i, name in enumerate(names)}
        self._encoding = tiktoken.Encoding(
            "Qwen", pat_str=SPLIT, mergeable_ranks=self.mergeable_ranks, special_tokens=self.special_tokens
        )

    def get_vocab(self) -> dict[Any, int]:
        return {**self.mergeable_ranks, **self.special_tokens}

    def encode(self, text: str) -> list[int]:
        return self._encoding.encode(text, allowed_special="all")


class ChatGLM3:
    """ChatGLMTokenizer, whose ``tokenizer`` is an SPTokenizer, whose ``sp_model`` is SentencePiece's own."""

    def __init__(self, path: Path) -> None:
        self.tokenizer = self
        self.sp_model = SentencePieceProcessor(model_file=str(path))
        names = ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"]
        names += ["<|system|>", "<|user|>", "<|assistant|>", "<|observation|>"]
        self._names = dict(enumerate(names, self.sp_model.vocab_size()))

    def get_vocab(self) -> dict[str, int]:
        return {self._convert_id_to_token(id): id for id in range(max(self._names) + 1)}

    def _convert_id_to_token(self, id: int) -> str:
        if id in self._names:
            return self._names[id]
        return self.sp_model.IdToPiece(id) if 2 < id < self.sp_model.vocab_size() else ""


def with_tokenizer_json(checkpoint: Path, copy: Path) -> Path:
    """A copy of a glm-4-9b-chat folder with the tokenizer.json that transformers makes of its tokenizer.model."""
    from transformers.convert_slow_tokenizer import TikTokenConverter

    shutil.copytree(checkpoint, copy)
    made = TikTokenConverter(str(copy / "tokenizer.model"), extra_special_tokens=GLM4_SPECIALS).converted()
    (copy / "tokenizer.model").unlink()
    made.save(str(copy / "tokenizer.json"))
    path = copy / "tokenizer_config.json"
    settings = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    settings = {key: value for key, value in settings.items() if key != "auto_map"}  # no code is run
    settings |= {"tokenizer_class": "PreTrainedTokenizerFast"}
    path.write_text(json.dumps(settings, ensure_ascii=False), encoding="utf-8")
    return copy
