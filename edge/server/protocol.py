"""uvicorn's HTTP/1.1, with errors of one shape and a limit on how long a request's head may take."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from edge.server.errors import Fault

HEAD_SECONDS = 20.0


class Protocol(H11Protocol):
    """A connection that sends half a request, or none, does not stay."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._late = self._watch_head()

    def _watch_head(self) -> asyncio.TimerHandle:
        return self.loop.call_later(HEAD_SECONDS, self._close_late)

    def _close_late(self) -> None:
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._late.cancel()
        elif self._late.cancelled():  # else the time goes on: it is for the whole head, however it comes
            self._late = self._watch_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._late.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """In place of a line of plain text."""
        if self.conn.our_state not in (h11.IDLE, h11.SEND_RESPONSE):  # in the middle of an answer
            self.transport.close()
            return
        fault = Fault(400, "the request is not HTTP as this server reads it", "invalid_request")
        data = json.dumps(fault.body()).encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(data)).encode()),
            (b"connection", b"close"),
        ]
        for event in (
            h11.Response(status_code=400, headers=headers, reason=b"Bad Request"),
            h11.Data(data=data),
            h11.EndOfMessage(),
        ):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
