"""``POST /v1/completions``: texts continued as they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge.answer import Delta
from edge.llama.model import Model
from edge.prepare import Prepared
from edge.server.body import read, takes
from edge.server.events import events_of
from edge.server.job import Job
from edge.server.serving import Serving, serving_of
from edge.server.stream import EventStream, answered
from edge.wire.answers import Head, finish_reason, head, text_choice, timings_json, usage
from edge.wire.fields import WireError
from edge.wire.logprobs import Drawn, text_logprobs
from edge.wire.texts import CompletionRequest, Prompt, completion_options, prompts_of

router = APIRouter()


@router.post("/v1/completions", **takes(CompletionRequest))
async def complete(request: Request, body: Annotated[CompletionRequest, read(CompletionRequest)]) -> Response:
    """Continue texts, or fill the gap before a suffix."""
    serving = serving_of(request)
    options, prompts = completion_options(body), prompts_of(body)
    model = serving.engine.model
    echoes = [echo_of(prompt, model) if body.echo else "" for prompt in prompts for _ in range(body.n)]

    def prepare(choice: int) -> Prepared:
        prompt = with_suffix(prompts[choice // body.n], body.suffix, model)
        seed = body.seed_of(choice % body.n)
        return serving.engine.prepare_text(prompt, seed=seed, client=request.scope["client_name"], **options)

    with_tokens = body.logprobs is not None
    begin = Job.begin(serving, prepare, len(echoes), with_tokens=with_tokens, streams=body.stream)
    job = await answered(request, begin)
    top = head("text_completion", serving.name, serving.fingerprint)
    if body.stream:
        return EventStream(chunks(job, top, serving, body, echoes), job.news, job.close)
    try:
        drawn = await answered(request, job.finish())
    finally:
        job.close()
    choices = []
    for index, result in enumerate(job.results):
        logprobs = text_logprobs(drawn[index], model.token_bytes) if with_tokens else None
        choices.append(text_choice(index, echoes[index] + result.text, logprobs, finish_reason(result)))
    timings = [result.timings for result in job.results]
    used = usage(timings, len(prompts))
    return JSONResponse(top.chunk(choices, usage=used, timings=timings_json(timings[0])))


def with_suffix(prompt: Prompt, suffix: str, model: Model) -> Prompt:
    """The prompt for what comes between it and the suffix. Raises WireError where the model never learnt that."""
    if not suffix:
        return prompt
    if model.fim is None or not isinstance(prompt, str):
        raise WireError("this model cannot fill in before a suffix", "suffix", "unsupported_parameter")
    before, behind, middle = model.fim
    return [before, *model.tokenize(prompt), behind, *model.tokenize(suffix), middle]


def echo_of(prompt: Prompt, model: Model) -> str:
    if isinstance(prompt, str):
        return prompt
    try:
        return b"".join(model.token_bytes(token, special=True) for token in prompt).decode("utf-8", "replace")
    except Exception as error:
        raise WireError(str(error), "prompt") from error


def chunks(job: Job, top: Head, serving: Serving, body: CompletionRequest, echoes: list[str]) -> AsyncIterator[bytes]:
    token_bytes = serving.engine.model.token_bytes
    offset = [0] * len(echoes)  # characters of each answer so far

    def tell(index: int, delta: Delta, tokens: list[Drawn]) -> dict[str, Any] | None:
        if not delta.text:
            return None
        logprobs = text_logprobs(tokens, token_bytes, offset[index]) if tokens else None
        offset[index] += len(delta.text)
        return text_choice(index, delta.text, logprobs)

    return events_of(
        job,
        top,
        serving,
        first=[text_choice(index, echo) for index, echo in enumerate(echoes) if echo],
        tell=tell,
        last=lambda index, result: text_choice(index, "", reason=finish_reason(result)),
        prompts=len(echoes) // body.n if body.wants_usage else None,
    )
