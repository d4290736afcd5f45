"""The chat template: which file it comes from, and what stands in where only code had one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convert.checkpoint import open_checkpoint
from convert.errors import CheckpointError
from convert.tokenizer import template_note
from tests.checkpoints import build, edit_json
from tests.convert.test_tokenizer import keys_of
from tests.tokenizer_files import KINDS, Kind


@pytest.fixture
def qwen(tmp_path: Path) -> Path:
    return build(tmp_path / "qwen", layers=1)


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


@pytest.mark.parametrize(
    ("name", "config", "generation", "has_one"),
    [
        ("qwen", {}, {"chat_format": "chatml"}, True),
        ("qwen", {}, {"chat_format": "raw"}, False),
        ("qwen", {}, {}, False),
        ("glm-4", {}, {}, True),
        ("glm-4", {"_name_or_path": "THUDM/glm-4-9b-chat"}, {}, True),
        ("glm-4", {"_name_or_path": "THUDM/glm-4-9b"}, {}, False),
        ("chatglm3", {"_name_or_path": "THUDM/chatglm3-6b"}, {}, True),
        ("chatglm3", {"_name_or_path": "zai-org/chatglm3-6b-base"}, {}, False),
        ("chatglm3", {"_name_or_path": "D:\\models\\chatglm3-6b-base"}, {}, True),
        ("glm-4", {"_name_or_path": "glm-4-9b"}, {}, False),
        ("glm-4", {"_name_or_path": "/data/models/glm-4-9b"}, {}, True),
        ("glm-4", {"_name_or_path": "someone/glm-4-9b"}, {}, True),
        ("glm-4", {"_name_or_path": ["THUDM/glm-4-9b"]}, {}, True),
    ],
)
def test_a_template_where_only_code_had_one(
    name: str, config: dict[str, Any], generation: dict[str, Any], has_one: bool, tmp_path: Path
) -> None:
    kind = Kind(config, {**KINDS[name].files, "generation_config__json": generation}, KINDS[name].fallback)
    assert ("tokenizer.chat_template" in kind.metadata(tmp_path)) == has_one


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("[gMASK]<sop>{{ x }}", "[gMASK]<sop>{{ x }}"),
        ("{{ '[gMASK]sop' }}{{ x }}", "{{ '[gMASK]<sop>' }}{{ x }}"),
        ("{%- if x %}{{ x }}{% endif %}", "[gMASK]<sop>{%- if x %}{{ x }}{% endif %}"),
    ],
)
@pytest.mark.parametrize("name", ["glm-4", "chatglm3"])
def test_a_template_begins_with_the_prefix_once(name: str, theirs: str, ours: str, tmp_path: Path) -> None:
    """The published tokenizers put [gMASK]<sop> before every prompt; llama.cpp does not."""
    files = {**KINDS[name].files, "tokenizer_config__json": {"chat_template": theirs}}
    assert Kind({}, files, KINDS[name].fallback).metadata(tmp_path)["tokenizer.chat_template"] == ours


@pytest.mark.parametrize("entry", ["of the config", None, [{"name": "default", "template": "listed"}]])
def test_a_template_file_goes_before_the_config(entry: Any, qwen: Path) -> None:
    """transformers reads chat_template.jinja first; here the config's entry won, and a null there lost the file."""
    edit_json(qwen / "tokenizer_config.json", chat_template=entry)
    (qwen / "chat_template.json").write_text('{"chat_template": "older"}', encoding="utf-8")
    without = keys_of(qwen)["chat_template"]
    assert without == {str: entry, type(None): "older", list: "listed"}[type(entry)]
    (qwen / "chat_template.jinja").write_text("of the file", encoding="utf-8")
    assert keys_of(qwen)["chat_template"] == "of the file"
    (qwen / "additional_chat_templates").mkdir()
    (qwen / "additional_chat_templates" / "tool_use.jinja").write_text("tools", encoding="utf-8")
    found = keys_of(qwen)
    assert (found["chat_template"], found["chat_template.tool_use"]) == ("of the file", "tools")
    assert found["chat_templates"] == ["tool_use"]


@pytest.mark.parametrize("entry", [["x"], {"a": 1}, 5, [{"name": 1, "template": "x"}], [{"name": "default"}]])
def test_a_template_of_another_form_is_named_by_its_file(entry: Any, qwen: Path) -> None:
    """The message spoke of a template 'None' of no sane length."""
    edit_json(qwen / "tokenizer_config.json", chat_template=entry)
    with pytest.raises(CheckpointError, match=r"tokenizer_config\.json: the chat template is neither text nor a list"):
        keys_of(qwen)


def test_a_template_without_end(qwen: Path) -> None:
    (qwen / "chat_template.jinja").write_text("x" * 1_000_001, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja: a chat template of 1000001 characters"):
        keys_of(qwen)
    (qwen / "chat_template.jinja").write_text("x" * 4_000_001, encoding="utf-8")
    with pytest.raises(CheckpointError, match=r"chat_template\.jinja has 4000001 bytes"):
        keys_of(qwen)


@pytest.mark.parametrize(
    ("name", "config", "says"),
    [
        ("glm-4", {}, "that of glm-4-9b-chat was added"),
        ("glm-4", {"_name_or_path": "THUDM/glm-4-9b"}, "none was added: config.json calls it 'THUDM/glm-4-9b'"),
        ("chatglm3", {}, "that of ChatGLM3 was added"),
        ("qwen", {}, "ChatML, which generation_config.json names, was added"),
    ],
)
def test_a_guess_about_the_template_is_told(name: str, config: dict[str, Any], says: str, tmp_path: Path) -> None:
    """Base or chat is guessed from a name that fine-tunes keep; nobody was told which it was."""
    checkpoint = KINDS[name].checkpoint(tmp_path, **config)
    assert says in (template_note(checkpoint) or "")
    (tmp_path / "chat_template.jinja").write_text("theirs", encoding="utf-8")
    assert template_note(checkpoint) is None


def test_nothing_to_tell_of_a_template_beside_a_tokenizer_json(tmp_path: Path) -> None:
    with open_checkpoint(build(tmp_path, layers=1, template="none")) as checkpoint:
        assert template_note(checkpoint) is None
