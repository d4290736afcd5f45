"""What a model's answer is made of: thoughts, content, tool calls; as events while it is written.

A parser is fed pieces of the answer's text, however they were cut. Joined, the events are the same for every
cut: see ``collect``. Nothing is lost: what is neither a tag nor white space around one, comes out again.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class Content:
    """The next piece of the answer."""

    text: str


@dataclass(frozen=True)
class Reasoning:
    """The next piece of the model's thoughts."""

    text: str


@dataclass(frozen=True)
class CallBegin:
    """A tool call begins. ``index`` counts the answer's calls, from 0."""

    index: int
    name: str


@dataclass(frozen=True)
class CallArguments:
    """A piece of the arguments. All pieces of a call joined are one JSON object."""

    index: int
    text: str


@dataclass(frozen=True)
class CallEnd:
    index: int


@dataclass(frozen=True)
class Unfinished:
    """A tool call that the limit cut off: its text from the opening tag on, as the model wrote it."""

    text: str


Event = Content | Reasoning | CallBegin | CallArguments | CallEnd | Unfinished


class Parser(Protocol):
    """Reads one answer."""

    def feed(self, text: str) -> list[Event]:
        """What is certain by now. Only text that may still become a tag is held back, and a call until it is whole."""
        ...

    def finish(self, cut: bool) -> list[Event]:
        """The rest. ``cut``: a limit ended the answer, not the model. To be called once, at the end."""
        ...


@dataclass(frozen=True)
class Call:
    """A tool call; ``arguments`` is the text of a JSON object."""

    name: str
    arguments: str


@dataclass(frozen=True)
class Answer:
    """A whole answer. ``unfinished`` is the text of a call that the limit cut off."""

    content: str = ""
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    unfinished: str = ""


def collect(events: Iterable[Event]) -> Answer:
    """The answer that all its events, in order, tell of."""
    content, reasoning, unfinished = [], [], []
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for event in events:
        match event:
            case Content(text):
                content.append(text)
            case Reasoning(text):
                reasoning.append(text)
            case Unfinished(text):
                unfinished.append(text)
            case CallBegin(index, name):
                names[index], arguments[index] = name, ""
            case CallArguments(index, text):
                arguments[index] += text
            case CallEnd():
                pass
    calls = tuple(Call(names[index], arguments[index]) for index in sorted(names))
    return Answer("".join(content), "".join(reasoning), calls, "".join(unfinished))


def kept_back(text: str, tags: Iterable[str]) -> int:
    """Length of the longest end of ``text`` that is the beginning of a tag, but not a whole one."""
    return max((size for tag in tags for size in range(1, len(tag)) if text.endswith(tag[:size])), default=0)


class PlainParser:
    """Everything is content."""

    def feed(self, text: str) -> list[Event]:
        return [Content(text)] if text else []

    def finish(self, cut: bool) -> list[Event]:
        return []
