from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from edge.wire.fields import WireError
from edge.wire.messages import Message, for_template


def templated(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    return for_template([Message.model_validate(message) for message in messages])


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}, {"content": []}])
def test_no_content(content: dict[str, Any]) -> None:
    assert templated({"role": "assistant", **content}) == [{"role": "assistant", "content": ""}]


def test_parts_are_lines() -> None:
    kinds = ("text", "input_text", "output_text", "refusal")
    parts = [{"type": kind, "text": kind[0], "more": 1} for kind in kinds]
    assert templated({"role": "user", "content": parts}) == [{"role": "user", "content": "t\ni\no\nr"}]


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "data:"}},
        {"type": "input_audio", "input_audio": {}},
        {"type": "file", "file": {}},
        {"type": "text"},
        {"type": "text", "text": None},
    ],
)
def test_parts_that_are_no_text(part: dict[str, Any]) -> None:
    with pytest.raises(WireError) as caught:
        templated({"role": "user", "content": "x"}, {"role": "user", "content": [{"type": "text", "text": "x"}, part]})
    assert caught.value.param == "messages.1.content" and "messages.1.content.1" in caught.value.message


def test_a_developer_is_the_system() -> None:
    assert [one["role"] for one in templated({"role": "developer", "content": "x"}, {"role": "system"})] == [
        "system"
    ] * 2


@pytest.mark.parametrize("role", ["robot", "function", "", "System", None, 5])
def test_roles_that_are_none(role: Any) -> None:
    with pytest.raises(ValidationError):
        Message.model_validate({"role": role, "content": "x"})


@pytest.mark.parametrize(
    "given", [{"reasoning_content": "so"}, {"reasoning": "so"}, {"reasoning": "no", "reasoning_content": "so"}]
)
def test_thoughts_have_one_name(given: dict[str, Any]) -> None:
    (message,) = templated({"role": "assistant", "content": "yes", **given})
    assert message == {"role": "assistant", "content": "yes", "reasoning_content": "so"}


def test_what_is_not_read_is_left_out() -> None:
    (message,) = templated(
        {"role": "assistant", "content": "x", "audio": {"id": 1}, "refusal": None, "annotations": []}
    )
    assert message == {"role": "assistant", "content": "x"}


def test_a_tools_answer() -> None:
    given = {"role": "tool", "tool_call_id": "call_1", "name": "now", "content": "noon"}
    assert templated(given) == [given]


@pytest.mark.parametrize(
    ("arguments", "read"),
    [
        ('{"a": [1, "x"]}', {"a": [1, "x"]}),
        ({"a": 1}, {"a": 1}),
        ("", {}),
        ("{}", {}),
        (None, {}),
        ("[1]", "[1]"),
        ('"x"', '"x"'),
        ("{oops", "{oops"),
        ("[" * 100_000, "[" * 100_000),
    ],
)
def test_arguments_become_an_object(arguments: Any, read: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}, "index": 0}
    (message,) = templated({"role": "assistant", "content": None, "tool_calls": [call]})
    assert message["tool_calls"] == [{"id": "1", "type": "function", "function": {"name": "f", "arguments": read}}]
    assert message["content"] == ""


@pytest.mark.parametrize("calls", [None, []])
def test_no_calls(calls: Any) -> None:
    assert "tool_calls" not in templated({"role": "assistant", "content": "x", "tool_calls": calls})[0]


@pytest.mark.parametrize(
    "call", [{"id": "1"}, {"id": "1", "type": "custom", "function": {"name": "f"}}, {"function": {}}, 5]
)
def test_calls_that_are_none(call: Any) -> None:
    with pytest.raises(ValidationError):
        Message.model_validate({"role": "assistant", "tool_calls": [call]})
