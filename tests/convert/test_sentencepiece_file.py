"""SentencePiece models: damage is named, other rules than llama.cpp's are refused, ids are ChatGLM3's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sentencepiece import SentencePieceProcessor

from convert.errors import CheckpointError, EdgeError, UnsupportedError
from convert.sentencepiece_file import SPECIALS, parse_piece, read_chatglm3
from convert.vocabulary import AddedToken
from tests.tokenizer_files import BYTE, UNUSED, USER_DEFINED, Piece, field, message, pieces, sentencepiece_file

PIECES = pieces()
FILE = sentencepiece_file(PIECES)
SIZE = 1200


def test_pieces_are_those_that_sentencepiece_reads() -> None:
    processor = SentencePieceProcessor()
    processor.LoadFromSerializedProto(FILE)
    found = read_chatglm3(FILE, [], SIZE, "tokenizer.model")
    n = processor.vocab_size()
    assert found.texts[:3] == ["<unk>", "<bos>", "<eos>"]
    assert found.texts[3:n] == [processor.IdToPiece(id) for id in range(3, n)]
    assert (found.scores or [])[:n] == [processor.GetScore(id) for id in range(n)]
    assert [kind == BYTE for kind in found.types[:n]] == [processor.IsByte(id) for id in range(n)]
    assert [kind == 3 for kind in found.types[:n]] == [processor.IsControl(id) for id in range(n)]


def test_special_tokens_then_unused_ids_behind_the_pieces() -> None:
    found, n = read_chatglm3(FILE, [], SIZE, "tokenizer.model"), len(PIECES)
    assert (found.model, found.pre, found.merges) == ("llama", "chatglm-spm", None)
    assert found.texts[n : n + 9] == list(SPECIALS) and found.types[n : n + 9] == [3] * 9
    assert found.texts[n + 9] == f"[PAD{n + 9}]" and set(found.types[n + 9 :]) == {UNUSED}
    assert len(found.texts) == len(found.types) == len(found.scores or []) == SIZE
    assert set((found.scores or [])[n:]) == {0.0}


def test_fields_of_a_later_version_are_passed_over() -> None:
    more = field(7, b"new") + field(9, 5) + field(11, 0.5)
    assert read_chatglm3(FILE + more, [], SIZE, "f") == read_chatglm3(FILE, [], SIZE, "f")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda data: data[:-1], "bytes wanted"),
        (lambda data: data[: len(data) // 2], "bytes wanted|does not end"),
        (lambda data: data + b"\xff" * 11, "does not end"),
        (lambda data: data + b"\x0b", "wire type 3"),
        (lambda data: data + b"\x0a\xff\xff\xff\xff\x7f", "bytes wanted"),
        (lambda data: data + field(1, 5), "a number where a message"),
        (lambda data: data + field(2, 5), "a number where a message"),
        (lambda data: data + field(1, message({1: b"\xff", 2: 0.0})), "utf-8"),
        (lambda data: data + field(1, message({1: b"", 2: 0.0})), "piece ''"),
        (lambda data: data + field(1, message({1: b"x", 2: float("nan")})), "score nan"),
        (lambda data: data + field(1, message({1: b"x", 2: 0.0, 3: 9})), "of type 9"),
        (lambda data: data + field(1, message({1: b"x", 2: b"long score"})), "SentencePiece"),
        (lambda data: data + field(3, message({2: 5})), "a number where a message"),  # was a traceback
        (lambda data: data + field(1, message({1: b"the same"})) * 2, "the same text"),
        (lambda data: data + field(1, message({1: b"[gMASK]"})), "the same text"),
    ],
)
def test_damage_is_named(damage: Callable[[bytes], bytes], says: str) -> None:
    with pytest.raises(CheckpointError, match=says) as caught:
        read_chatglm3(damage(FILE), [], SIZE, "tokenizer.model")
    assert "tokenizer.model" in caught.value.message and "\n" not in str(caught.value)


@given(st.binary(max_size=100), st.integers(0, len(FILE)))
def test_no_bytes_do_anything_but_fail_in_words(noise: bytes, at: int) -> None:
    for data in (noise, FILE[:at] + noise + FILE[at + len(noise) :]):
        try:
            read_chatglm3(data, [], SIZE, "tokenizer.model")
        except EdgeError as error:
            assert "tokenizer.model" in str(error)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (sentencepiece_file(PIECES, trainer={3: 1}), "not of the BPE type"),
        (sentencepiece_file(PIECES, trainer={24: 1}), "puts spaces behind words"),
        (sentencepiece_file(PIECES, normalizer={2: b"some map"}), "maps characters"),
        (sentencepiece_file(PIECES, normalizer={3: 0}), "no space in front"),
        (sentencepiece_file(PIECES, normalizer={4: 1}), "removes spaces"),
        (sentencepiece_file(PIECES, normalizer={5: 0}), "leaves spaces"),
        (sentencepiece_file(PIECES[3:]), "does not begin with"),
        (sentencepiece_file([piece for piece in PIECES if piece.text != "<0x7F>"]), "no piece for the byte 127"),
        (sentencepiece_file([*PIECES, Piece("<n>", 0.0, USER_DEFINED)]), "user-defined piece '<n>'"),
    ],
)
def test_what_llama_cpp_would_read_otherwise_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(UnsupportedError, match=says) as caught:
        read_chatglm3(data, [], SIZE, "tokenizer.model")
    assert "tokenizer.model" in caught.value.message


def test_no_more_pieces_are_kept_than_the_vocabulary_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of 64 MB could hold millions of pieces; all became objects before their number was looked at."""
    parsed: list[Any] = []
    monkeypatch.setattr("convert.sentencepiece_file.parse_piece", lambda data: parsed.append(data) or parse_piece(data))
    with pytest.raises(CheckpointError, match="vocabulary of 300"):
        read_chatglm3(FILE + field(1, message({1: b"more"})) * 1000, [], 300, "tokenizer.model")
    assert len(parsed) == 301


def test_tokens_that_the_config_adds() -> None:
    """They were left out: a fine-tune's own tokens were [PAD] names, and users' text never held them."""
    n = len(PIECES)
    known = {1: "[gMASK]", 3: "sop", 5: "<|system|>", 6: "<|user|>"}  # the published config; its names for the fourth
    added = [AddedToken(n + i, text, special=False) for i, text in known.items()]
    added += [AddedToken(0, "<unk>", special=True), AddedToken(2, "</s>", special=True)]
    plain = read_chatglm3(FILE, [], SIZE, "f")
    assert read_chatglm3(FILE, added, SIZE, "f") == plain
    own = [AddedToken(n + 9, "<mine>", special=False), AddedToken(n + 12, "[END]", special=True)]
    found = read_chatglm3(FILE, own, SIZE, "f")
    assert (found.texts[n + 8 : n + 13]) == ["<|observation|>", "<mine>", f"[PAD{n + 10}]", f"[PAD{n + 11}]", "[END]"]
    assert found.types[n + 8 : n + 13] == [3, USER_DEFINED, UNUSED, UNUSED, 3]
    assert found.special["[END]"] == n + 12


@pytest.mark.parametrize(
    ("token", "says"),
    [
        (AddedToken(len(PIECES) + 5, "[gMASK]", special=True), r"pieces, but .* puts '\[gMASK\]'"),
        (AddedToken(300, "<mine>", special=True), "two texts for token 300"),
        (AddedToken(SIZE, "<mine>", special=True), f"vocab_size = {SIZE}"),
        (AddedToken(len(PIECES) + 20, PIECES[-1].text, special=True), "the same text"),
        (AddedToken(len(PIECES) + 20, "\ud800", special=True), "half of a character"),
    ],
)
def test_added_tokens_of_another_model(token: AddedToken, says: str) -> None:
    with pytest.raises(CheckpointError, match=says):
        read_chatglm3(FILE, [token], SIZE, "tokenizer.model")


def test_vocabulary_smaller_than_the_file() -> None:
    with pytest.raises(CheckpointError, match="vocabulary of 300"):
        read_chatglm3(FILE, [], 300, "tokenizer.model")
