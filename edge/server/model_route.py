"""What a client asks of the model itself: its name, its tokenizer, its vectors; and how the server is."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from edge.llama.model import ModelError
from edge.prompt import render_prompt
from edge.server.body import read, takes
from edge.server.errors import Fault
from edge.server.guard import respond
from edge.server.serving import Serving, serving_of
from edge.server.stream import answered
from edge.wire.chat import for_tools, switches
from edge.wire.fields import WireError
from edge.wire.messages import for_template
from edge.wire.texts import (
    DetokenizeRequest,
    EmbeddingRequest,
    TemplateRequest,
    TokenizeRequest,
    embedding_json,
    inputs_of,
)

router = APIRouter()


@router.get("/health")
@router.get("/v1/health", include_in_schema=False)
async def health(request: Request) -> Response:
    """200 when the model answers, 503 while it loads."""
    serving = serving_of(request)
    serving.engine  # noqa: B018 - raises Loading
    return JSONResponse({"status": "ok", "slots": serving.gate.slots, "busy": serving.gate.inside})


@router.get("/metrics")
async def metrics(request: Request) -> Response:
    """Prometheus's text format."""
    return Response(serving_of(request).metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


@router.get("/v1/models")
async def models(request: Request) -> Response:
    """The one that is served; also while it loads."""
    return JSONResponse({"object": "list", "data": [model_json(serving_of(request))]})


@router.get("/v1/models/{name:path}")
async def model(request: Request, name: str) -> Response:
    serving = serving_of(request)
    if name != serving.name:
        return respond(
            Fault(404, "the model does not exist; /v1/models lists the one that is served", "model_not_found")
        )
    return JSONResponse(model_json(serving))


def model_json(serving: Serving) -> dict[str, Any]:
    loaded = serving.loaded
    more: dict[str, Any] = {"quant": serving.level, "status": "ready" if loaded else "loading"}
    if loaded is not None:
        more |= {"n_ctx": loaded.ctx, "n_ctx_train": loaded.model.n_ctx_train, "n_params": loaded.model.n_params}
    return {"id": serving.name, "object": "model", "created": serving.created, "owned_by": "edge", **more}


@router.post("/v1/embeddings", **takes(EmbeddingRequest))
async def embeddings(request: Request, body: Annotated[EmbeddingRequest, read(EmbeddingRequest)]) -> Response:
    """Vectors of length 1."""
    serving = serving_of(request)
    engine, inputs = serving.engine, inputs_of(body)

    async def compute() -> Response:
        data, read_tokens = [], 0
        with serving.gate.enter():
            for index, text in enumerate(inputs):
                tokens = await asyncio.to_thread(engine.model.tokenize, text, add_special=True)
                vector = await serving.embedder.vector(tokens)
                data.append(embedding_json(index, vector, body.encoding_format))
                read_tokens += len(tokens)
        used = {"prompt_tokens": read_tokens, "total_tokens": read_tokens}
        return JSONResponse({"object": "list", "data": data, "model": serving.name, "usage": used})

    return await answered(request, compute())


@router.post("/tokenize", **takes(TokenizeRequest))
async def tokenize(request: Request, body: Annotated[TokenizeRequest, read(TokenizeRequest)]) -> Response:
    """Text to token ids."""
    body.check()
    model = serving_of(request).engine.model
    tokens = await asyncio.to_thread(
        model.tokenize, body.content, parse_special=body.parse_special, add_special=body.add_special
    )
    if not body.with_pieces:
        return JSONResponse({"tokens": tokens})
    pieces = [model.token_bytes(token, special=True).decode("utf-8", "replace") for token in tokens]
    return JSONResponse({"tokens": [{"id": one, "piece": text} for one, text in zip(tokens, pieces, strict=True)]})


@router.post("/detokenize", **takes(DetokenizeRequest))
async def detokenize(request: Request, body: Annotated[DetokenizeRequest, read(DetokenizeRequest)]) -> Response:
    """Token ids to text."""
    body.check()
    model = serving_of(request).engine.model
    try:
        data = await asyncio.to_thread(
            lambda: b"".join(model.token_bytes(token, special=True) for token in body.tokens)
        )
    except ModelError as error:
        raise WireError(error.message, "tokens") from error
    return JSONResponse({"content": data.decode("utf-8", "replace")})


@router.post("/apply-template", **takes(TemplateRequest))
async def apply_template(request: Request, body: Annotated[TemplateRequest, read(TemplateRequest)]) -> Response:
    """The prompt that a conversation becomes."""
    body.check()
    tools, variables = for_tools(body.tools) or None, switches(body.chat_template_kwargs)
    messages = for_template(body.messages)

    def render() -> str:
        prompt, _ = render_prompt(
            serving_of(request).engine.model,
            messages,
            tools=tools,
            add_generation_prompt=body.add_generation_prompt,
            **variables,
        )
        return prompt

    return JSONResponse({"prompt": await asyncio.to_thread(render)})
