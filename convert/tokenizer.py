"""Tokenizer files -> GGUF tokenizer keys: finds which kind of file there is, and adds what the configs say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from convert.bpe_json import added_tokens, read_bpe_json
from convert.chat_template import stored_templates, template_metadata
from convert.checkpoint import Checkpoint, refuse_lfs_pointer
from convert.errors import CheckpointError, UnsupportedError
from convert.metadata import KV
from convert.own_templates import OwnTemplate, chatglm3_template, glm4_template, qwen_template
from convert.sentencepiece_file import read_chatglm3
from convert.special_tokens import (
    Fallback,
    add_fallback,
    added_flags,
    end_ids,
    mark_other_ends,
    special_ids,
    special_metadata,
)
from convert.tiktoken_file import FIRST_QWEN_SPECIALS, QWEN_SPECIALS, is_tiktoken, read_glm4, read_qwen
from convert.vocabulary import Vocabulary, vocabulary_metadata

MAX_VOCABULARY = 16_000_000  # bytes; the largest real qwen.tiktoken or tokenizer.model has 3 MB
OLDER_CHATGLM = re.compile("chatglm2|codegeex2", re.IGNORECASE)

FileKind = Literal["tokenizer.json", "qwen", "glm-4", "chatglm3"]


def tokenizer_metadata(checkpoint: Checkpoint, vocab_size: int, fallback: Fallback) -> list[KV]:
    """All ``tokenizer.*`` keys, in the order llama.cpp's converter writes them.

    ``fallback`` gives the texts of special tokens that the files may leave unset, by kind; of several the first
    that the vocabulary has. Raises CheckpointError or UnsupportedError naming the file and what is wrong with it.
    """
    config = checkpoint.json("tokenizer_config.json")
    files = checkpoint.json("tokenizer.json")
    vocabulary = read_vocabulary(checkpoint, files, config, vocab_size)
    flags, bos = added_flags(files.get("post_processor"), config)
    special = special_ids(vocabulary.special, {**config, "bos_token": bos}, checkpoint.config, vocab_size)
    ends = end_ids(checkpoint)
    add_fallback(special, fallback, vocabulary.special, ends)
    mark_other_ends(special, ends, vocabulary.texts)
    if vocabulary.model == "gpt2" and "eos" not in special:  # llama.cpp would take token 11, an ordinary one
        raise CheckpointError(
            "no file tells which token ends an answer",
            "tokenizer_config.json should have an eos_token, or generation_config.json an eos_token_id",
        )
    return [
        *vocabulary_metadata(vocabulary),
        *special_metadata(special),
        *flags,
        *template_metadata(checkpoint, config, own_template(checkpoint)),
    ]


def template_note(checkpoint: Checkpoint) -> str | None:
    """What a person should know about the chat template: that one was added here, or why none was.

    None for a checkpoint that holds its template, and for one whose kind of tokenizer always does.
    """
    own = own_template(checkpoint)
    if own is None or stored_templates(checkpoint, checkpoint.json("tokenizer_config.json")):
        return None
    return own.note


def file_kind(checkpoint: Checkpoint) -> FileKind:
    """Told by what is in a file: a ``tokenizer.model`` may be of two kinds. Raises CheckpointError if there is none."""
    folder = checkpoint.folder
    if (folder / "tokenizer.json").is_file():
        return "tokenizer.json"
    if (folder / "qwen.tiktoken").is_file():
        return "qwen"
    if (path := folder / "tokenizer.model").is_file():
        return "glm-4" if is_tiktoken(read_bytes(path)) else "chatglm3"
    raise CheckpointError(
        "the checkpoint has no tokenizer.json, qwen.tiktoken or tokenizer.model",
        "fetch it; the weights alone cannot be used",
    )


def read_vocabulary(
    checkpoint: Checkpoint, files: Mapping[str, Any], config: Mapping[str, Any], size: int
) -> Vocabulary:
    """The vocabulary of ``size`` ids; ``files`` is what tokenizer.json holds, ``config`` tokenizer_config.json."""
    kind = file_kind(checkpoint)
    if kind == "tokenizer.json":
        return read_bpe_json(files, config, size)
    path = checkpoint.folder / ("qwen.tiktoken" if kind == "qwen" else "tokenizer.model")
    data = read_bytes(path)
    if kind == "qwen":
        specials = FIRST_QWEN_SPECIALS if "n_embd" in checkpoint.config else QWEN_SPECIALS  # the first config's words
        return read_qwen(data, specials, size, path.name)
    added = added_tokens([], config)
    if kind == "glm-4":
        return read_glm4(data, added, size, path.name)
    refuse_older_chatglm(checkpoint, config)
    return read_chatglm3(data, added, size, path.name)


def own_template(checkpoint: Checkpoint) -> OwnTemplate | None:
    """For a checkpoint that leaves its template to the code of its tokenizer."""
    kind = file_kind(checkpoint)
    if kind == "tokenizer.json":
        return None
    if kind == "qwen":
        return qwen_template(checkpoint.json("generation_config.json"))
    return glm4_template(checkpoint.config) if kind == "glm-4" else chatglm3_template(checkpoint.config)


def refuse_older_chatglm(checkpoint: Checkpoint, config: Mapping[str, Any]) -> None:
    """ChatGLM2 and CodeGeeX2 have the very vocabulary file of ChatGLM3, but know no tokens for roles.

    The repository's own code tells, where it is there (read as text, never run): only ChatGLM3's names the roles.
    Without it there are but the names in the configs.
    """
    code = checkpoint.folder / "tokenization_chatglm.py"
    if code.is_file():
        older = b"<|user|>" not in read_bytes(code)
    else:
        names = [checkpoint.config.get(key) for key in ("_name_or_path", "model_type", "auto_map")]
        older = OLDER_CHATGLM.search(f"{names} {config.get('name_or_path')} {config.get('auto_map')}") is not None
    if older:
        raise UnsupportedError(
            "this is ChatGLM2 or CodeGeeX2, which have no tokens for the roles of a chat", "ChatGLM3 can be converted"
        )


def read_bytes(path: Path) -> bytes:
    try:
        if path.stat().st_size > MAX_VOCABULARY:
            raise CheckpointError(
                f"{path.name} is larger than {MAX_VOCABULARY // 10**6} MB", "it cannot be what its name says"
            )
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror or error}") from error
    refuse_lfs_pointer(path.name, data)
    return data
