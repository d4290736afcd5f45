"""Token ids: llama.cpp on our vocabularies against the library that each kind of tokenizer file is made for."""

from __future__ import annotations

import functools
import tempfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.gate_checks import CheckFailed, check_end_tokens, check_template, check_token_ids
from edge.gate_reference import Reference, open_reference
from edge.llama.model import Model
from tests.checkpoints import build, read_json
from tests.edge import tiny_gguf
from tests.tokenizer_files import KINDS, TEXT, Kind, byte_tokens, impure_tokens, pieces, tiktoken_file


@functools.cache
def opened(name: str) -> tuple[Model, Reference]:
    return load(KINDS[name])


def load(kind: Kind) -> tuple[Model, Reference]:
    folder = Path(tempfile.mkdtemp())
    return Model(kind.gguf(folder), vocab_only=True), open_reference(folder)


@pytest.mark.parametrize(("name", "specials"), [("qwen", 208), ("glm-4", 14), ("chatglm3", 9)])
def test_the_gates_own_checks(name: str, specials: int) -> None:
    model, reference = opened(name)
    assert check_token_ids(model, reference) >= 14 + specials
    assert check_template(model, reference) == "renders"
    assert check_end_tokens(model, model.path.parent) >= 2


SPECIALS = [
    "<|user|>",
    "<|im_end|>",
    "[gMASK]",
    "[MASK]",
    "<sop>",
    "sop",
    "eop",
    "<unk>",
    "<eos>",
    "<0x0A>",
    "[PAD999]",
]
SPACES = [" ", "  ", "\n", "\n\n", "\r\n", "\t", "\u00a0", "\u3000", "▁"]
PIECES = [*TEXT.split(), *SPECIALS, *SPACES, "'s", "'LL", "aXa", "whole", "e\u0301", "é", "😀", "\x00"]


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=300, deadline=None)
@given(text=st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=12).map("".join))
def test_ids_of_any_text(name: str, text: str) -> None:
    """Users' text: what looks like a special token stays text."""
    model, reference = opened(name)
    text = text.encode("utf-8", "replace").decode()
    assert model.tokenize(text) == reference.encode(text)


@pytest.mark.parametrize("name", KINDS)
@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_ids_of_any_markup(name: str, data: st.DataObject) -> None:
    model, reference = opened(name)
    parts = st.sampled_from([*reference.specials, *TEXT.split()[:40], *SPACES[:5]])
    text = "".join(data.draw(st.lists(parts, max_size=10)))
    assert model.tokenize(text, parse_special=True) == reference.encode_markup(text)


def test_people_hold_no_control_token(tmp_path: Path) -> None:
    """llama.cpp joins pieces to control tokens too: with ChatGLM3's names for them "people" became p, eop, le."""
    texts = ("people", "isopod", "geopolitics of sophists", "sop", "eop")
    model, reference = opened("chatglm3")
    assert {"<sop>", "<eop>"} < set(model.control_texts)
    for text in texts:
        assert model.tokenize(text) == reference.encode(text)

    tokens = [text.replace("<sop>", "sop").replace("<eop>", "eop") for text in model.metadata["tokenizer.ggml.tokens"]]
    keys = {key: value for key, value in model.metadata.items() if key.startswith("tokenizer.")}
    changes = {key: value.tolist() if hasattr(value, "tolist") else value for key, value in keys.items()}
    path = tiny_gguf.write(tmp_path / "bare.gguf", changes | {"tokenizer.ggml.tokens": tokens}, {})
    with Model(path, vocab_only=True) as bare:
        assert any(bare.is_control(token) for text in texts for token in bare.tokenize(text))


def test_tokens_that_no_merge_reaches() -> None:
    """glm-4-9b has some; tiktoken finds them where they are a whole piece of text."""
    model, reference = opened("glm-4")
    whole = [impure_tokens().index(token) for token in (b"whole", b"aXa")]
    for text in ("whole", "aXa", "whole aXa\nwhole", "awhole aaXa"):
        assert model.tokenize(text) == reference.encode(text)
    assert model.tokenize("whole") == whole[:1] and model.tokenize("aXa") == whole[1:]


@settings(max_examples=60, deadline=None)
@given(
    learnt=st.lists(st.text("ab", min_size=2, max_size=5), unique=True, max_size=8),
    texts=st.lists(st.text("ab", min_size=1, max_size=12), min_size=1, max_size=20),
)
def test_any_set_of_tokens_in_any_order_of_ranks(learnt: list[str], texts: list[str]) -> None:
    """Listing every pair that makes a token gives tiktoken's ids, however little the ranks are those of a BPE."""
    tokens = [*byte_tokens()[:256], *(text.encode() for text in learnt), b"yz"]  # never without any merge
    model, reference = load(Kind({}, {"tokenizer__model": tiktoken_file(tokens)}, KINDS["glm-4"].fallback))
    with model:
        for text in texts:
            assert model.tokenize(text) == reference.encode(text)


def test_qwens_own_code_normalizes_and_glms_does_not() -> None:
    for name in KINDS:
        model, _ = opened(name)
        assert (model.tokenize("e\u0301") == model.tokenize("é")) == (name == "qwen")


@pytest.mark.parametrize("name", ["qwen", "glm-4"])
def test_another_order_of_ranks_is_found(name: str) -> None:
    """The check itself: a vocabulary that is not the checkpoint's."""
    model, _ = opened(name)
    tokens = byte_tokens() if name == "qwen" else impure_tokens()
    folder = Path(tempfile.mkdtemp())
    file = "qwen.tiktoken" if name == "qwen" else "tokenizer.model"
    (folder / file).write_bytes(tiktoken_file([*tokens[:300], *tokens[:299:-1]]))
    with pytest.raises(CheckFailed, match="as in tiktoken"):
        check_token_ids(model, open_reference(folder))


@pytest.mark.parametrize("name", ["glm-4", "chatglm3", "json"])
def test_a_fine_tunes_own_tokens_are_compared(name: str, tmp_path: Path) -> None:
    """Only the family's tokens were tried; those of tokenizer_config.json could be anything."""
    first = len(pieces()) if name == "chatglm3" else len(impure_tokens())
    if name == "json":
        build(tmp_path, family="glm4", layers=1)
        first = max(token["id"] for token in read_json(tmp_path / "tokenizer.json")["added_tokens"]) - 19
        kind = Kind({}, {"tokenizer__json": (tmp_path / "tokenizer.json").read_bytes()}, KINDS["glm-4"].fallback)
    else:
        kind = KINDS[name]
    own = {str(first + 20): {"content": "<mine>"}, str(first + 21): {"content": "[END]", "special": True}}
    if name == "glm-4":
        own[str(first)] = {"content": "<|endoftext|>"}
    kind = replace(kind, files={**kind.files, "tokenizer_config__json": {"added_tokens_decoder": own}})
    path = kind.gguf(tmp_path)
    reference = open_reference(tmp_path)
    assert reference.specials[-2:] == ["<mine>", "[END]"]
    with Model(path, vocab_only=True) as model:
        assert check_token_ids(model, reference) >= 15 + len(reference.specials)
        for text in ("a <mine> b", "<mine><mine>", "x[END]y"):
            assert first + 20 in model.tokenize(text) or "mine" not in text
            assert name == "json" or model.tokenize(text) == reference.encode(text)
    del own[str(first + 20)]
    kind = replace(kind, files={**kind.files, "tokenizer_config__json": {"added_tokens_decoder": own}})
    with (
        Model(kind.gguf(tmp_path / "less"), vocab_only=True) as model,
        pytest.raises(CheckFailed, match="before<mine>"),
    ):
        check_token_ids(model, reference)


def test_of_very_many_tokens_the_first_and_the_last_are_compared() -> None:
    model, reference = opened("qwen")
    many = replace(reference, specials=[f"<|extra_{i % 205}|>" for i in range(1000)])
    assert check_token_ids(model, many) == 15 + 300


def test_prefix_that_a_template_forgets_or_repeats_is_found() -> None:
    _, reference = opened("chatglm3")
    for template in ("<|user|>{{ messages[-1].content }}", "[gMASK]<sop>" * 2 + "{{ messages[-1].content }}"):
        folder = Path(tempfile.mkdtemp())
        path = KINDS["chatglm3"].gguf(folder)
        with Model(path, vocab_only=True) as model:
            model.metadata["tokenizer.chat_template"] = template
            with pytest.raises(CheckFailed, match="does not begin with"):
                check_template(model, reference)
