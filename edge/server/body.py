"""Request bodies: strict JSON, checked by a type, and in the API's description."""

from __future__ import annotations

import asyncio
import json
from typing import Any, NoReturn, TypeVar

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from starlette.requests import Request

from edge.wire.fields import WireError

B = TypeVar("B", bound=BaseModel)
REF = "#/components/schemas/{model}"
LARGE = 1 << 18  # bytes: while so many are read, others are answered
DEEPEST = 64  # levels of a body; a schema or a tool's arguments have fewer


def read(kind: type[B]) -> Any:
    """A dependency: the body as ``kind``. Raises WireError, pydantic's ValidationError."""

    async def body(request: Request) -> B:
        data = await request.body()
        if len(data) > LARGE:
            return await asyncio.to_thread(lambda: kind.model_validate(parse(data)))
        return kind.model_validate(parse(data))

    return Depends(body)


def parse(data: bytes) -> Any:
    """Strict JSON: UTF-8, no NaN, no lone surrogates, not too deep."""
    try:
        text = data.decode("utf-8")
        value = json.loads(text, parse_constant=refuse_constant)
    except UnicodeDecodeError:
        raise WireError("the body is not UTF-8", code="invalid_json") from None
    except (ValueError, RecursionError) as error:
        raise WireError(f"the body is not JSON: {str(error)[:100]}", code="invalid_json") from None
    if depth(value) > DEEPEST:
        raise WireError(f"the body is nested deeper than {DEEPEST} levels", code="invalid_json")
    if "\\ud" in text or "\\uD" in text:
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise WireError("the body holds half a character", code="invalid_json") from None
    return value


def refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")


def depth(value: Any) -> int:
    """Levels of lists and objects in each other, counted without recursion."""
    level, deepest = [value], 0
    while level := [one for one in level if isinstance(one, list | dict)]:
        deepest += 1
        if deepest > DEEPEST:
            break
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return deepest


def takes(kind: type[BaseModel]) -> dict[str, Any]:
    """For a route that reads a body: what the description says of it."""
    content = {"application/json": {"schema": {"$ref": REF.format(model=kind.__name__)}}}
    return {"openapi_extra": {"requestBody": {"required": True, "content": content}}}


def describe(app: FastAPI, kinds: list[type[BaseModel]]) -> dict[str, Any]:
    """The OpenAPI document, with the bodies' types."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    schemas = document.setdefault("components", {}).setdefault("schemas", {})
    for kind in kinds:
        schema = kind.model_json_schema(ref_template=REF)
        schemas.update(schema.pop("$defs", {}))
        schemas[kind.__name__] = schema
    return document
