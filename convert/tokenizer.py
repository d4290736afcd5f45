"""Tokenizer files -> GGUF tokenizer keys: finds which kind of file there is, and adds what the configs say."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convert.bpe_json import added_tokens, read_bpe_json
from convert.chat_template import template_metadata
from convert.checkpoint import Checkpoint, refuse_lfs_pointer
from convert.errors import CheckpointError
from convert.metadata import KV
from convert.own_templates import OwnTemplate, chatglm3_template, glm4_template, qwen_template
from convert.sentencepiece_file import read_chatglm3
from convert.special_tokens import added_flags, end_ids, mark_other_ends, special_ids, special_metadata
from convert.tiktoken_file import FIRST_QWEN_SPECIALS, QWEN_SPECIALS, is_tiktoken, read_glm4, read_qwen
from convert.vocabulary import Vocabulary, vocabulary_metadata

MAX_VOCABULARY = 64_000_000  # bytes; the largest real qwen.tiktoken or tokenizer.model has 3 MB


def tokenizer_metadata(checkpoint: Checkpoint, vocab_size: int, fallback: Mapping[str, str]) -> list[KV]:
    """All ``tokenizer.*`` keys, in the order llama.cpp's converter writes them.

    ``fallback`` gives the texts of special tokens that the files may leave unset, by kind.
    Raises CheckpointError or UnsupportedError naming the file and what is wrong with it.
    """
    config = checkpoint.json("tokenizer_config.json")
    vocabulary, own = read_vocabulary(checkpoint, config, vocab_size)
    flags = added_flags(checkpoint.json("tokenizer.json").get("post_processor"), config)
    special = special_ids(vocabulary.special, config, checkpoint.config, vocab_size)
    for kind, text in fallback.items():
        if kind not in special and text in vocabulary.special:
            special[kind] = vocabulary.special[text]
    mark_other_ends(special, end_ids(checkpoint), vocabulary.texts)
    return [
        *vocabulary_metadata(vocabulary),
        *special_metadata(special),
        *flags,
        *template_metadata(checkpoint, config, own),
    ]


def read_vocabulary(
    checkpoint: Checkpoint, config: Mapping[str, Any], size: int
) -> tuple[Vocabulary, OwnTemplate | None]:
    """The vocabulary, and the template for a checkpoint that leaves it to the code of its tokenizer.

    Told by what is in a file: a ``tokenizer.model`` may be of two kinds.
    """
    folder = checkpoint.folder
    if (folder / "tokenizer.json").is_file():
        return read_bpe_json(checkpoint.json("tokenizer.json"), config, size), None
    if (path := folder / "qwen.tiktoken").is_file():
        specials = FIRST_QWEN_SPECIALS if "n_embd" in checkpoint.config else QWEN_SPECIALS  # the first config's words
        generation = checkpoint.json("generation_config.json")
        return read_qwen(read_bytes(path), specials, size, path.name), qwen_template(generation)
    if (path := folder / "tokenizer.model").is_file():
        data = read_bytes(path)
        if is_tiktoken(data):
            added = added_tokens([], config)
            return read_glm4(data, added, size, path.name), glm4_template(checkpoint.config)
        return read_chatglm3(data, size, path.name), chatglm3_template(checkpoint.config)
    raise CheckpointError(
        "the checkpoint has no tokenizer.json, qwen.tiktoken or tokenizer.model",
        "fetch it; the weights alone cannot be used",
    )


def read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_VOCABULARY:
            raise CheckpointError(
                f"{path.name} is larger than {MAX_VOCABULARY // 10**6} MB", "it cannot be a vocabulary"
            )
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    refuse_lfs_pointer(path.name, data)
    return data
