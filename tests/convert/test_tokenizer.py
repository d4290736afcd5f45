"""Tokenizer files to GGUF keys: what must be refused, and what the keys must say."""

from __future__ import annotations

import functools
import json
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convert.architectures import REGISTRY
from convert.checkpoint import Checkpoint, open_checkpoint
from convert.errors import CheckpointError, EdgeError, UnsupportedError
from convert.special_tokens import added_flags
from convert.tokenizer import template_note, tokenizer_metadata
from convert.writer import header_bytes
from tests.checkpoints import build, edit_json, read_json, write_json
from tests.tokenizer_files import ENDS, KINDS, Kind, checkpoint, impure_tokens, pieces, tiktoken_file


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
        lambda c: c.update(normalizer=None),
        lambda c: c["model"].update(ignore_merges=True),
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
    with pytest.raises(CheckpointError, match=r"no tokenizer\.json, qwen\.tiktoken or tokenizer\.model"):
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


def test_qwen35_joins_combining_marks_to_words(qwen: Path) -> None:
    """Its regex is Qwen2's with \\p{M} in two places."""

    def change(content: Any) -> None:
        pattern = content["pre_tokenizer"]["pretokenizers"][0]["pattern"]
        pattern["Regex"] = pattern["Regex"].replace(r"\p{L}+", r"[\p{L}\p{M}]+").replace(r"\s\p{L}", r"\s\p{L}\p{M}")

    edit_tokenizer(qwen, change)
    assert keys_of(qwen)["ggml.pre"] == "qwen35"


def test_glms_two_kinds_are_told_apart_by_ignore_merges(glm: Path) -> None:
    """llama.cpp's glm4 looks for whole pieces first, its chatglm-bpe has the same regex and does not."""
    assert keys_of(glm)["ggml.pre"] == "glm4"
    edit_tokenizer(glm, lambda content: content["model"].update(ignore_merges=False))
    assert keys_of(glm)["ggml.pre"] == "chatglm-bpe"


def test_glm_is_not_normalized(glm: Path) -> None:
    edit_tokenizer(glm, lambda content: content.update(normalizer={"type": "NFC"}))
    with pytest.raises(UnsupportedError, match=r"normalizes text by 'NFC'.*glm4 only nothing"):
        keys_of(glm)


def test_ids_of_the_text_part_count(tmp_path: Path) -> None:
    """Qwen3.5 nests the settings of its text model; its only end token was lost."""
    config = {"text_config": {"bos_token_id": 7, "eos_token_id": 8}}
    found = KINDS["glm-4"].metadata(tmp_path / "a", **config)
    assert (found["tokenizer.ggml.bos_token_id"], found["tokenizer.ggml.eos_token_id"]) == (7, 8)
    found = KINDS["glm-4"].metadata(tmp_path / "b", bos_token_id=9, **config)
    assert found["tokenizer.ggml.bos_token_id"] == 9  # as llama.cpp's converter reads it


def test_the_list_of_ends_in_the_text_part_counts(tmp_path: Path) -> None:
    kind = Kind({}, KINDS["glm-4"].files, {})
    found = kind.metadata(tmp_path, text_config={"eos_token_id": [8, 9]})
    assert (found["tokenizer.ggml.eos_token_id"], found["tokenizer.ggml.eot_token_id"]) == (8, 9)


@pytest.mark.parametrize("name", ["glm-4", "chatglm3"])
def test_a_turn_ends_where_no_config_says_so(name: str, tmp_path: Path) -> None:
    """ChatGLM3's config names </s> only: answers ran on into a turn of the user's."""
    found = KINDS[name].metadata(tmp_path)
    for kind, text in ENDS.items():
        assert found["tokenizer.ggml.tokens"][found[f"tokenizer.ggml.{kind}_token_id"]] == text


def test_the_keys_of_chatglm3(tmp_path: Path) -> None:
    """In llama.cpp's order: scores between texts and types, no merges."""
    found = KINDS["chatglm3"].metadata(tmp_path)
    assert [key.removeprefix("tokenizer.") for key in found] == [
        *("ggml.model", "ggml.pre", "ggml.tokens", "ggml.scores", "ggml.token_type"),
        *("ggml.eos_token_id", "ggml.padding_token_id", "ggml.eot_token_id", "ggml.eom_token_id", "chat_template"),
    ]
    assert (found["tokenizer.ggml.eos_token_id"], found["tokenizer.ggml.padding_token_id"]) == (2, 0)


def test_the_special_tokens_of_qwen1(tmp_path: Path) -> None:
    """The final revision names none in config.json, the first one does."""
    found = KINDS["qwen"].metadata(tmp_path / "a")
    end = found["tokenizer.ggml.tokens"].index("<|endoftext|>")
    assert [found[f"tokenizer.ggml.{kind}_token_id"] for kind in ("bos", "eos", "unknown")] == [end] * 3
    assert not {"eot", "eom", "padding"} & {key.split(".")[-1].removesuffix("_token_id") for key in found}
    first = KINDS["qwen"].metadata(tmp_path / "b", n_embd=64, bos_token_id=end, eos_token_id=end)
    assert [first[f"tokenizer.ggml.{kind}_token_id"] for kind in ("bos", "eos", "unknown")] == [end] * 3


def test_the_words_that_stop_qwen1(tmp_path: Path) -> None:
    """Its generation_config.json lists sequences; one of a single token that llama.cpp would not stop at gets a key."""
    kind = KINDS["qwen"]
    end = kind.metadata(tmp_path / "a")["tokenizer.ggml.eos_token_id"]
    words = {"chat_format": "chatml", "stop_words_ids": [[end], [end + 2], [end + 1], [7, 8], "?"]}
    found = Kind({}, {**kind.files, "generation_config__json": words}, kind.fallback).metadata(tmp_path / "b")
    assert found["tokenizer.ggml.eot_token_id"] == end + 1  # <|im_start|>
    assert "tokenizer.ggml.eom_token_id" not in found


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


@pytest.mark.parametrize("file", ["qwen__tiktoken", "tokenizer__model"])
def test_pointer_instead_of_the_file(file: str, tmp_path: Path) -> None:
    found = checkpoint(tmp_path, {}, **{file: b"version https://git-lfs.github.com/spec/v1\noid sha256:57d9\n"})
    with pytest.raises(CheckpointError, match="git-lfs pointer"):
        tokenizer_metadata(found, 1200, {})


def test_tokenizer_json_goes_before_the_older_files(glm: Path) -> None:
    before = keys_of(glm)
    (glm / "tokenizer.model").write_bytes(tiktoken_file(impure_tokens()))
    assert keys_of(glm) == before


def template(*specials: str) -> dict[str, Any]:
    """A post-processor that puts tokens before each text."""
    pieces = [{"SpecialToken": {"id": text, "type_id": 0}} for text in specials]
    return {"type": "TemplateProcessing", "single": [*pieces, {"Sequence": {"id": "A", "type_id": 0}}]}


def test_no_ordinary_token_ends_generation(qwen: Path) -> None:
    """Where no file named an end there was no eos key: llama.cpp took token 11, a comma, and answers broke off."""
    edit_json(qwen / "tokenizer_config.json", eos_token=None)
    edit_json(qwen / "config.json", eos_token_id=None)
    (qwen / "generation_config.json").unlink()
    with open_checkpoint(qwen) as checkpoint:
        with pytest.raises(
            CheckpointError, match=r"which token ends.*tokenizer_config\.json .* generation_config\.json"
        ):
            tokenizer_metadata(checkpoint, checkpoint.config["vocab_size"], {})
        fallback = {"eos": ("<|none|>", "<|im_end|>", "<|endoftext|>")}
        found = tokenizer_metadata(checkpoint, checkpoint.config["vocab_size"], fallback)
    keys = {kv.key: kv.value for kv in found}
    assert keys["tokenizer.ggml.tokens"][keys["tokenizer.ggml.eos_token_id"]] == "<|im_end|>"


@pytest.mark.parametrize("fallback", [{}, {"eos": ("<|im_end|>", "<|endoftext|>")}])
def test_an_end_that_llama_cpp_knows_by_text_is_still_the_eos(fallback: Any, qwen: Path) -> None:
    """<|endoftext|> needs no key to end generation, and got none: token 11 became the eos token beside it."""
    edit_json(qwen / "tokenizer_config.json", eos_token=None)
    edit_json(qwen / "config.json", eos_token_id=None)
    ids = {t["content"]: t["id"] for t in read_json(qwen / "tokenizer.json")["added_tokens"]}
    edit_json(qwen / "generation_config.json", eos_token_id=ids["<|endoftext|>"])
    with open_checkpoint(qwen) as checkpoint:
        found = tokenizer_metadata(checkpoint, checkpoint.config["vocab_size"], fallback)
    assert {kv.key: kv.value for kv in found}["tokenizer.ggml.eos_token_id"] == ids["<|endoftext|>"]


@pytest.mark.parametrize(
    ("prefix", "adds_bos"),
    [((), None), (("[gMASK]",), True), (("[gMASK]", "<sop>"), False), (("<sop>", "<eop>"), False)],
)
def test_a_prefix_of_two_tokens_is_no_bos(prefix: tuple[str, ...], adds_bos: bool | None, glm: Path) -> None:
    """glm-4-9b-chat-hf begins texts with [gMASK]<sop>: the file said to add the first of the two alone."""
    edit_tokenizer(glm, lambda content: content.update(post_processor=template(*prefix)))
    found = keys_of(glm)
    assert found.get("ggml.add_bos_token") is adds_bos
    if prefix:
        assert found["ggml.tokens"][found["ggml.bos_token_id"]] == prefix[0]


def test_the_callers_config_stays_as_it_is() -> None:
    """The bos token of a template was written into the config that was passed in."""
    config: dict[str, Any] = {"bos_token": None}
    flags, bos = added_flags(template("<sop>"), config)
    assert (config, bos, flags[0].value) == ({"bos_token": None}, "<sop>", True)


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


@pytest.mark.parametrize(
    ("config", "code", "refused"),
    [
        ({"_name_or_path": "THUDM/chatglm2-6b"}, None, True),
        ({"_name_or_path": "/models/CodeGeeX2-6B"}, None, True),
        ({"auto_map": {"AutoConfig": "THUDM/chatglm2-6b--configuration_chatglm.ChatGLMConfig"}}, None, True),
        ({}, b'special_tokens = ["[MASK]", "[gMASK]", "[sMASK]", "sop", "eop"]', True),
        ({}, b'role_special_tokens = ["<|system|>", "<|user|>"]', False),
        ({"_name_or_path": "my-chatglm2-successor"}, b'roles = ["<|user|>"]', False),
        ({"_name_or_path": "THUDM/chatglm3-6b"}, None, False),
    ],
)
def test_chatglm2_is_no_chatglm3(config: dict[str, Any], code: bytes | None, refused: bool, tmp_path: Path) -> None:
    """Their vocabulary files are one and the same. ChatGLM2 and CodeGeeX2 got four tokens that they do not have."""
    found = KINDS["chatglm3"].checkpoint(tmp_path, **config)
    if code:
        (tmp_path / "tokenization_chatglm.py").write_bytes(code)
    if not refused:
        assert tokenizer_metadata(found, 1200, {})
        return
    with pytest.raises(UnsupportedError, match="ChatGLM2 or CodeGeeX2"):
        tokenizer_metadata(found, 1200, {})


JUNK = [None, 5, -1, 10**30, 1.5, True, "", "x", "\ud800", "9" * 5000, [], [1], [[1]], [None], {}, {"id": 5}, {"x": []}]


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Paths to all values of some JSON, of long lists and objects to the first few."""
    entries = list(value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else [])
    return [at, *(place for key, one in entries[:8] for place in places(one, (*at, key)))]


def replaced(value: Any, at: tuple[Any, ...], junk: Any) -> Any:
    """A copy with ``junk`` at the path ``at``."""
    if not at:
        return junk
    items = value.items() if isinstance(value, dict) else enumerate(value)
    copy = {key: replaced(one, at[1:], junk) if key == at[0] else one for key, one in items}
    return copy if isinstance(value, dict) else list(copy.values())


@functools.cache
def whole(kind: str) -> Path:
    """A checkpoint with every part of the tokenizer files that is read."""
    folder = Path(tempfile.mkdtemp())
    if kind == "json":
        build(folder, family="glm4", layers=1, template="named")
        steps = [template("[gMASK]", "<sop>"), {"type": "ByteLevel"}]
        edit_tokenizer(folder, lambda c: c.update(post_processor={"type": "Sequence", "processors": steps}))
        return folder
    n = len(pieces()) if kind == "chatglm3" else len(impure_tokens())
    decoder = {str(n + 1): {"content": "[gMASK]", "special": True}, str(n + 20): {"content": "<mine>"}}
    files = {**KINDS[kind].files, "tokenizer_config__json": {"added_tokens_decoder": decoder, "chat_template": "x"}}
    checkpoint(folder, {"eos_token_id": [2], "_name_or_path": "x", "text_config": {"eos_token_id": 2}}, **files)
    return folder


@settings(max_examples=150, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("kind", ["json", "glm-4", "chatglm3"])
def test_junk_for_any_value_of_any_file(kind: str, data: st.DataObject) -> None:
    """``processors: null``, ``added_tokens: 5``, a key of 5000 digits, half a surrogate pair: all gave tracebacks."""
    folder = whole(kind)
    files = sorted(path.name for path in folder.glob("*.json") if path.name != "model.safetensors.index.json")
    contents = {name: read_json(folder / name) for name in files}
    name = data.draw(st.sampled_from(files))
    at = data.draw(st.sampled_from(places(contents[name])[1:]))
    contents[name] = replaced(contents[name], at, data.draw(st.sampled_from(JUNK)))
    found = Junk(folder, contents["config.json"], {}, contents=contents)
    try:
        tokenizer = tokenizer_metadata(found, 1200, KINDS["glm-4"].fallback)
    except EdgeError as error:
        assert "\n" not in str(error)
    else:
        assert header_bytes(tokenizer, [])
        template_note(found)


@dataclass
class Junk(Checkpoint):
    """A checkpoint whose JSON files hold something else."""

    contents: dict[str, Any] = field(default_factory=dict)

    def json(self, name: str) -> dict[str, Any]:
        return self.contents.get(name, {})


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("tokenizer.json", lambda c: c.update(post_processor={"type": "Sequence", "processors": None})),
        ("tokenizer.json", lambda c: c.update(post_processor={"type": "TemplateProcessing", "single": 5})),
        (
            "tokenizer.json",
            lambda c: c.update(post_processor={"type": "TemplateProcessing", "single": [{"SpecialToken": "x"}]}),
        ),
        ("tokenizer.json", lambda c: c.update(pre_tokenizer={"type": "Sequence", "pretokenizers": None})),
        ("tokenizer.json", lambda c: c.update(added_tokens=5)),
        ("tokenizer.json", lambda c: c["model"]["vocab"].update({"\ud800": c["model"]["vocab"].pop("a")})),
        ("tokenizer.json", lambda c: c["model"]["merges"].append("\ud800 a")),
        ("tokenizer.json", lambda c: c["added_tokens"].append({"id": 722, "content": ""})),
        ("tokenizer_config.json", lambda c: c.update(added_tokens_decoder=[1])),
        ("tokenizer_config.json", lambda c: c.update(added_tokens_decoder={"9" * 5000: {"content": "x"}})),
        ("tokenizer_config.json", lambda c: c.update(chat_template="\ud800")),
    ],
)
def test_damage_is_said_in_a_line_that_names_the_file(name: str, change: Any, qwen: Path) -> None:
    """Each of these ended in a TypeError, an AttributeError or a UnicodeEncodeError."""
    content = read_json(qwen / name)
    change(content)
    (qwen / name).write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(EdgeError, match=re.escape(name)):
        keys_of(qwen)
