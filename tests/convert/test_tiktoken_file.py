"""tiktoken files: damage is named, merges are found, special tokens lie where the models' code puts them."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convert.bpe_json import AddedToken
from convert.errors import CheckpointError, EdgeError, UnsupportedError
from convert.tiktoken_file import QWEN_SPECIALS, all_merges, is_tiktoken, last_merges, read_glm4, read_qwen, read_ranks
from tests.tokenizer_files import KINDS, byte_tokens, impure_tokens, pieces, sentencepiece_file, tiktoken_file

FILE = tiktoken_file(byte_tokens())
LINES = FILE.splitlines()
SIZE = 1200


def test_ranks_come_back() -> None:
    assert list(read_ranks(FILE, "f")) == byte_tokens()
    windows = b"\r\n".join([*LINES[::-1], b"", b" "])
    assert read_ranks(windows, "f") == read_ranks(FILE, "f")


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda lines: [b"!!!! 0", *lines[1:]], "line 1"),
        (lambda lines: [b"AAA 0", *lines[1:]], "line 1"),  # base64 of no whole number of bytes
        (lambda lines: [*lines[:5], b"QQ== -5", *lines[6:]], "line 6"),
        (lambda lines: [*lines[:5], b"QQ== 5 5", *lines[6:]], "line 6"),
        (lambda lines: [*lines, b"= 900"], "base64"),
        (lambda lines: [*lines, base64.b64encode(b"x" * 2000) + b" %d" % len(lines)], "base64"),
        (lambda lines: [*lines, lines[300].split()[0] + b" %d" % len(lines)], "there twice"),
        (lambda lines: [*lines, base64.b64encode(b"new one") + b" 300"], "rank 300"),
        (lambda lines: [*lines[:400], *lines[401:]], "rank 400"),
        (lambda lines: lines[1:], "rank 0"),
        (lambda lines: [*lines, base64.b64encode(b"new one") + b" 999999999"], "rank"),
        (
            lambda lines: [b"Z" * 80 + b" 0" if i == 0 else line for i, line in enumerate(lines)],
            "no token for the byte",
        ),
        (lambda lines: [], "no token for the byte 0"),
        (lambda lines: lines[:3], "no token for the byte"),
    ],
)
def test_damage_is_named(damage: Callable[[list[bytes]], list[bytes]], says: str) -> None:
    with pytest.raises(CheckpointError, match=says) as caught:
        read_qwen(b"\n".join(damage(LINES)), QWEN_SPECIALS, SIZE, "qwen.tiktoken")
    assert "qwen.tiktoken" in caught.value.message and "\n" not in str(caught.value)


@given(st.binary(max_size=200), st.integers(0, len(FILE)))
def test_no_bytes_do_anything_but_fail_in_words(noise: bytes, at: int) -> None:
    for data in (noise, FILE[:at] + noise + FILE[at:]):
        try:
            read_qwen(data, QWEN_SPECIALS, SIZE, "qwen.tiktoken")
        except EdgeError as error:
            assert "qwen.tiktoken" in str(error)


def test_the_kind_of_file_is_told_by_its_first_line() -> None:
    assert is_tiktoken(FILE) and is_tiktoken(LINES[0] + b"\r\n" + LINES[1])
    assert not any(map(is_tiktoken, (b"", b"{}", sentencepiece_file(pieces()), b"version https://git-lfs.github.com")))


def test_merges_are_joined_in_the_order_of_the_ranks() -> None:
    """Each token from two of lower ranks, and no other pair before them."""
    ranks = {bytes([i]): i for i in range(256)} | {b"ab": 256, b"bc": 257, b"abc": 258, b"abcbc": 259}
    assert list(last_merges(ranks, "f")) == [(b"a", b"b"), (b"b", b"c"), (b"ab", b"c"), (b"abc", b"bc")]
    assert list(all_merges(ranks)) == [
        *((b"a", b"b"), (b"b", b"c")),
        *((b"a", b"bc"), (b"ab", b"c")),
        (b"abc", b"bc"),
    ]


def test_tokens_that_would_make_merges_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each a run of one letter, all lengths up to 1024: half a million pairs from a file of 1 MB, and no limit."""
    runs = tiktoken_file([*(bytes([i]) for i in range(256)), *(b"a" * n for n in range(2, 258))])
    with pytest.raises(CheckpointError, match=r"line 512: .* is not a token"):
        read_glm4(runs, [], SIZE, "tokenizer.model")
    longest = runs[: runs[:-1].rfind(b"\n") + 1]
    assert len(read_glm4(longest, [], SIZE, "tokenizer.model").merges or []) == sum(range(1, 256))
    monkeypatch.setattr("convert.tiktoken_file.MAX_MERGES", sum(range(1, 256)) - 1)
    with pytest.raises(UnsupportedError, match=r"tokenizer\.model has tokens that more than 32639 pairs make"):
        read_glm4(longest, [], SIZE, "tokenizer.model")


def test_qwen_needs_a_vocabulary_that_merging_reaches() -> None:
    with pytest.raises(UnsupportedError, match="b' sophist' cannot be merged"):
        read_qwen(tiktoken_file(impure_tokens()), QWEN_SPECIALS, SIZE, "qwen.tiktoken")


def test_bytes_are_written_as_in_gpt2() -> None:
    """A space is Ġ, the bytes of 你 are ä ½ ł."""
    found = read_qwen(FILE, QWEN_SPECIALS, SIZE, "f")
    assert found.texts[byte_tokens().index(b" ")] == "Ġ"
    assert [found.texts[byte_tokens().index(bytes([byte]))] for byte in "你".encode()] == ["ä", "½", "ł"]
    assert all(line.count(" ") == 1 for line in found.merges or [])


def test_special_tokens_lie_behind_the_ranks() -> None:
    found, n = read_qwen(FILE, QWEN_SPECIALS, SIZE, "f"), len(LINES)
    assert found.texts[n : n + 4] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|extra_0|>"]
    assert found.texts[n + 207 : n + 209] == ["<|extra_204|>", f"[PAD{n + 208}]"]
    assert found.types[n - 1 : n + 1] == [1, 3] and found.types[n + 207 : n + 209] == [3, 5]


def test_the_first_revision_of_qwen_had_other_special_tokens(tmp_path: Path) -> None:
    kind, n = KINDS["qwen"], len(LINES)
    final = kind.metadata(tmp_path / "a")["tokenizer.ggml.tokens"]
    first = kind.metadata(tmp_path / "b", n_embd=4096)["tokenizer.ggml.tokens"]
    assert (final[n + 3], final[n + 8]) == ("<|extra_0|>", "<|extra_5|>")
    assert (first[n + 3], first[n + 8], first[n + 207]) == ("<R>", "<extra_0>", "<extra_199>")


def test_glm4_takes_its_config_before_what_is_known_by_heart() -> None:
    n = len(impure_tokens())
    data = tiktoken_file(impure_tokens())
    own = [AddedToken(n, "<|endoftext|>", special=True), AddedToken(n + 3, "<|mine|>", special=False)]
    own += [AddedToken(n + 20, "<tag>", special=False)]
    found = read_glm4(data, own, SIZE, "tokenizer.model")
    assert found.texts[n + 2 : n + 5] == ["[gMASK]", "<|mine|>", "<sop>"]
    assert found.texts[n + 20] == "<tag>" and found.types[n + 19 : n + 21] == [5, 4]
    assert found.pre == "glm4" and found.special["<|observation|>"] == n + 9
    with pytest.raises(CheckpointError, match="two texts for token 5"):
        read_glm4(data, [AddedToken(5, "x", special=True)], SIZE, "tokenizer.model")


def test_a_file_that_lost_its_last_lines(tmp_path: Path) -> None:
    """The ranks left are whole, and every special token would move up: the ids in the configs tell."""
    short = tiktoken_file(byte_tokens()[:-5])
    qwen = replace(KINDS["qwen"], files={**KINDS["qwen"].files, "qwen__tiktoken": short})
    with pytest.raises(CheckpointError, match=r"the end, but .* no token there"):
        qwen.metadata(tmp_path, eos_token_id=len(byte_tokens()) + 205)
    own = [AddedToken(len(LINES), "<|endoftext|>", special=True)]
    with pytest.raises(CheckpointError, match=f"has {len(LINES) - 5} tokens, but .* at {len(LINES)}"):
        read_glm4(short, own, SIZE, "tokenizer.model")


@pytest.mark.parametrize("size", [100, len(LINES), len(LINES) + 200])
def test_vocabulary_smaller_than_the_file(size: int) -> None:
    with pytest.raises(CheckpointError, match=f"vocab_size = {size}"):
        read_qwen(FILE, QWEN_SPECIALS, size, "qwen.tiktoken")
