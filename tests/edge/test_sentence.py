"""Ends of sentences, in both languages, whole and while the text comes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.sentence import ends, next_end, whole_sentences

# Where "|" stands a sentence ends, and nowhere else.
TEXTS = [
    "It opens at nine.| Come early!| Why not?| Yes.|",
    "博物馆九点开门。|欢迎您！|为什么？|因为好看……|就这样。|",
    "他说：“你好。”|然后走了。|（真的！）|",
    'She said "Stop."| Then (at last!)| she left.|',
    "Pi is 3.14159, version 2.5.1 too.| See a.b/?x=1 for more.|",
    "Dr. Smith, e.g. of St. Ives, met J. Doe vs. Mr. X.Y. Z at 5 p.m. sharp.|",
    "Really?!| No...| Well.|",
    "价格是 3.5 元，版本 v1.2。|",
    "**Open daily.**| The **shop** is shut.|",
    "**九点开门。**|**十点**关门。|",
    "没有标点",
    "",
]


@pytest.mark.parametrize("marked", TEXTS)
def test_where_sentences_end(marked: str) -> None:
    text, wanted = unmarked(marked)
    assert all_ends(text) == wanted


def test_lists_and_code() -> None:
    assert all_ends("Steps:\n\n1. Open it\n2. Shut it\n") == [18, 29]
    assert all_ends("- one\n- two\n\nand so on") == [5, 11]
    assert all_ends("## Opening hours\n\nNine.\n") == [23]
    code = "```python\nx = 1. \n\ny = 2\n```\nDone.\n"
    assert [code[:end].rpartition("\n")[2] for end in all_ends(code)] == ["x = 1. ", "y = 2", "```", "Done."]
    assert all_ends("| a | b |\n| 1 | 2 |\n") == [9, 19]
    assert all_ends("1、第一\n2、第二\n") == [4, 9]
    assert all_ends("- half an item") == []


def test_an_end_must_be_seen_to_be_one() -> None:
    """ "3." may become "3.5", and a quote may close behind a stop."""
    assert next_end("It costs 3.", 0) is None
    assert next_end("It costs 3.", 0, whole=True) == 11
    assert next_end("It costs 3.5", 0, whole=True) is None
    assert next_end("“你好。", 0) is None
    assert next_end("“你好。”", 0) is None
    assert next_end("“你好。”她", 0) == 5
    assert next_end("- one", 0) is None and next_end("- one\n", 0) == 5


def test_what_was_read_is_not_taken_back() -> None:
    text = "One. Two. Three"
    assert next_end(text, 3) == 4
    assert next_end(text, 4) == 4 and next_end(text, 5) == 5, "only white space is behind the end"
    assert next_end(text, 6) == 9
    assert next_end(text, 10) == 10 and next_end(text, 11) is None
    assert next_end("- one\n", 6) == 6


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("One. Two. Thr", "One. Two."),
        ("One. Two.", "One. Two."),
        ("第一句。第二句还没", "第一句。"),
        ("no end at all", "no end at all"),
        ("- one\n- tw", "- one"),
    ],
)
def test_whole_sentences(text: str, kept: str) -> None:
    assert whole_sentences(text) == kept


@given(st.text(alphabet='ab .。！?"”*\n-1`', max_size=60), st.integers(0, 60))
def test_an_end_stays_one_whatever_comes(text: str, start: int) -> None:
    """So that an answer in pieces ends where the whole one would; but for marks that close behind it."""
    start = min(start, len(text))
    end = next_end(text, start)
    assert end is None or start <= end <= len(text)
    for size in range(start, len(text) + 1):
        if (early := next_end(text[:size], start)) is not None:
            assert end is not None and end <= early + 2
            assert text[early:end].strip("*") == ""
            break


def unmarked(marked: str) -> tuple[str, list[int]]:
    *parts, rest = marked.split("|")
    wanted, text = [], ""
    for part in parts:
        text += part
        wanted.append(len(text))
    return text + rest, wanted


def all_ends(text: str) -> list[int]:
    return sorted(set(ends(text, whole=True)))
