"""Our vocabularies against llama.cpp's set_vocab, transformers' TikTokenConverter, and Qwen2's published merges."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer

from convert import gguf_file
from convert.tiktoken_file import QWEN_SPECIALS, read_qwen
from convert.vocabulary import byte_alphabet
from tests.oracle.own_tokenizers import with_tokenizer_json
from tests.oracle.source import llama_cpp_source
from tests.tokenizer_files import KINDS, Kind

SIZE = 1200
# What the converter lacks, and the two bare words that llama.cpp would find in users' text.
ADDED = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id", "tokenizer.chat_template"}
RENAMED = {"sop": "<sop>", "eop": "<eop>"}


def upstream(folder: Path, module: str, name: str, method: str) -> list[tuple[str, Any]]:
    """(key, value) as llama.cpp's converter writes them."""
    script = Path(__file__).with_name("upstream_vocab.py")
    command = [sys.executable, str(script), str(llama_cpp_source()), str(folder), module, name, method]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    names = {"add_tokenizer_model": "model", "add_tokenizer_pre": "pre", "add_token_list": "tokens"}
    names |= {"add_token_scores": "scores", "add_token_types": "token_type", "add_token_merges": "merges"}
    names |= {"add_unk_token_id": "unknown_token_id", "add_pad_token_id": "padding_token_id"}
    found = json.loads(done.stdout.splitlines()[-1])
    return [(f"tokenizer.ggml.{names.get(key, key.removeprefix('add_'))}", value) for key, value in found]


@pytest.mark.parametrize("config", [{}, {"n_embd": 64}, {"eos_token_id": 3, "bos_token_id": 4}])
def test_qwen1(config: dict[str, Any], tmp_path: Path) -> None:
    kind = Kind(config, {**KINDS["qwen"].files, "generation_config__json": {}}, KINDS["qwen"].fallback)
    ours = kind.metadata(tmp_path, vocab_size=SIZE)
    theirs = upstream(tmp_path, "qwen", "QwenModel", "_set_vocab_qwen")
    assert sorted(theirs) == sorted(ours.items()) and [key for key, _ in theirs] == list(ours)


def test_chatglm3(tmp_path: Path) -> None:
    ours = KINDS["chatglm3"].metadata(tmp_path, padded_vocab_size=SIZE)
    theirs = dict(upstream(tmp_path, "chatglm", "ChatGLMModel", "set_vocab_chatglm3"))
    theirs["tokenizer.ggml.tokens"] = [RENAMED.get(text, text) for text in theirs["tokenizer.ggml.tokens"]]
    assert ours["tokenizer.ggml.scores"] == pytest.approx(theirs.pop("tokenizer.ggml.scores"), abs=0)
    assert theirs == {k: v for k, v in ours.items() if k not in ADDED and not k.endswith("scores")}
    assert [key for key in ours if key in theirs] == list(theirs)


def test_glm4_as_transformers_converts_it(tmp_path: Path) -> None:
    kind = KINDS["glm-4"]
    ours = kind.metadata(tmp_path / "a")
    (tmp_path / "a" / "tokenizer_config.json").write_text("{}", encoding="utf-8")
    copy = with_tokenizer_json(tmp_path / "a", tmp_path / "b")
    made = json.loads(Tokenizer.from_file(str(copy / "tokenizer.json")).to_str())
    files = {name: value for name, value in kind.files.items() if name != "tokenizer__model"}
    theirs = Kind({}, {**files, "tokenizer__json": made}, kind.fallback).metadata(tmp_path / "c")
    without = {"tokenizer.chat_template", "tokenizer.ggml.add_bos_token", "tokenizer.ggml.add_eos_token"}
    assert {k: v for k, v in ours.items() if k not in without} == {k: v for k, v in theirs.items() if k not in without}


def test_merges_of_the_real_vocabulary() -> None:
    """Qwen2's tokens are those of qwen.tiktoken; its merges were published, ours are found from the ranks alone."""
    path = llama_cpp_source() / "models" / "ggml-vocab-qwen2.gguf"
    published = gguf_file.read(path).metadata
    byte = {char: i for i, char in enumerate(byte_alphabet())}
    tokens = [bytes(byte[char] for char in text) for text in published["tokenizer.ggml.tokens"][:151643]]
    file = b"\n".join(base64.b64encode(token) + b" %d" % rank for rank, token in enumerate(tokens))
    found = read_qwen(file, QWEN_SPECIALS, 151936, "qwen.tiktoken")
    assert found.merges == published["tokenizer.ggml.merges"]
    assert found.texts[:151646] == published["tokenizer.ggml.tokens"][:151646]
