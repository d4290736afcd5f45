"""Thoughts and the answer proper, apart: ``<think>...</think>`` at the beginning, and only there."""

from __future__ import annotations

from enum import Enum, auto

from edge.chat.output import Event, Parser, Reasoning, kept_back

OPEN, CLOSE = "<think>", "</think>"
AROUND = "\n"  # between tags and text, as the templates write it


class _State(Enum):
    BEGINNING = auto()  # a tag may come
    BEFORE_THOUGHTS = auto()
    THOUGHTS = auto()
    BEFORE_CONTENT = auto()
    CONTENT = auto()


def ends_inside_thoughts(prompt: str) -> bool:
    """Whether the template has begun the thoughts already, so that the answer begins without a tag."""
    return prompt.rstrip().endswith(OPEN)


class ThinkingParser:
    """Takes the thoughts off, and feeds the rest to ``content``.

    ``thinks``: the answer may begin with ``<think>``. ``inside``: the prompt ended with it; a model that writes it
    again means nothing by it. Newlines around tags belong to them; ``trimmed`` are the characters that belong to the
    format before an answer without thoughts. Tags further on are content.
    """

    def __init__(self, content: Parser, *, thinks: bool, inside: bool = False, trimmed: str = "") -> None:
        self._content = content
        self._inside = inside
        self._trimmed = trimmed
        self._held = ""
        self._state = _State.BEGINNING if thinks or inside else _State.BEFORE_CONTENT

    def feed(self, text: str) -> list[Event]:
        self._held += text
        events: list[Event] = []
        if self._state is _State.BEGINNING:
            self._begin()
        if self._state is _State.BEFORE_THOUGHTS:
            self._held = self._held.lstrip(AROUND)
            if self._held:
                self._state = _State.THOUGHTS
        if self._state is _State.THOUGHTS:
            events += self._think()
        if self._state is _State.BEFORE_CONTENT:
            self._held = self._held.lstrip(self._trimmed)
            if self._held:
                self._state = _State.CONTENT
        if self._state is _State.CONTENT:
            events += self._content.feed(self._take(len(self._held)))
        return events

    def finish(self, cut: bool) -> list[Event]:
        rest, self._held = self._held, ""
        if self._state is _State.THOUGHTS or (self._state is _State.BEGINNING and self._inside):
            thoughts = rest.strip(AROUND) if self._state is _State.BEGINNING else rest.rstrip(AROUND)
            return [*([Reasoning(thoughts)] if thoughts else []), *self._content.finish(cut)]
        return [*self._content.feed(rest.lstrip(self._trimmed)), *self._content.finish(cut)]

    def _begin(self) -> None:
        begun = self._held.lstrip()
        if begun.startswith(OPEN):
            self._held = begun[len(OPEN) :]
            self._state = _State.BEFORE_THOUGHTS
        elif not OPEN.startswith(begun):
            self._state = _State.BEFORE_THOUGHTS if self._inside else _State.BEFORE_CONTENT

    def _think(self) -> list[Event]:
        end = self._held.find(CLOSE)
        if end >= 0:
            thoughts = self._take(end).rstrip(AROUND)
            self._take(len(CLOSE))
            self._state, self._trimmed = _State.BEFORE_CONTENT, AROUND
        else:
            certain = len(self._held) - kept_back(self._held, [CLOSE])
            thoughts = self._take(len(self._held[:certain].rstrip(AROUND)))
        return [Reasoning(thoughts)] if thoughts else []

    def _take(self, size: int) -> str:
        taken, self._held = self._held[:size], self._held[size:]
        return taken
