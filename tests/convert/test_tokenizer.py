"""Tokenizer files to GGUF keys: what must be refused, and what the keys must say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from convert.architectures import REGISTRY
from convert.checkpoint import open_checkpoint
from convert.errors import CheckpointError, EdgeError, UnsupportedError
from convert.special_tokens import added_flags
from convert.tokenizer import tokenizer_metadata
from tests.checkpoints import build, edit_json, read_json, write_json
from tests.tokenizer_files import ENDS, KINDS, Kind, checkpoint, impure_tokens, tiktoken_file


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
