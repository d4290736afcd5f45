"""Messages as clients send them, and as chat templates take them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from edge.wire.fields import Body, Text, WireError

MOST_MESSAGES = 1 << 15  # no context holds more; rendering them takes long


class Part(BaseModel):
    """A piece of a message's content. Only text is read."""

    model_config = ConfigDict(extra="allow")
    type: Text
    text: Text | None = None


class CalledFunction(Body):
    name: Text
    arguments: Text | dict[str, Any] = "{}"


class ToolCall(Body):
    id: Text = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Body):
    """One message. Fields that are not read, as an audio's id, are left out without a word."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Text | list[Part] = ""
    name: Text | None = None
    tool_calls: list[ToolCall] = []
    tool_call_id: Text | None = None
    reasoning_content: Text | None = None
    reasoning: Text | None = None


Messages = Annotated[list[Message], Field(min_length=1, max_length=MOST_MESSAGES)]


def for_template(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Raises WireError for content that is no text."""
    return [one_for_template(message, index) for index, message in enumerate(messages)]


def one_for_template(message: Message, index: int) -> dict[str, Any]:
    role = "system" if message.role == "developer" else message.role
    given: dict[str, Any] = {"role": role, "content": text_of(message.content, f"messages.{index}.content")}
    for name in ("name", "tool_call_id"):
        if value := getattr(message, name):
            given[name] = value
    if message.tool_calls:
        given["tool_calls"] = [call_for_template(call) for call in message.tool_calls]
    if thoughts := message.reasoning_content or message.reasoning:
        given["reasoning_content"] = thoughts
    return given


def text_of(content: str | Sequence[Part], where: str) -> str:
    if isinstance(content, str):
        return content
    texts = []
    for index, part in enumerate(content):
        if part.type not in ("text", "input_text", "output_text", "refusal") or part.text is None:
            raise WireError(f"this model reads text only, {where}.{index} is {part.type!r:.40}", where)
        texts.append(part.text)
    return "\n".join(texts)


def call_for_template(call: ToolCall) -> dict[str, Any]:
    """Templates take arguments as an object. What is none, an earlier answer's mistake, stays text."""
    arguments: Any = call.function.arguments
    if isinstance(arguments, str):
        try:
            value = json.loads(arguments or "{}")
        except (ValueError, RecursionError):
            value = arguments
        arguments = value if isinstance(value, dict) else arguments
    return {"id": call.id, "type": "function", "function": {"name": call.function.name, "arguments": arguments}}
