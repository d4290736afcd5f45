"""Tool calls between the content of an answer, whatever their format."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from edge.chat.lark import Definitions
from edge.chat.output import Call, CallArguments, CallBegin, CallEnd, Content, Event, Unfinished, kept_back
from edge.chat.written import Function, Written

MAX_CALL = 1 << 18  # characters; a longer one is content
PATIENCE = 1 << 10  # a call is read again when it grew by its PATIENCE-th: the time for long ones stays bounded


class NotACallError(Exception):
    """The text begins like a call, but is none, whatever follows."""


@dataclass(frozen=True)
class Found:
    """A whole call, and how many characters of the text it takes."""

    call: Call
    size: int


class CallFormat(Protocol):
    """How a family writes calls."""

    openings: tuple[str, ...]
    """With one of them a call begins."""
    closing: str
    """May follow a call and be missing: the call is whole without it."""
    own_line: bool
    """The opening is looked for at the beginnings of lines only."""

    def read(self, text: str, *, ended: bool) -> Found | None:
        """The call at the beginning of ``text``, or None if its end is not there yet.

        ``ended``: the model ended its answer here, so missing closing tags will not come. What is found, or refused by
        ``NotACallError``, must not depend on what follows.
        """
        ...

    def written(self, function: Function, definitions: Definitions) -> Sequence[Written]:
        """The ways to write a call that ``read`` takes; the first as the templates teach it.

        Raises ``NotWritableError``.
        """
        ...


class CallParser:
    """Content and calls.

    Calls are told when they are whole. What begins like a call and is none (broken JSON, no name) is content, exactly
    as the model wrote it. White space before a call, and after the last one, belongs to the format.
    """

    def __init__(self, format: CallFormat) -> None:
        self._format = format
        self._opening = re.compile("|".join(map(re.escape, sorted(format.openings, key=len, reverse=True))) or r"(?!)")
        self._held = ""
        self._in_call = False  # _held is white space, then an opening
        self._seen = 0  # characters of _held when the call was last read
        self._may_close = False  # _held may begin with the closing of a call
        self._behind_call = False  # nothing but white space came since a call
        self._line_start = True  # _held begins a line
        self._calls = 0

    def feed(self, text: str) -> list[Event]:
        self._held += text
        if self._in_call and len(self._held) - self._seen < len(self._held) // PATIENCE:
            return []
        return self._work(ended=False)

    def finish(self, cut: bool) -> list[Event]:
        events = self._work(ended=not cut)
        rest, self._held = self._held, ""
        if self._may_close and cut and self._format.closing.startswith(rest.strip()):
            return events
        if rest.strip() or (rest and not self._behind_call):
            events.append(Unfinished(rest.lstrip()) if self._in_call and cut else Content(rest))
        return events

    def _work(self, *, ended: bool) -> list[Event]:
        events: list[Event] = []
        while True:
            if self._may_close and not self._close():
                return events
            if not self._in_call:
                events += self._content()
            if not self._in_call:
                return events
            space = len(self._held) - len(self._held.lstrip())
            try:
                found = self._read(self._held[space:], ended=ended)
            except NotACallError:
                opening = self._opening.match(self._held, space)
                events.append(self._give(opening.end() if opening else len(self._held)))
                self._in_call = False
                continue
            if found is None:
                self._seen = len(self._held)
                return events
            events += self._tell(found.call)
            self._held = self._held[space + found.size :]
            self._in_call, self._may_close, self._behind_call = False, True, True

    def _read(self, text: str, *, ended: bool) -> Found | None:
        found = self._format.read(text[:MAX_CALL], ended=ended and len(text) <= MAX_CALL)
        if found is None and (ended or len(text) > MAX_CALL):
            raise NotACallError
        return found

    def _close(self) -> bool:
        """Drops a closing tag. False: it may still come."""
        rest = self._held.lstrip()
        closing = self._format.closing
        if rest and closing and rest.startswith(closing):
            self._held = rest[len(closing) :]
        elif not rest or (closing and closing.startswith(rest)):
            return False
        self._may_close, self._line_start = False, True
        return True

    def _content(self) -> list[Event]:
        """Gives out all that cannot belong to a call, and stops before an opening."""
        at = self._find_opening()
        certain = len(self._held) - self._kept_back() if at is None else at
        self._in_call = at is not None
        size = len(self._held[:certain].rstrip())
        return [self._give(size)] if size else []

    def _find_opening(self) -> int | None:
        for match in self._opening.finditer(self._held):
            if not self._format.own_line or self._begins_line(match.start()):
                return match.start()
        return None

    def _kept_back(self) -> int:
        size = kept_back(self._held, self._format.openings)
        if not self._format.own_line:
            return size
        lines = range(max(0, len(self._held) - size), len(self._held))
        return max((len(self._held) - at for at in lines if self._may_open(at)), default=0)

    def _may_open(self, at: int) -> bool:
        return self._begins_line(at) and any(opening.startswith(self._held[at:]) for opening in self._format.openings)

    def _begins_line(self, at: int) -> bool:
        before = self._held[:at].rstrip(" ")
        return before.endswith("\n") or (not before and self._line_start)

    def _give(self, size: int) -> Content:
        text, self._held = self._held[:size], self._held[size:]
        self._line_start, self._behind_call = text.endswith("\n"), False
        return Content(text)

    def _tell(self, call: Call) -> list[Event]:
        index = self._calls
        self._calls += 1
        return [CallBegin(index, call.name), CallArguments(index, call.arguments), CallEnd(index)]
