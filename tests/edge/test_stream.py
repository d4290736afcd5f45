"""Answers on their way, with events as an engine would send them."""

from __future__ import annotations

import asyncio
import gc
import queue
from collections.abc import Sequence
from typing import Any

import pytest

from edge.answer import Reader
from edge.chat.output import PlainParser
from edge.engine.types import EngineError, Event, Finished, Timings, Token
from edge.stream import Answers, Stream, read_all


class Handle:
    """Counts what is asked of it."""

    def __init__(self) -> None:
        self.cancelled = 0

    def cancel(self) -> None:
        self.cancelled += 1

    def progress(self) -> Any:
        return self


def reader(handle: Handle, stops: Sequence[str] = ()) -> Reader:
    return Reader(PlainParser(), stops, handle.cancel)


def said(text: str) -> list[Event]:
    return [Token(ord(letter), None, letter.encode()) for letter in text]


END = Finished("stop", Timings())
FAULT = Finished("error", Timings(), EngineError("it broke"))


def stream_of(handle: Handle, events: Sequence[Event]) -> Stream:
    coming: queue.SimpleQueue[Event] = queue.SimpleQueue()
    for event in events:
        coming.put(event)
    return Stream(reader(handle), coming)


def test_deltas_then_the_result() -> None:
    stream = stream_of(handle := Handle(), [*said("abc"), END])
    assert [delta.text for delta in stream] == ["a", "b", "c"]
    assert stream.result.text == "abc" and stream.result.finish_reason == "stop" and list(stream) == []
    del stream
    gc.collect()
    assert not handle.cancelled


def test_the_result_waits_for_the_end() -> None:
    assert stream_of(Handle(), [*said("abc"), END]).result.text == "abc"


def test_leaving_early_cancels() -> None:
    stream = stream_of(handle := Handle(), [*said("abc"), END])
    for _ in stream:
        break
    gc.collect()
    assert handle.cancelled


def test_forgetting_cancels() -> None:
    stream = stream_of(handle := Handle(), said("abc"))
    assert not handle.cancelled
    del stream
    gc.collect()
    assert handle.cancelled


def test_an_error_is_told_to_everyone_who_asks() -> None:
    stream = stream_of(Handle(), [*said("a"), FAULT])
    for _ in range(2):
        with pytest.raises(EngineError, match="broke"):
            list(stream)
    with pytest.raises(EngineError, match="broke"):
        _ = stream.result


# --- for asyncio


class Several:
    """Answers, with their handles and the queue of their events."""

    def __init__(self, count: int) -> None:
        self.handles = [Handle() for _ in range(count)]
        self.events: asyncio.Queue[tuple[int, Event]] = asyncio.Queue()
        self.answers = Answers([reader(handle) for handle in self.handles], self.handles, self.events)

    def say(self, index: int, events: Sequence[Event]) -> None:
        for event in events:
            self.events.put_nowait((index, event))


def test_all_that_came_is_read_at_once() -> None:
    async def work() -> None:
        several = Several(2)
        several.say(0, said("ab"))
        several.say(1, said("x"))
        assert [(index, delta.text) for index, delta in await several.answers.read()] == [(0, "a"), (0, "b"), (1, "x")]
        several.say(1, [END])
        assert await several.answers.read() == [], "an end adds nothing"
        assert not several.answers.done and [one.text for one in several.answers.results] == ["x"]
        several.say(0, [*said("c"), END])
        await several.answers.read()
        assert several.answers.done and [one.text for one in several.answers.results] == ["abc", "x"]

    asyncio.run(work())


def test_reading_may_be_given_up_and_taken_up() -> None:
    async def work() -> None:
        several = Several(1)
        for letter in "ab":
            task = asyncio.create_task(several.answers.read())
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            several.say(0, said(letter))
            ((_, delta),) = await several.answers.read()
            assert delta.text == letter
        assert not several.handles[0].cancelled

    asyncio.run(work())


def test_one_error_ends_the_reading() -> None:
    """What was read together with the error was lost."""

    async def work() -> None:
        several = Several(2)
        several.say(0, said("a"))
        several.say(1, [FAULT])
        ((index, delta),) = await several.answers.read()
        assert (index, delta.text) == (0, "a")
        with pytest.raises(EngineError, match="broke"):
            await several.answers.read()
        assert not several.answers.done

    asyncio.run(work())


def test_cancelling_reaches_all() -> None:
    async def work() -> None:
        several = Several(3)
        several.answers.cancel()
        several.answers.cancel()
        assert [handle.cancelled for handle in several.handles] == [2, 2, 2]
        assert several.answers.progress() is several.handles[0]

    asyncio.run(work())


# --- several in a thread


def test_results_come_in_order() -> None:
    handles = [Handle(), Handle()]
    readers = [reader(handles[0]), reader(handles[1], ["STOP"])]
    events: queue.SimpleQueue[tuple[int, Event]] = queue.SimpleQueue()
    for index, event in [*((1, one) for one in said("xSTOPy")), *((0, one) for one in said("ab")), (1, END), (0, END)]:
        events.put((index, event))
    assert [one.text for one in read_all(readers, events, progress=False)] == ["ab", "x"]
    assert [handle.cancelled for handle in handles] == [0, 1], "the stop string ends one, and the other goes on"
