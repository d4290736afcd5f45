"""Failures as OpenAI words them: the status by the type of the error, the body always of one shape."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from convert.errors import EdgeError
from edge.chat.template import TemplateError
from edge.engine.types import ContextLengthError, RequestError
from edge.json_schema import ConstraintError
from edge.llama.sampler import SamplingError
from edge.text import StopStringError
from edge.wire.fields import WireError


class Busy(EdgeError):
    """Every place is taken. ``seconds``: when to ask again."""

    def __init__(self, seconds: float) -> None:
        super().__init__("the server is busy", "ask again later")
        self.seconds = seconds


class Loading(EdgeError):
    """The model is not there yet."""

    def __init__(self) -> None:
        super().__init__("the model is loading", "ask again in a moment")


class TooLate(EdgeError):
    """The time for an answer ran out before it began."""

    def __init__(self) -> None:
        super().__init__("the time for an answer ran out before it began", "ask again later")


@dataclass(frozen=True)
class Fault:
    """An answer that is an error. ``more`` stands beside the message; ``headers`` of HTTP."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    more: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)

    def body(self) -> dict[str, Any]:
        error = {"message": self.message, "type": kind(self.status), "param": self.param, "code": self.code}
        return {"error": error | self.more}


KINDS = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    429: "rate_limit_error",
    503: "service_unavailable_error",
}


def kind(status: int) -> str:
    return KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")


def retry(seconds: float) -> dict[str, str]:
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def fault_of(error: Exception) -> Fault:
    """What to tell of a failure while a request was answered. An unforeseen one tells nothing of itself: its text may
    hold a prompt or a path."""
    match error:
        case WireError(code=code, param=param):
            return Fault(400, str(error), code, param)
        case ContextLengthError(n_prompt=n_prompt, n_ctx=n_ctx):
            message = (
                f"This model's maximum context length is {n_ctx} tokens. However, your prompt has {n_prompt} tokens: "
                f"it exceeds the available context size."
            )
            more = {"n_prompt_tokens": n_prompt, "n_ctx": n_ctx}
            return Fault(400, message, "context_length_exceeded", more=more)
        case ConstraintError():
            return Fault(400, str(error), "invalid_schema")
        case TemplateError() | StopStringError() | SamplingError() | RequestError():
            return Fault(400, str(error))
        case Busy(seconds=seconds):
            return Fault(429, str(error), "queue_full", headers=retry(seconds))
        case Loading():
            return Fault(503, str(error), "model_loading", headers=retry(2))
        case TooLate():
            return Fault(503, str(error), "deadline_exceeded", headers=retry(10))
        case EdgeError():
            return Fault(500, str(error), "engine_error")
    return Fault(500, "the server failed; its log says how", "internal_error")


def fault_of_field(errors: Sequence[Any]) -> Fault:
    """Of pydantic's errors: the one that came furthest, which names its field."""
    first = max(errors, key=lambda error: len(error["loc"]))
    where = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or is_field(part))
    if first["type"] == "json_invalid":
        return Fault(400, "the body is not JSON", "invalid_json")
    message = str(first["msg"]).removeprefix("Value error, ")
    return Fault(400, f"{where}: {message}" if where else message, "invalid_value", where or None)


def is_field(part: str) -> bool:
    """Not the kind of value that pydantic tried, which it puts between the fields."""
    return part.isidentifier() and part.islower() and part not in ("body", "str")


def fault_of_status(status: int) -> Fault:
    """Of what the framework refuses by itself."""
    phrases = {404: "there is nothing here", 405: "not by this method", 413: "the body is too large"}
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = "refused"
    return Fault(status, phrases.get(status, phrase.lower()), "not_found" if status == 404 else None)
