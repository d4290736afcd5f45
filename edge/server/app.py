"""The application: routes, what errors become, and the guard before them."""

from __future__ import annotations

import asyncio
import dataclasses
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp

import edge
from convert.errors import EdgeError
from edge.engine.types import ContextLengthError
from edge.server import chat_route, kiosk_route, model_route, page_route, text_route
from edge.server.body import describe
from edge.server.errors import fault_of, fault_of_field, fault_of_status
from edge.server.guard import BodyRefused, Guard, respond
from edge.server.notify import Manager
from edge.server.serving import Serving
from edge.server.stream import Gone
from edge.server.watch import Watch
from edge.server.watchdog import supervise
from edge.wire.chat import ChatRequest
from edge.wire.texts import CompletionRequest, DetokenizeRequest, EmbeddingRequest, TemplateRequest, TokenizeRequest

BODIES: list[Any] = [
    ChatRequest,
    CompletionRequest,
    EmbeddingRequest,
    TokenizeRequest,
    DetokenizeRequest,
    TemplateRequest,
    kiosk_route.WipeRequest,
]

PROMPT_FIELDS = {"/v1/chat/completions": "messages", "/v1/completions": "prompt", "/v1/embeddings": "input"}


def make_app(serving: Serving, on_failure: Callable[[], None], manager: Manager | None = None) -> ASGIApp:
    """``on_failure``: called when the model cannot be loaded. ``manager``: told how the server is."""
    os.environ["FASTAPI_OTEL_AUTO_CONFIGURE"] = "false"  # nothing is sent anywhere, whatever the environment says

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        loading = asyncio.create_task(serving.start(on_failure))
        watching = asyncio.create_task(supervise(manager, serving, loading)) if manager else None
        if serving.config.passed is not None:  # who asks there waits, and is not told that the model loads
            await serving.settled.wait()
        yield
        serving.ending = True
        if serving.loaded is not None:  # nobody waits any more for what it computes beforehand
            await asyncio.to_thread(serving.close)
        await loading
        if watching is not None:
            watching.cancel()
        await asyncio.to_thread(serving.close)

    app = FastAPI(
        title="edge",
        version=edge.__version__,
        description="An OpenAI-compatible server for one model.",
        lifespan=life,
        docs_url=None,  # they load scripts from elsewhere
        redoc_url=None,
    )
    app.state.serving = serving
    for route in (chat_route, text_route, model_route, page_route):
        app.include_router(route.router)
    if serving.config.kiosk is not None:
        app.include_router(kiosk_route.router)
    if serving.config.operator_keys:
        from edge.server import operator_route  # with what reads the machine: few servers have it

        app.include_router(operator_route.router)
    handle_errors(app, serving)
    app.openapi = lambda: describe(app, BODIES)  # type: ignore[method-assign]
    return Watch(Guard(app, serving.config), serving)


def handle_errors(app: FastAPI, serving: Serving) -> None:
    async def failed(request: Request, error: Exception) -> Response:
        if isinstance(error, EdgeError):  # others come by the watch, too
            serving.note(error)
        fault = fault_of(error)
        if isinstance(error, ContextLengthError):
            fault = dataclasses.replace(fault, param=PROMPT_FIELDS.get(request.url.path))
        return respond(fault)

    async def wrong_field(request: Request, error: Exception) -> Response:
        assert isinstance(error, ValidationError)
        return respond(fault_of_field(error.errors(include_url=False, include_context=False, include_input=False)))

    async def refused(request: Request, error: Exception) -> Response:
        assert isinstance(error, BodyRefused)
        return respond(error.fault)

    async def not_here(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers = (error.headers or {}).items()
        return respond(fault_of_status(error.status_code), headers)

    async def gone(request: Request, error: Exception) -> Response:
        return Response(status_code=499)  # for the log; nobody reads it

    for kind, handler in (
        (EdgeError, failed),
        (ValidationError, wrong_field),
        (BodyRefused, refused),
        (HTTPException, not_here),
        (Gone, gone),
        (ClientDisconnect, gone),
        (Exception, failed),
    ):
        app.add_exception_handler(kind, handler)
