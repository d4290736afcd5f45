from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from edge.constrain import ConstraintSpec
from edge.wire.chat import ChatCall, ChatRequest, chat_call
from edge.wire.fields import WireError

MESSAGES = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "f", "description": "does f", "parameters": {"type": "object"}}}
OTHER = {"type": "function", "function": {"name": "g"}}
NAMED = {"type": "function", "function": {"name": "f"}}


def call_of(**body: Any) -> ChatCall:
    return chat_call(ChatRequest.model_validate({"messages": MESSAGES, **body}))


def wrong(**body: Any) -> str | None:
    """The field that is named."""
    with pytest.raises(WireError) as caught:
        call_of(**body)
    return caught.value.param


def test_nothing_is_added() -> None:
    assert call_of() == ChatCall(MESSAGES, None, "none", True, {}, {})
    assert call_of(model="gpt-4o", stream=True, n=3, seed=5, user="me") == call_of()


@pytest.mark.parametrize(
    ("body", "most"),
    [({"max_tokens": 5}, 5), ({"max_completion_tokens": 5}, 5), ({"max_tokens": 9, "max_completion_tokens": 5}, 5)],
)
def test_the_token_limit_has_two_names(body: dict[str, Any], most: int) -> None:
    assert call_of(**body).options == {"max_tokens": most}


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({"logprobs": True}, {"logprobs": 0}),
        ({"logprobs": True, "top_logprobs": 5}, {"logprobs": 5}),
        ({"logprobs": False}, {}),
        ({"thinking_budget": 0}, {"thinking_budget": 0}),
        ({"service_tier": "flex"}, {"side": True}),
        ({"service_tier": "auto"}, {}),
        ({"grammar": "root ::= x"}, {"constraint": ConstraintSpec("gbnf", "root ::= x")}),
        ({"response_format": {"type": "text"}}, {}),
        ({"response_format": {"type": "json_object"}}, {"constraint": ConstraintSpec("json_object")}),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "null"}}}},
            {"constraint": ConstraintSpec("json_schema", {"type": "null"})},
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            {"constraint": ConstraintSpec("json_schema", {})},
        ),
    ],
)
def test_options(body: dict[str, Any], options: dict[str, Any]) -> None:
    assert call_of(**body).options == options


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"top_logprobs": 0}, "top_logprobs"),
        ({"functions": []}, "functions"),
        ({"unheard_of": 0}, "unheard_of"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema.schema"),
        ({"grammar": "x", "response_format": {"type": "json_object"}}, "grammar"),
        ({"chat_template_kwargs": {"tools": []}}, "chat_template_kwargs"),
        ({"tools": [TOOL, TOOL]}, "tools"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "h"}}}, "tool_choice"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": NAMED}, "tool_choice"),
    ],
)
def test_what_cannot_be_is_named(body: dict[str, Any], param: str) -> None:
    assert wrong(**body) == param


@pytest.mark.parametrize(
    ("choice", "expected"), [("auto", "auto"), ("required", "required"), (NAMED, "f"), (None, "auto"), ("none", "none")]
)
def test_choices_of_tools(choice: Any, expected: str) -> None:
    call = call_of(tools=[TOOL, OTHER], tool_choice=choice, parallel_tool_calls=False)
    assert call.tool_choice == expected and not call.parallel
    if expected == "none":
        assert call.tools is None, "the model does not hear of them"
    else:
        empty = {"type": "object", "properties": {}}
        assert call.tools == [TOOL, {"type": "function", "function": {"name": "g", "parameters": empty}}]


@pytest.mark.parametrize("tools", [[], None])
@pytest.mark.parametrize("choice", ["auto", "none", None])
def test_no_tools(tools: Any, choice: Any) -> None:
    call = call_of(tools=tools, tool_choice=choice)
    assert call.tools is None and call.tool_choice == "none"


def test_tools_keep_what_they_came_with() -> None:
    function = {"name": "f", "strict": True, "parameters": {"type": "object", "properties": {"a": {"default": None}}}}
    (tool,) = call_of(tools=[{"type": "function", "function": function}]).tools or []
    assert tool == {"type": "function", "function": function}


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "名", "a\n"])
def test_names_that_are_none(name: str) -> None:
    with pytest.raises(ValidationError):
        call_of(tools=[{"type": "function", "function": {"name": name}}])


@pytest.mark.parametrize(
    ("effort", "thinks"), [("none", False), ("minimal", False), ("low", True), ("medium", True), ("high", True)]
)
def test_effort(effort: str, thinks: bool) -> None:
    assert call_of(reasoning_effort=effort).variables == {"enable_thinking": thinks}
    own = {"enable_thinking": not thinks, "level": 3}
    assert call_of(reasoning_effort=effort, chat_template_kwargs=own).variables == own


@pytest.mark.parametrize(
    ("messages", "side"),
    [
        ([{"role": "user", "content": "### Task:\nA title"}], True),
        ([{"role": "system", "content": "x"}, {"role": "user", "content": "### Task: a title"}], True),
        ([*MESSAGES, {"role": "user", "content": "### Task:\nA title"}], False),
        ([{"role": "system", "content": "### Task:\nBe brief"}, *MESSAGES], False),
        ([{"role": "user", "content": [{"type": "text", "text": "### Task:"}]}], False),
    ],
)
def test_side_requests(messages: list[Any], side: bool) -> None:
    assert call_of(messages=messages).options == ({"side": True} if side else {})
