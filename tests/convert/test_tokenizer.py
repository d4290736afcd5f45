"""Tokenizer files to GGUF keys: what must be refused, and what the keys must say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convert.architectures import REGISTRY
from convert.checkpoint import open_checkpoint
from convert.errors import CheckpointError, EdgeError, UnsupportedError
from convert.tokenizer import tokenizer_metadata
from tests.checkpoints import build, edit_json, read_json, write_json


def keys_of(folder: Path) -> dict[str, Any]:
    with open_checkpoint(folder) as checkpoint:
        architecture = REGISTRY[checkpoint.config["architectures"][0]]
        found = tokenizer_metadata(checkpoint, checkpoint.config["vocab_size"], architecture.special_tokens)
    return {kv.key.removeprefix("tokenizer."): kv.value for kv in found}


def edit_tokenizer(folder: Path, change: Any) -> None:
    content = read_json(folder / "tokenizer.json")
    change(content)
    write_json(folder / "tokenizer.json", content)


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    return build(tmp_path / "qwen", layers=1)


@pytest.fixture
def glm(tmp_path: Path) -> Path:
    return build(tmp_path / "glm", family="glm4", layers=1)


def test_gap_in_the_vocabulary_becomes_unused_tokens(qwen: Path) -> None:
    found = keys_of(qwen)
    assert found["ggml.tokens"][-1] == f"[PAD{len(found['ggml.tokens']) - 1}]"
    assert found["ggml.token_type"][-1] == 5


def test_merges_as_lines_and_as_pairs_are_the_same(tmp_path: Path) -> None:
    lines = keys_of(build(tmp_path / "lines", layers=1, merge_pairs=False))
    pairs = keys_of(build(tmp_path / "pairs", layers=1, merge_pairs=True))
    assert lines == pairs


def test_unknown_pre_tokenizer_names_the_nearest_and_the_difference(qwen: Path) -> None:
    """A fine-tune with another regex must not silently get Qwen's: it would read text differently."""

    def change(content: Any) -> None:
        pattern = content["pre_tokenizer"]["pretokenizers"][0]["pattern"]
        pattern["Regex"] = pattern["Regex"].replace(r"|\p{N}|", r"|\p{N}{1,2}|")

    edit_tokenizer(qwen, change)
    with pytest.raises(UnsupportedError, match=r"nearest is (qwen2|glm4).*differs in .*\{1,2|nearest is .*2"):
        keys_of(qwen)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c["pre_tokenizer"].update(type="Sequence", pretokenizers=[{"type": "Whitespace"}]),
        lambda c: c.update(pre_tokenizer=None),
        lambda c: c["pre_tokenizer"]["pretokenizers"][1].update(add_prefix_space=True),
        lambda c: c["pre_tokenizer"]["pretokenizers"][0].update(behavior="Removed"),
        lambda c: c.update(normalizer={"type": "Lowercase"}),
        lambda c: c["model"].update(type="Unigram"),
        lambda c: c["model"].update(vocab=[]),
        lambda c: c["model"].update(merges=["a"]),
        lambda c: c["model"].update(merges=[]),
        lambda c: c["model"]["vocab"].update(extra=10**9),
        lambda c: c["model"]["vocab"].update(extra=-1),
        lambda c: c["model"]["vocab"].update(extra="1"),
        lambda c: c["model"]["vocab"].update(extra=0),
        lambda c: c["added_tokens"].append({"id": 0, "content": "other"}),
        lambda c: c["added_tokens"].append({"id": None, "content": "x"}),
        lambda c: c.update(post_processor={"type": "RobertaProcessing"}),
    ],
)
def test_what_llama_cpp_cannot_do_or_the_files_get_wrong_is_refused(qwen: Path, change: Any) -> None:
    edit_tokenizer(qwen, change)
    with pytest.raises(EdgeError) as caught:
        keys_of(qwen)
    assert "\n" not in str(caught.value)


def test_missing_tokenizer(qwen: Path) -> None:
    (qwen / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json"):
        keys_of(qwen)


def test_vocabulary_smaller_than_the_tokenizer(qwen: Path) -> None:
    edit_json(qwen / "config.json", vocab_size=100)
    with pytest.raises(CheckpointError, match="vocab_size = 100"):
        keys_of(qwen)


def test_fim_tokens_are_control_though_not_marked_special(qwen: Path) -> None:
    """Qwen2.5-Coder marks <|fim_prefix|> special: false; as ordinary text it would be printed."""
    found = keys_of(qwen)
    texts, types = found["ggml.tokens"], found["ggml.token_type"]
    unmarked = [t for t in read_json(qwen / "tokenizer.json")["added_tokens"] if not t["special"]]
    kinds = {t["content"]: types[texts.index(t["content"])] for t in unmarked}
    assert any(text.startswith("<|") for text in kinds) and any(not text.startswith("<|") for text in kinds)
    assert all(kind == (3 if text.startswith("<|") else 4) for text, kind in kinds.items())


def test_every_glm_end_token_is_marked(glm: Path) -> None:
    """llama.cpp's converter leaves <|observation|> unmarked: a tool call ran on to the length limit."""
    found = keys_of(glm)
    texts = found["ggml.tokens"]
    marked = {texts[found[f"ggml.{kind}_token_id"]] for kind in ("eos", "eot", "eom")}
    assert marked == {"<|endoftext|>", "<|user|>", "<|observation|>"}


def test_end_tokens_only_generation_config_names_are_marked(glm: Path) -> None:
    edit_json(glm / "config.json", eos_token_id=None)
    assert keys_of(glm)["ggml.eom_token_id"] == keys_of(glm)["ggml.tokens"].index("<|observation|>")


def test_more_end_tokens_than_gguf_can_mark(glm: Path) -> None:
    edit_json(glm / "generation_config.json", eos_token_id=[0, 1, 2, 3])
    with pytest.raises(UnsupportedError, match="should end generation too"):
        keys_of(glm)


def test_end_token_outside_the_vocabulary(qwen: Path) -> None:
    edit_json(qwen / "generation_config.json", eos_token_id=[10**6])
    with pytest.raises(CheckpointError, match="outside the vocabulary"):
        keys_of(qwen)


def test_template_from_config_file_or_list(tmp_path: Path) -> None:
    template = keys_of(build(tmp_path / "a", layers=1))["chat_template"]
    assert keys_of(build(tmp_path / "b", layers=1, template="file"))["chat_template"] == template
    named = keys_of(build(tmp_path / "c", layers=1, template="named"))
    assert named["chat_template"] == template and named["chat_templates"] == ["tool_use"]
    assert "chat_template" not in keys_of(build(tmp_path / "d", layers=1, template="none"))


def test_template_that_is_no_text(qwen: Path) -> None:
    edit_json(qwen / "tokenizer_config.json", chat_template={"a": 1})
    with pytest.raises(CheckpointError, match="chat template"):
        keys_of(qwen)


def test_r1_distill_is_told_from_qwen2_by_its_token(qwen: Path) -> None:
    """DeepSeek-R1-Distill-Qwen has Qwen's regex but another name in llama.cpp."""

    def change(content: Any) -> None:
        gap = max(token["id"] for token in content["added_tokens"]) + 1
        content["added_tokens"].append({"id": gap, "content": "<｜begin▁of▁sentence｜>", "special": True})

    assert keys_of(qwen)["ggml.pre"] == "qwen2"
    edit_tokenizer(qwen, change)
    assert keys_of(qwen)["ggml.pre"] == "deepseek-r1-qwen"
