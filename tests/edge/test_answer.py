"""Reading one answer: a vocabulary of single bytes, no model."""

from __future__ import annotations

import pytest

from convert.errors import EdgeError
from edge.answer import Delta, Reader
from edge.chat.calls import CallParser
from edge.chat.hermes import Hermes
from edge.chat.output import Call, Parser, PlainParser
from edge.chat.thinking import ThinkingParser
from edge.engine.types import Finished, FinishReason, Timings, Token, TokenLogprob


def read(
    text: str, parser: Parser | None = None, stops: tuple[str, ...] = (), reason: FinishReason = "stop", size: int = 1
) -> tuple[Reader, list[Delta], list[str]]:
    """The reader after ``text`` in tokens of ``size`` bytes, its deltas, and a word for each time it cancelled."""
    data, cancelled = text.encode(), []
    pieces = [data[at : at + size] for at in range(0, len(data), size)]
    reader = Reader(parser or PlainParser(), stops, lambda: cancelled.append("cancel"))
    deltas = [delta for token, piece in enumerate(pieces) for delta in reader.feed(Token(token, None, piece))]
    reason = "cancelled" if cancelled else reason
    deltas += reader.feed(Finished(reason, Timings(prompt_tokens=5, generated_tokens=len(pieces))))
    return reader, deltas, cancelled


@pytest.mark.parametrize("size", [1, 2, 3, 5, 100])
def test_deltas_joined_are_the_result(size: int) -> None:
    text = "你好 🚀, naïve"
    reader, deltas, _ = read(text, size=size)
    assert reader.result is not None
    assert reader.result.text == "".join(delta.text for delta in deltas) == text
    assert reader.result.finish_reason == "stop" and not reader.result.calls
    assert len(reader.result.tokens) == reader.result.timings.generated_tokens == -(-len(text.encode()) // size)


@pytest.mark.parametrize("size", [1, 4, 7, 100])
def test_a_stop_string_ends_the_answer_and_is_not_in_it(size: int) -> None:
    reader, deltas, cancelled = read("one\nUser: two", stops=("\nUser:",), size=size)
    assert reader.result is not None and cancelled == ["cancel"]
    assert reader.result.text == "".join(delta.text for delta in deltas) == "one"
    assert (reader.result.finish_reason, reader.result.stopped) == ("stop", "\nUser:")


def test_tokens_drawn_before_the_engine_heard_of_the_stop_are_dropped() -> None:
    reader, _, _ = read("ab.cdef", stops=(".",))
    assert reader.result is not None
    assert reader.result.text == "ab" and len(reader.result.tokens) == 3


def test_half_a_stop_string_at_the_limit_is_text() -> None:
    reader, _, _ = read("one\nUse", stops=("\nUser:",), reason="length")
    assert reader.result is not None
    assert (reader.result.text, reader.result.finish_reason, reader.result.stopped) == ("one\nUse", "length", None)


def thinking_and_calls() -> Parser:
    return ThinkingParser(CallParser(Hermes()), thinks=True)


CALL = '<think>\nhm\n</think>\n\n<tool_call>\n{"name": "f", "arguments": {"城市": "北京"}}\n</tool_call>'


@pytest.mark.parametrize("size", [1, 3, 10, 500])
def test_thoughts_and_calls_come_apart(size: int) -> None:
    reader, deltas, _ = read(CALL, thinking_and_calls(), size=size)
    assert reader.result is not None
    assert (reader.result.reasoning, reader.result.text.strip()) == ("hm", "")
    assert reader.result.calls == (Call("f", '{"城市": "北京"}'),)
    assert reader.result.finish_reason == "tool_calls"
    assert "".join(delta.reasoning for delta in deltas) == "hm"
    assert any(delta.call for delta in deltas)


def test_a_call_that_the_limit_cut_is_told_as_such() -> None:
    reader, _, _ = read(CALL[:-20], thinking_and_calls(), reason="length")
    assert reader.result is not None
    assert not reader.result.calls and reader.result.finish_reason == "length"
    assert reader.result.unfinished.startswith("<tool_call>")


def test_an_error_of_the_engine_is_raised() -> None:
    reader = Reader(PlainParser(), (), lambda: None)
    with pytest.raises(EdgeError, match="it broke"):
        reader.feed(Finished("error", Timings(), EdgeError("it broke")))


def test_logprobs_are_those_of_the_tokens() -> None:
    """Forced tokens, which have none, were left out: nobody could tell whose the others were."""
    reader = Reader(PlainParser(), (), lambda: None)
    value = TokenLogprob(-0.5, ((7, -0.5),))
    for logprob in (None, value, None):
        reader.feed(Token(7, logprob, b"x"))
    reader.feed(Finished("stop", Timings()))
    assert reader.result is not None and reader.result.logprobs == (None, value, None)


def test_no_logprobs_were_asked_for() -> None:
    reader, _, _ = read("text")
    assert reader.result is not None and reader.result.logprobs == ()
