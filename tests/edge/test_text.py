from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge.text import Utf8Stream, terminal_safe


def test_a_character_in_pieces_comes_out_whole() -> None:
    """Chinese and emoji arrive as bytes of several tokens: half a character on the screen was the bug."""
    stream = Utf8Stream()
    assert [stream.feed(bytes([byte])) for byte in "你😀".encode()] == ["", "", "你", "", "", "", "😀"]
    assert stream.finish() == ""


def test_what_stays_incomplete_is_shown_at_the_end() -> None:
    stream = Utf8Stream()
    assert stream.feed("好".encode()[:2]) == ""
    assert stream.finish() == "\ufffd"
    assert stream.feed(b"a") + stream.finish() == "a"


def test_invalid_bytes_are_replaced_and_do_not_swallow_the_next_character() -> None:
    stream = Utf8Stream()
    assert stream.feed(b"\xe4\xbdA") + stream.finish() == "\ufffdA"
    assert stream.feed(b"\xff") == "\ufffd"


@given(st.binary(), st.lists(st.integers(0, 40)))
def test_pieces_do_not_matter(data: bytes, cuts: list[int]) -> None:
    stream = Utf8Stream()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    text = "".join(stream.feed(data[a:b]) for a, b in pairwise(edges)) + stream.finish()
    assert text == data.decode("utf-8", "replace")


def test_an_answer_cannot_drive_the_terminal():
    """An answer with escape sequences could retitle the window, or paint over what the person sees."""
    assert terminal_safe("a\x1b[2Jb\x9b\x07\r\n\tc 你好 😀") == "a[2Jb\n\tc 你好 😀"
