from __future__ import annotations

import codecs
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from edge.text import StopStringError, StopStrings, TextStream, Utf8Stream, terminal_safe


def test_a_character_in_pieces_comes_out_whole() -> None:
    """Chinese and emoji arrive as bytes of several tokens: half a character on the screen was the bug."""
    stream = Utf8Stream()
    assert [stream.feed(bytes([byte])) for byte in "你😀".encode()] == ["", "", "你", "", "", "", "😀"]
    stream.finish()


def test_what_stays_incomplete_is_not_shown() -> None:
    """An answer cut at its limit ended with a replacement character."""
    stream = Utf8Stream()
    assert stream.feed("好".encode()[:2]) == ""
    stream.finish()
    assert stream.feed(b"a") == "a"


def test_invalid_bytes_are_replaced_and_do_not_swallow_the_next_character() -> None:
    stream = Utf8Stream()
    assert stream.feed(b"\xe4\xbdA") == "\ufffdA"
    assert stream.feed(b"\xff") == "\ufffd"


@given(st.binary(), st.lists(st.integers(0, 40)))
def test_pieces_do_not_matter(data: bytes, cuts: list[int]) -> None:
    stream = Utf8Stream()
    edges = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    text = "".join(stream.feed(data[a:b]) for a, b in pairwise(edges))
    whole = data.decode("utf-8", "replace")
    assert text == whole or text + "\ufffd" == whole  # the end may be the beginning of a character


# Few letters, so that stop strings often overlap; of two, three and four bytes, so that characters are split.
STOPS = st.lists(st.text("ab你é😀", min_size=1, max_size=5), max_size=4)
ANSWER = st.lists(st.sampled_from(["a", "b", "你", "é", "😀"]) | st.binary(max_size=2), max_size=24).map(
    lambda parts: b"".join(part.encode() if isinstance(part, str) else part for part in parts)
)


def first_stop(text: str, stops: Sequence[str]) -> tuple[str, str | None]:
    """What is wanted, from the whole text at once: the text before the first stop string, and which that is."""
    found = min(((text.find(stop), len(stop), stop) for stop in stops if stop in text), default=None)
    return (text, None) if found is None else (text[: found[0]], found[2])


@given(ANSWER, STOPS, st.data())
@example("aab你b".encode(), ["ab你a", "b你"], None)
def test_stop_strings_do_not_see_the_pieces(data: bytes, stops: list[str], draw: st.DataObject | None) -> None:
    """At every moment the text given out is a prefix of the final one: no half character, nothing taken back."""
    characters = codecs.getincrementaldecoder("utf-8")("replace").decode(data)  # the last may be incomplete
    want, stopped = first_stop(characters, stops)
    cuts = range(len(data)) if draw is None else draw.draw(st.sets(st.integers(0, len(data))))
    stream, text = TextStream(stops), ""
    for start, end in pairwise(sorted({0, len(data), *cuts})):
        text += stream.feed(data[start:end])
        assert want.startswith(text)
        assert stream.stopped in (None, stopped)
    text += stream.finish()
    assert (text, stream.stopped) == (want, stopped)


@given(st.text("ab", max_size=12), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_no_more_is_held_back_than_may_become_a_stop_string(text: str, stops: list[str]) -> None:
    """Text that waited for no reason would make the answer stutter."""
    stream, given_out, fed = StopStrings(stops), "", ""
    for char in text:
        given_out, fed = given_out + stream.feed(char), fed + char
        if not any(stop in fed for stop in stops):
            suffixes = (fed[start:] for start in range(len(fed) + 1))
            held = next(suffix for suffix in suffixes if any(stop.startswith(suffix) for stop in [*stops, ""]))
            assert given_out + held == fed


def test_text_ends_before_the_first_stop_string() -> None:
    stream = StopStrings(["\nUser:", "###"])
    pieces = ("Hel", "lo #", "# x\nUs", "er", ": and", " more")
    assert [stream.feed(piece) for piece in pieces] == ["Hel", "lo ", "## x", "", "", ""]
    assert (stream.stopped, stream.finish()) == ("\nUser:", "")


def test_of_stop_strings_that_begin_together_the_one_that_completes_first() -> None:
    stream = StopStrings(["stop here", "stop"])
    assert stream.feed("a stop here") == "a "
    assert stream.stopped == "stop"


def test_a_stop_string_inside_a_longer_one_waits_for_it() -> None:
    for text, want, stopped in (("xabcd", "x", "abcd"), ("xabce", "xa", "bc"), ("xabc", "xa", "bc")):
        stream = StopStrings(["bc", "abcd"])
        assert (stream.feed(text) + stream.finish(), stream.stopped) == (want, stopped)


def test_what_was_held_back_is_text_after_all() -> None:
    stream = TextStream(["</s>"])
    assert stream.feed(b"a </s" + "你".encode()[:1]) == "a "
    assert stream.finish() == "</s"
    assert stream.stopped is None


def test_a_character_is_never_cut_by_a_stop_string() -> None:
    """Stop strings are found in text, not in bytes: 你 and 佀 share their first bytes."""
    stream = TextStream(["你"])
    assert stream.feed("佀".encode()) == "佀"


@pytest.mark.parametrize("stops", [[""], ["a", ""]])
def test_an_empty_stop_string_would_stop_everything(stops: list[str]) -> None:
    with pytest.raises(StopStringError, match="empty"):
        StopStrings(stops)


def test_a_stop_string_is_text() -> None:
    with pytest.raises(StopStringError, match="is text, got None"):
        StopStrings(["a", None])  # type: ignore[list-item]


def test_a_stop_string_that_always_may_begin() -> None:
    """What is held back is bounded by the stop string, however long the answer."""
    stop = "a" * 2000 + "b"
    stream = StopStrings([stop])
    text = "".join(stream.feed("a") for _ in range(6000))
    assert len(text) == 4000
    assert stream.feed("b") == "" and stream.stopped == stop


def test_an_answer_cannot_drive_the_terminal():
    """An answer with escape sequences could retitle the window, or paint over what the person sees."""
    assert terminal_safe("a\u202eb\u2066 👩\u200d👧") == "ab 👩\u200d👧", "overrides of direction go, joiners stay"
    assert terminal_safe("a\x1b[2Jb\x9b\x07\r\n\tc 你好 😀") == "a[2Jb\n\tc 你好 😀"
