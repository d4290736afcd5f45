"""Lines 16 and 25 of what clients depend on: thoughts, and answers of a wanted form behind them."""

from __future__ import annotations

import json
from typing import Any, Literal

import httpx
import openai
import pytest
from pydantic import BaseModel

from tests.edge.server.running import CHAT, HELLO, Served, ask, choices_of, error_of, joined, stream
from tests.edge.server.saying import ASCII, saying, watching

THOUGHT = "<think>\nso be it\n</think>\n\nyes"
SCHEMA = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}, "n": {"enum": [1, 2]}},
    "required": ["ok", "n"],
    "additionalProperties": False,
}
FORM = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": SCHEMA}}


class Form(BaseModel):
    ok: bool
    n: Literal[1, 2]


def message_of(answer: Any) -> Any:
    return answer["choices"][0]["message"]


def test_16_thoughts_are_no_content(speaker: Served, told: httpx.Client, told_sdk: openai.OpenAI) -> None:
    with saying(speaker.engine, THOUGHT, pause=0.001):
        answer, chunks = ask(told, {"messages": HELLO}), stream(told, CHAT, {"messages": HELLO})
        made = told_sdk.chat.completions.create(model="x", messages=HELLO)
    assert message_of(answer)["content"] == joined(chunks) == made.choices[0].message.content == "yes"
    thoughts = made.choices[0].message.reasoning_content
    assert message_of(answer)["reasoning_content"] == joined(chunks, "reasoning_content") == thoughts == "so be it"
    fields = [one["delta"].keys() for one in choices_of(chunks)[1:]]
    assert all(len(names) <= 1 for names in fields), "a delta is of one or the other"


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_16_thoughts_are_taken_back(told: httpx.Client, name: str) -> None:
    messages = [*HELLO, {"role": "assistant", "content": "yes", name: "so be it"}, *HELLO]
    assert f"assistant\n{THOUGHT}<|im_end|>" in ask(told, {"messages": messages}, "/apply-template")["prompt"]


@pytest.mark.parametrize(
    ("body", "thinks"),
    [
        ({}, True),
        ({"reasoning_effort": "high"}, True),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "minimal"}, False),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "none"}, True),
    ],
)
def test_thinking_can_be_turned_off(speaker: Served, told: httpx.Client, body: dict[str, Any], thinks: bool) -> None:
    with saying(speaker.engine, "x"), watching(speaker.engine) as seen:
        ask(told, {"messages": HELLO, **body})
    closed = speaker.engine.model.tokenize("</think>")[0] in seen[0].request.tokens
    assert closed is not thinks


def test_a_budget_for_thoughts(told: httpx.Client) -> None:
    for budget in (0, 3):
        body = {"messages": HELLO, "thinking_budget": budget, "max_tokens": 40, "grammar": 'root ::= "yes"', **ASCII}
        answer = ask(told, body)
        assert message_of(answer)["content"] == "yes"
        assert answer["usage"]["completion_tokens"] <= budget + len("\n") + 1 + len("\n\nyes")


@pytest.mark.parametrize("streams", [False, True])
def test_25_the_form_begins_behind_the_thoughts(told: httpx.Client, streams: bool) -> None:
    body = {"messages": HELLO, "response_format": FORM, "thinking_budget": 5, "seed": 1, **ASCII}
    text = joined(stream(told, CHAT, body)) if streams else message_of(ask(told, body))["content"]
    Form.model_validate(json.loads(text))
    assert "<think>" not in text


def test_25_without_thoughts(told: httpx.Client) -> None:
    body = {"messages": HELLO, "response_format": FORM, "reasoning_effort": "none", "seed": 1}
    message = message_of(ask(told, body))
    Form.model_validate_json(message["content"])
    assert "reasoning_content" not in message


def test_25_a_schema_is_kept(client: httpx.Client, sdk: openai.OpenAI) -> None:
    body = {"messages": HELLO, "response_format": FORM, "seed": 3}
    Form.model_validate_json(message_of(ask(client, body))["content"])
    Form.model_validate_json(joined(stream(client, CHAT, body)))
    parsed = sdk.chat.completions.parse(model="x", messages=HELLO, response_format=Form)
    assert isinstance(parsed.choices[0].message.parsed, Form)


def test_25_any_object(client: httpx.Client) -> None:
    body = {"messages": HELLO, "response_format": {"type": "json_object"}, "max_tokens": 40}
    answer = ask(client, body)
    text = message_of(answer)["content"]
    assert text.startswith("{")
    assert answer["choices"][0]["finish_reason"] == "length" or isinstance(json.loads(text), dict)


def test_25_text_is_no_form(client: httpx.Client, served: Served) -> None:
    with watching(served.engine) as seen:
        ask(client, {"messages": HELLO, "response_format": {"type": "text"}, "max_tokens": 2})
    assert seen[0].request.constraint is None


@pytest.mark.parametrize(
    ("schema", "where"),
    [
        ({"type": "object", "properties": {"a": {"type": "nothing"}}}, "$.properties.a"),
        ({"$ref": "https://example.org/schema"}, "example.org"),
        ({"type": "string", "pattern": "("}, "$"),
    ],
)
def test_25_a_schema_that_cannot_be_kept(client: httpx.Client, schema: dict[str, Any], where: str) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    error = error_of(client.post(CHAT, json={"messages": HELLO, "response_format": form}), 400)
    assert error["param"] == "response_format" and error["code"] == "invalid_schema" and where in error["message"]


def test_25_a_schema_is_needed(client: httpx.Client) -> None:
    form = {"type": "json_schema", "json_schema": {"name": "x"}}
    error = error_of(client.post(CHAT, json={"messages": HELLO, "response_format": form}), 400)
    assert error["param"] == "response_format.json_schema.schema"
