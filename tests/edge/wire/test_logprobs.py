from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.answer import Delta
from edge.chat.output import CallArguments, CallBegin, CallEnd, Unfinished
from edge.engine.types import TokenLogprob
from edge.wire.logprobs import Aligner, Drawn, chat_logprobs, finite, text_logprobs, tokens_of

TEXT = st.text(st.sampled_from("ab <>/\n你😀é"), max_size=20)


def aligner_of(pieces: Sequence[bytes]) -> Aligner:
    """Whose tokens are those pieces, each with a probability of its own."""
    aligner = Aligner(pieces.__getitem__)
    aligner.add(range(len(pieces)), [TokenLogprob(-1.0 - index, ()) for index in range(len(pieces))])
    return aligner


def data_of(drawn: Sequence[Drawn]) -> bytes:
    return b"".join(data for _, data, _ in drawn)


def ids(drawn: Sequence[Drawn]) -> list[int]:
    return [token for token, _, _ in drawn]


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    ends = sorted({place % (len(data) + 1) for place in places} - {0, len(data)})
    return [data[start:end] for start, end in zip([0, *ends], [*ends, len(data)], strict=True)]


def cut_text(text: str, places: Sequence[int]) -> list[str]:
    ends = sorted({place % (len(text) + 1) for place in places} - {0, len(text)})
    return [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]


PLACES = st.lists(st.integers(0, 200), max_size=12)


@given(TEXT, PLACES, PLACES)
def test_the_tokens_of_all_pieces_make_up_the_text(text: str, tokens: list[int], pieces: list[int]) -> None:
    aligner = aligner_of(cut(text.encode(), tokens))
    for piece in cut_text(text, pieces):
        assert data_of(aligner.take(piece)) == piece.encode()


@given(TEXT, PLACES, PLACES, st.data())
def test_tokens_may_come_while_pieces_do(text: str, tokens: list[int], pieces: list[int], data: st.DataObject) -> None:
    parts = cut(text.encode(), tokens)
    aligner, come, given_so_far = Aligner(parts.__getitem__), 0, 0
    found = b""
    for piece in cut_text(text, pieces):
        given_so_far += len(piece.encode())
        while sum(map(len, parts[:come])) < given_so_far or (come < len(parts) and data.draw(st.booleans())):
            aligner.add([come], [None])
            come += 1
        found += data_of(aligner.take(piece))
    assert found == text.encode()


@given(TEXT, TEXT, TEXT, PLACES, PLACES)
def test_what_lies_behind_a_stop_string_belongs_to_nothing(
    text: str, stop: str, behind: str, tokens: list[int], pieces: list[int]
) -> None:
    aligner = aligner_of(cut((text + stop + behind).encode(), tokens))
    assert data_of([one for piece in cut_text(text, pieces) for one in aligner.take(piece)]) == text.encode()


@given(TEXT.filter(lambda text: "</think>" not in text), TEXT, PLACES, PLACES)
def test_thoughts_are_passed_over(thought: str, text: str, tokens: list[int], pieces: list[int]) -> None:
    """The first piece of the text was found in the thoughts."""
    before = f"<think>\n{thought}\n</think>".encode()
    parts = [*cut(before, tokens), *cut(text.encode(), tokens)]
    first = len(cut(before, tokens))
    aligner = aligner_of(parts)
    for piece in cut_text(thought, pieces):
        if piece:
            assert tokens_of(Delta(reasoning=piece), aligner) == []
    if thought:
        found = [one for piece in cut_text(text, pieces) if piece for one in tokens_of(Delta(text=piece), aligner)]
        assert data_of(found) == text.encode() and min(ids(found), default=first) >= first


def test_calls_are_passed_over() -> None:
    aligner = aligner_of(
        [b"I ", b"look", b"<tool_call>", b'{"name": "look", "arguments": {"at": "I"}}', b"</tool_call>"]
    )
    assert ids(tokens_of(Delta(text="I look"), aligner)) == [0, 1]
    for call in (CallBegin(0, "look"), CallArguments(0, '{"at": "I"}'), CallArguments(0, ""), CallEnd(0)):
        assert tokens_of(Delta(call=call), aligner) == []
    aligner.add([0], [None])
    assert ids(tokens_of(Delta(text="I "), aligner)) == [0]


def test_arguments_that_were_written_otherwise_take_nothing_along() -> None:
    aligner = aligner_of([b"<tool_call>", b"{'a': 1}", b"</tool_call>", b"done"])
    assert tokens_of(Delta(call=CallArguments(0, '{"a": 1}')), aligner) == []
    assert ids(tokens_of(Delta(text="done"), aligner)) == [3]


def test_a_cut_call_is_text() -> None:
    aligner = aligner_of([b"<tool", b"_call>{"])
    assert data_of(tokens_of(Delta(call=Unfinished("<tool_call>{")), aligner)) == b"<tool_call>{"


def test_bytes_that_are_no_characters() -> None:
    """Their text is of other bytes; the tokens are told all the same."""
    aligner = aligner_of([b"a", b"\xff", b"b"])
    assert data_of(aligner.take("a\ufffdb")) == b"a\xffb"
    assert aligner.take("") == []


def test_a_token_that_was_cut_is_there_twice() -> None:
    aligner = aligner_of([b"ab"])
    parts = [aligner.take("a"), aligner.take("b")]
    assert [data_of(part) for part in parts] == [b"a", b"b"] and ids(parts[0]) == ids(parts[1]) == [0]


def test_the_shape_for_chats() -> None:
    pieces = [b"a", b"\xe4\xbd", b"\xa0"]
    drawn: list[Drawn] = [(0, pieces[0], TokenLogprob(-0.5, ((0, -0.5), (1, -2.0)))), (1, pieces[1], None)]
    told = chat_logprobs(drawn, pieces.__getitem__)
    first, second = told["content"]
    assert first == {
        "token": "a",
        "logprob": -0.5,
        "bytes": [97],
        "top_logprobs": [
            {"token": "a", "logprob": -0.5, "bytes": [97]},
            {"token": "\ufffd", "logprob": -2.0, "bytes": [0xE4, 0xBD]},
        ],
    }
    assert second == {"token": "\ufffd", "logprob": 0.0, "bytes": [0xE4, 0xBD], "top_logprobs": []}, "a forced one"
    assert told["refusal"] is None


def test_the_older_shape() -> None:
    pieces = [b"ab", "你".encode(), b"c"]
    drawn: list[Drawn] = [
        (0, pieces[0], TokenLogprob(-0.5, ((0, -0.5),))),
        (1, pieces[1], None),
        (2, pieces[2], TokenLogprob(-math.inf, ())),
    ]
    assert text_logprobs(drawn, pieces.__getitem__, 5) == {
        "tokens": ["ab", "你", "c"],
        "token_logprobs": [-0.5, 0.0, -9999.0],
        "top_logprobs": [{"ab": -0.5}, {}, {}],
        "text_offset": [5, 7, 8],
    }


@pytest.mark.parametrize(("value", "told"), [(-1.5, -1.5), (-math.inf, -9999.0), (0.0, 0.0)])
def test_numbers_are_json(value: float, told: float) -> None:
    assert finite(value) == told and json.dumps(finite(value), allow_nan=False)
