"""Server-sent events, and what happens when the one who asked goes away."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

T = TypeVar("T")

HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",  # a proxy's buffer would hold the first token back
}

QUIET = 1.0  # seconds without a word; clients and proxies give up after 15 or more


class Gone(Exception):
    """The client closed the connection."""


class EventStream(Response):
    """Sends events as they come, and ``news()`` when none did for a while: in a long prefill, or while a tool call is
    written, which is told when it is whole. ``close`` is called at their end, or when the client goes."""

    def __init__(self, events: AsyncIterator[bytes], news: Callable[[], bytes], close: Callable[[], None]) -> None:
        self.status_code, self.background = 200, None
        self.init_headers(HEADERS)  # without a body, whose length it would tell
        self._events, self._news, self._close = events, news, close

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        loop = asyncio.get_running_loop()
        last = loop.time()

        async def put(data: bytes) -> None:
            nonlocal last
            last = loop.time()
            await send({"type": "http.response.body", "body": data, "more_body": True})

        async def keep_alive() -> None:
            while True:
                await asyncio.sleep(max(0.0, last + QUIET - loop.time()))
                if loop.time() >= last + QUIET:
                    await put(self._news())

        async def work() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            heart = asyncio.ensure_future(keep_alive())
            try:
                async for data in self._events:
                    await put(data)
            finally:
                heart.cancel()
            self._close()  # who has seen the end may ask again, and finds the place free
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        try:
            await unless_gone(receive, work())
        except Gone:
            pass
        finally:
            self._close()


async def answered(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """``work``'s result; it is cancelled when the client goes. Raises Gone then."""
    return await unless_gone(request.receive, work)


async def unless_gone(receive: Receive, work: Coroutine[Any, Any, T]) -> T:
    task = asyncio.ensure_future(work)
    watch = asyncio.ensure_future(disconnected(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise Gone
        return task.result()
    finally:
        for one in (task, watch):
            one.cancel()
        await asyncio.gather(task, watch, return_exceptions=True)


async def disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
