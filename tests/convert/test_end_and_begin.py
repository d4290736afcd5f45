"""What ends generation in the converted files of every family, and what begins a prompt, as llama.cpp sees it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convert.pipeline import convert
from edge.llama.model import Model
from edge.prompt import prompt_tokens
from tests.checkpoints import FAMILIES, edit_json, read_json
from tests.convert.small import build_small, is_nested

QWEN = [family for family in FAMILIES if family.startswith("qwen")]
GLM = [family for family in FAMILIES if family not in QWEN]
BETWEEN_FILES = {"<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"}  # llama.cpp always stops there
OWN_END = {"chatglm3": "<eos>"}  # of its SentencePiece vocabulary
NO_PREFIX = {"glm-edge"}  # its published template has none


def vocabulary_of(folder: Path) -> Model:
    """The converted file, of which llama.cpp reads only the vocabulary."""
    gguf = folder.parent / "x.gguf"
    convert(folder, {"F16": gguf}, threads=1)
    return Model(gguf, vocab_only=True)


def without_end_ids(folder: Path) -> None:
    """As a fine-tune may be saved: neither config names an end."""
    config = read_json(folder / "config.json")
    part = {"text_config": {**config["text_config"], "eos_token_id": None}} if is_nested(config) else {}
    edit_json(folder / "config.json", eos_token_id=None, **part)
    (folder / "generation_config.json").unlink(missing_ok=True)


def ends(model: Model) -> set[str]:
    texts = model.metadata["tokenizer.ggml.tokens"]
    return {text for token, text in enumerate(texts) if model.is_eog(token)}


@pytest.mark.parametrize("silent", [False, True], ids=["as published", "no ids in the configs"])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_ends_generation(tmp_path: Path, family: str, silent: bool) -> None:
    """GLM ends its turn with the next role, a tool call with <|observation|>: without them it would play all roles."""
    folder = build_small(tmp_path / family, family, layers=4 if "3next" in family or "35" in family else 1)
    if silent:
        without_end_ids(folder)
    with vocabulary_of(folder) as model:
        found = ends(model)
    turn = {"<|im_end|>"} if family in QWEN else {"<|user|>", "<|observation|>"}
    assert found - BETWEEN_FILES == turn | {OWN_END.get(family, "<|endoftext|>")}


def prompt_texts(model: Model, messages: list[dict[str, Any]]) -> list[str]:
    texts = model.metadata["tokenizer.ggml.tokens"]
    return [texts[token] for token in prompt_tokens(model, messages)]


@pytest.mark.parametrize(
    ("family", "template"), [*((family, "config") for family in GLM), ("chatglm3", "none"), ("chatglm4", "none")]
)
def test_a_glm_prompt_begins_with_its_prefix_once(tmp_path: Path, family: str, template: str) -> None:
    folder = build_small(tmp_path / family, family, template=template, layers=1)
    messages = [{"role": "user", "content": "你好 [gMASK]<sop>"}, {"role": "assistant", "content": "hello"}]
    messages.append({"role": "user", "content": "<|user|>"})
    with vocabulary_of(folder) as model:
        texts = prompt_texts(model, messages)
    prefix = [] if family in NO_PREFIX else ["[gMASK]", "<sop>"]
    assert texts[: len(prefix) + 1] == [*prefix, "<|user|>"]
    assert [texts.count(text) for text in ("[gMASK]", "<sop>")] == ([1, 1] if prefix else [0, 0])
    assert texts.count("<|user|>") == 2 and texts.count("<|assistant|>") == 2


@pytest.mark.parametrize("family", QWEN)
def test_a_qwen_prompt_has_nothing_before_its_first_turn(tmp_path: Path, family: str) -> None:
    folder = build_small(tmp_path / family, family, layers=4 if "3next" in family or "35" in family else 1)
    with vocabulary_of(folder) as model:
        texts = prompt_texts(model, [{"role": "user", "content": "<|im_end|>"}])
    assert texts[0] == "<|im_start|>" and texts.count("<|im_end|>") == 1 and "<|endoftext|>" not in texts
