"""Counts requests, and tells the log of them: never what was asked or answered, nor by which key."""

from __future__ import annotations

import time
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from edge.server.serving import Serving


class Watch:
    """ASGI middleware around everything."""

    def __init__(self, app: ASGIApp, serving: Serving) -> None:
        self._app, self._serving = app, serving

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, began = 0, time.monotonic()

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, sending)
        except Exception as error:
            self._serving.note(error)
        finally:
            endpoint = endpoint_of(scope)
            self._serving.metrics.requests.labels(endpoint, str(status)).inc()
            self._serving.tell(f"{scope['method']} {endpoint} {status} {time.monotonic() - began:.2f} s")


def endpoint_of(scope: Scope) -> str:
    """The route, not the path that was asked for: anybody can ask for anything."""
    route: Any = scope.get("route")
    return getattr(route, "path", scope["path"] if scope["path"] == "/openapi.json" else "other")
