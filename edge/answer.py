"""One answer while it comes: the engine's tokens in, text, thoughts and tool calls out. Knows no threads."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from convert.errors import EdgeError
from edge.chat.output import (
    Call,
    CallArguments,
    CallBegin,
    CallEnd,
    Content,
    Event,
    Parser,
    Reasoning,
    Unfinished,
    collect,
)
from edge.engine.types import Finished, Timings, Token, TokenLogprob
from edge.sentence import next_end
from edge.text import TextStream


@dataclass(frozen=True)
class Delta:
    """What came next: content, thoughts, a part of a tool call, or the text of a call that the limit cut off."""

    text: str = ""
    reasoning: str = ""
    call: CallBegin | CallArguments | CallEnd | Unfinished | None = None


@dataclass(frozen=True)
class Result:
    """A whole answer. ``finish_reason``: stop, length, tool_calls or cancelled; ``stopped``: the stop string found.

    ``tokens`` are all that were generated, but for the one that ended the answer; ``logprobs`` of each, where asked
    for, None for those that a grammar forced. ``unfinished`` is the text of a tool call that the limit cut off.
    """

    text: str
    finish_reason: str
    timings: Timings
    reasoning: str = ""
    calls: tuple[Call, ...] = ()
    unfinished: str = ""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob | None, ...] = ()
    stopped: str | None = None


class Reader:
    """Reads one answer. ``cancel`` is called at a stop string, and where ``end_soon`` ends it; ``result`` or ``error``
    is there at the end."""

    def __init__(self, parser: Parser, stops: Sequence[str], cancel: Callable[[], None]) -> None:
        self.result: Result | None = None
        self.error: EdgeError | None = None
        self.cancel = cancel
        self._parser = parser
        self._text = TextStream(stops)
        self._events: list[Event] = []
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob | None] = []
        self._ending: str | None = None  # the content so far, once it is to end with a sentence
        self._ended = False

    def end_soon(self) -> None:
        """The content is to end with the sentence it is in, by the reason ``length``. Nothing that came is taken back,
        and thoughts and tool calls have no such end: they go on."""
        if self._ending is None:
            self._ending = collect(self._events).content

    def feed(self, event: Token | Finished) -> list[Delta]:
        """What one event of the engine adds. Raises the error that ended the request."""
        if isinstance(event, Finished):
            return self._finish(event)
        if self._text.stopped is not None or self._ended:  # drawn before the engine heard of it
            return []
        self.tokens.append(event.token)
        self.logprobs.append(event.logprob)
        found = self._parser.feed(self._text.feed(event.data))
        if self._ending is not None:
            found = self._up_to_end(found)
        if self._text.stopped is not None or self._ended:
            self.cancel()
        return self._keep(found)

    def _up_to_end(self, events: Sequence[Event]) -> list[Event]:
        """What is left of them where the content ends, if it does."""
        kept: list[Event] = []
        for event in events:
            if isinstance(event, Content):
                before = self._ending or ""
                self._ending = before + event.text
                if (end := next_end(self._ending, len(before))) is not None:
                    self._ended = True
                    rest = event.text[: end - len(before)]
                    return [*kept, Content(rest)] if rest else kept
            kept.append(event)
        return kept

    def _finish(self, event: Finished) -> list[Delta]:
        if event.error is not None:
            self.error = event.error
            raise event.error
        rest = self._text.finish()
        stopped = self._text.stopped
        reason = "length" if self._ended else event.reason if stopped is None else "stop"
        found = [*self._parser.feed(rest), *self._parser.finish(cut=reason != "stop")]
        deltas = self._keep([] if self._ended else found)
        answer = collect(self._events)
        self.result = Result(
            answer.content,
            "tool_calls" if answer.calls and reason == "stop" else reason,
            dataclasses.replace(event.timings, generated_tokens=len(self.tokens)),
            answer.reasoning,
            answer.calls,
            answer.unfinished,
            tuple(self.tokens),
            tuple(self.logprobs) if any(self.logprobs) else (),
            stopped,
        )
        return deltas

    def _keep(self, events: Sequence[Event]) -> list[Delta]:
        self._events += events
        return [delta_of(event) for event in events]


def delta_of(event: Event) -> Delta:
    match event:
        case Content(text):
            return Delta(text=text)
        case Reasoning(text):
            return Delta(reasoning=text)
        case CallBegin() | CallArguments() | CallEnd() | Unfinished():
            return Delta(call=event)
