"""Keeps what people wrote apart from what the template wrote.

A template puts control tokens between messages: ``<|im_end|>``. A user may type the same characters,
and must not be able to end the message, or begin one of the system's, by it.

Before rendering, a mark (a letter of a dead script that occurs nowhere else) is put into every control
text inside the messages and tools, also where the first and last character are missing, which a template
may bring: ``<`` and ``>`` around a name. Nothing else is touched, so templates that trim, split or compare
messages do as always. After rendering, control texts without mark are the template's, and the text is
cut there, where the tokenizer cuts as well; then the marks are dropped. The ids of a harmless chat are
thus exactly those of tokenizing the rendered text in one go.

What is guaranteed: no control token comes from the text of a message or a tool. Two things are outside
of it: a template that itself changes texts into control texts, and tokens such as ``<think>`` that are
not control tokens, which stand for themselves wherever they are written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

# Linear A: printable, without upper or lower case, not white space, unchanged by NFC, in no tokenizer's way.
MARKS = [chr(code) for code in range(0x10600, 0x10637)]
SHORTEST_EDGE = 2  # characters; one side of every cut through a control text is at least as long
SHORTEST_CORE = 3  # characters of a control text less its first and last, to be marked without them


@dataclass(frozen=True)
class Segment:
    """Part of a prompt: a control text of the template, or text in which nothing is special."""

    text: str
    is_markup: bool


def choose_mark(*values: Any) -> str:
    """A mark that occurs in none of the values, nor does its JSON escape."""
    texts = [text for value in values for text in _texts(value)]
    for mark in MARKS:
        if not any(mark in text or _escape(mark) in text for text in texts):
            return mark
    raise ValueError("every mark is in use")


def guard(value: Any, control_texts: Sequence[str], mark: str) -> Any:
    """A copy of JSON-like data with a mark in every control text of its strings and keys.

    A string that begins or ends with a part of a control text gets a mark there too, since its
    neighbour may bring the rest.
    """
    if isinstance(value, str):
        return _edges(_inner(value, control_texts, mark), control_texts, mark)
    if isinstance(value, Mapping):
        return {
            _inner(key, control_texts, mark) if isinstance(key, str) else key: guard(item, control_texts, mark)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [guard(item, control_texts, mark) for item in value]
    return value


def split(rendered: str, control_texts: Iterable[str], mark: str) -> list[Segment]:
    """Cut rendered text at the control texts that have no mark, and drop the marks."""
    texts = sorted(control_texts, key=len, reverse=True)
    pieces = re.split("(" + "|".join(map(re.escape, texts)) + ")", rendered) if texts else [rendered]
    # A template may ask for JSON in ASCII, which escapes the mark.
    unmarked = [piece.replace(mark, "").replace(_escape(mark), "") for piece in pieces]
    segments = [Segment(text, i % 2 == 1) for i, text in enumerate(unmarked)]
    return [segment for segment in segments if segment.text]


def _inner(text: str, control_texts: Sequence[str], mark: str) -> str:
    for control in control_texts:
        core = control[1:-1] if len(control) >= SHORTEST_CORE + 2 else control
        while core in text:
            text = text.replace(core, core[0] + mark + core[1:])
    return text


def _edges(text: str, control_texts: Sequence[str], mark: str) -> str:
    for control in control_texts:
        for cut in range(1, len(control)):
            if cut >= SHORTEST_EDGE and text.endswith(control[:cut]):
                return _edges_front(text + mark, control_texts, mark)
    return _edges_front(text, control_texts, mark)


def _edges_front(text: str, control_texts: Sequence[str], mark: str) -> str:
    for control in control_texts:
        for cut in range(1, len(control) - SHORTEST_EDGE + 1):
            if text.startswith(control[cut:]):
                return mark + text
    return text


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from _texts(key)
            yield from _texts(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _texts(item)


def _escape(mark: str) -> str:
    return json.dumps(mark)[1:-1]
