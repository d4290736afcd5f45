"""``POST /v1/chat/completions``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge.answer import Delta
from edge.json_schema import ConstraintError
from edge.prepare import Prepared
from edge.server.body import read, takes
from edge.server.events import events_of
from edge.server.job import Job
from edge.server.serving import Serving, serving_of
from edge.server.stream import EventStream, answered
from edge.wire.answers import ChatChunks, Head, chat_choice, head, timings_json, usage
from edge.wire.chat import ChatCall, ChatRequest, chat_call, form_field
from edge.wire.fields import WireError
from edge.wire.logprobs import Drawn, chat_logprobs

router = APIRouter()


@router.post("/v1/chat/completions", **takes(ChatRequest))
async def chat(request: Request, body: Annotated[ChatRequest, read(ChatRequest)]) -> Response:
    """Answer a conversation."""
    serving = serving_of(request)
    call = chat_call(body)
    prepare = preparer(serving, body, call, request)
    job = await answered(request, Job.begin(serving, prepare, body.n, with_tokens=body.logprobs, streams=body.stream))
    if body.stream:
        top = head("chat.completion.chunk", serving.name, serving.fingerprint)
        return EventStream(chunks(job, top, serving, body), job.news, job.close)
    try:
        drawn = await answered(request, job.finish())
    finally:
        job.close()
    results = job.results
    token_bytes = serving.engine.model.token_bytes
    choices = []
    for index, result in enumerate(results):
        logprobs = chat_logprobs(drawn[index], token_bytes) if body.logprobs else None
        choices.append(chat_choice(index, result, logprobs))
    timings = [result.timings for result in results]
    top = head("chat.completion", serving.name, serving.fingerprint)
    return JSONResponse(top.chunk(choices, usage=usage(timings), timings=timings_json(timings[0])))


def preparer(serving: Serving, body: ChatRequest, call: ChatCall, request: Request) -> Callable[[int], Prepared]:
    engine, client = serving.engine, request.scope["client_name"]

    def prepare(choice: int) -> Prepared:
        try:
            return engine.prepare_chat(
                call.messages,
                tools=call.tools,
                tool_choice=call.tool_choice,
                parallel=call.parallel,
                variables=call.variables,
                seed=body.seed_of(choice),
                client=client,
                **call.options,
            )
        except ConstraintError as error:
            raise WireError(str(error), form_field(body), "invalid_schema") from error

    return prepare


def chunks(job: Job, top: Head, serving: Serving, body: ChatRequest) -> AsyncIterator[bytes]:
    writers = [ChatChunks(index) for index in range(body.n)]
    token_bytes = serving.engine.model.token_bytes

    def tell(index: int, delta: Delta, tokens: list[Drawn]) -> dict[str, Any] | None:
        return writers[index].next(delta, chat_logprobs(tokens, token_bytes) if tokens else None)

    return events_of(
        job,
        top,
        serving,
        first=[writer.first() for writer in writers],
        tell=tell,
        last=lambda index, result: writers[index].last(result),
        prompts=1 if body.wants_usage else None,
    )
