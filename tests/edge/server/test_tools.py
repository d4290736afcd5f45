"""Lines 10-14 and 26 of what clients depend on: tool calls, streamed and not."""

from __future__ import annotations

import json
from typing import Any

import httpx
import openai
import pytest

from tests.edge.server.running import CHAT, HELLO, Served, ask, choices_of, error_of, joined, stream
from tests.edge.server.saying import ASCII, saying, watching


def tool(name: str, properties: dict[str, Any] | None = None, **more: Any) -> dict[str, Any]:
    properties = properties or {}
    parameters = {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}
    return {"type": "function", "function": {"name": name, "parameters": parameters, **more}}


WEATHER = tool("weather", {"city": {"enum": ["Oslo", "Rome"]}})
NOW = tool("now")
BODY = {"model": "x", "messages": HELLO, "tools": [WEATHER, NOW]}
OSLO = '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
ROME = OSLO.replace("Oslo", "Rome")
TIME = '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>'
CUT = OSLO[:40]


def calls_of(answer: Any) -> list[tuple[str, Any]]:
    calls = answer["choices"][0]["message"].get("tool_calls", [])
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in calls]


def deltas_of(chunks: list[Any]) -> list[Any]:
    """The parts of tool calls in a stream."""
    return [call for one in choices_of(chunks) for call in one["delta"].get("tool_calls", [])]


def accumulated(chunks: list[Any]) -> list[tuple[str, Any]]:
    """As clients put calls together: by index, strings behind each other."""
    calls: dict[int, list[str]] = {}
    for part in deltas_of(chunks):
        call = calls.setdefault(part["index"], ["", ""])
        call[0] += part["function"].get("name", "")
        call[1] += part["function"]["arguments"]
    return [(name, json.loads(arguments)) for name, arguments in calls.values()]


# --- what a model says by itself


def test_12_calls_in_a_whole_answer(speaker: Served, told: httpx.Client) -> None:
    with saying(speaker.engine, OSLO + "\n" + TIME):
        answer = ask(told, BODY)
    (choice,) = answer["choices"]
    assert choice["finish_reason"] == "tool_calls" and choice["message"]["content"] is None
    for call in choice["message"]["tool_calls"]:
        assert call.keys() == {"id", "type", "function"} and call["type"] == "function" and call["id"]
        assert isinstance(call["function"]["arguments"], str)
    assert calls_of(answer) == [("weather", {"city": "Oslo"}), ("now", {})]
    assert len({call["id"] for call in choice["message"]["tool_calls"]}) == 2
    assert choice["message"]["tool_calls"][1]["function"]["arguments"] == "{}"


@pytest.mark.parametrize("said", [TIME, '<tool_call>\n{"name": "now"}\n</tool_call>', TIME.replace("{}", "null")])
def test_12_no_arguments_are_an_empty_object(speaker: Served, told: httpx.Client, said: str) -> None:
    with saying(speaker.engine, said):
        assert calls_of(ask(told, BODY)) == [("now", {})] == accumulated(stream(told, CHAT, BODY))


def test_11_calls_in_a_stream(speaker: Served, told: httpx.Client) -> None:
    with saying(speaker.engine, OSLO + "\n" + TIME):
        chunks = stream(told, CHAT, BODY)
    assert choices_of(chunks)[-1]["finish_reason"] == "tool_calls"
    parts = deltas_of(chunks)
    for index in range(2):
        first, *rest = [part for part in parts if part["index"] == index]
        assert first.keys() == {"index", "id", "type", "function"} and first["type"] == "function"
        assert first["function"]["arguments"] == "" and first["function"]["name"]
        assert rest and all(part.keys() == {"index", "function"} for part in rest)
        assert all(part["function"].keys() == {"arguments"} for part in rest)
    assert accumulated(chunks) == [("weather", {"city": "Oslo"}), ("now", {})]
    assert joined(chunks) == "", "what is a call is no content"
    assert all(one["delta"].get("content", "") == "" for one in choices_of(chunks))


def test_text_before_a_call(speaker: Served, told: httpx.Client) -> None:
    with saying(speaker.engine, f"Let me see.\n{OSLO}"):
        answer, chunks = ask(told, BODY), stream(told, CHAT, BODY)
    assert answer["choices"][0]["message"]["content"] == joined(chunks) == "Let me see."
    assert calls_of(answer) == accumulated(chunks) == [("weather", {"city": "Oslo"})]


@pytest.mark.parametrize(("said", "whole"), [(CUT, []), (f"{OSLO}\n{CUT}", [("weather", {"city": "Oslo"})])])
def test_10_a_call_that_was_cut_is_none(speaker: Served, told: httpx.Client, said: str, whole: list[Any]) -> None:
    most = len(speaker.engine.model.tokenize(said))
    with saying(speaker.engine, said + OSLO[40:]):
        body = {**BODY, "max_tokens": most}
        answer, chunks = ask(told, body), stream(told, CHAT, body)
    assert answer["choices"][0]["finish_reason"] == choices_of(chunks)[-1]["finish_reason"] == "length"
    assert calls_of(answer) == accumulated(chunks) == whole
    assert answer["choices"][0]["message"]["content"] == joined(chunks) == CUT, "what there is of it is not lost"


def test_14_no_calls_are_no_list(speaker: Served, told: httpx.Client) -> None:
    with saying(speaker.engine, "no"):
        assert "tool_calls" not in ask(told, BODY)["choices"][0]["message"]
        assert not any("tool_calls" in one["delta"] for one in choices_of(stream(told, CHAT, BODY)))


def test_openais_client_reads_calls(speaker: Served, told_sdk: openai.OpenAI) -> None:
    strict = tool("weather", {"city": {"type": "string"}}, strict=True)
    with saying(speaker.engine, OSLO):
        made = told_sdk.chat.completions.create(model="x", messages=HELLO, tools=[strict])
        (call,) = made.choices[0].message.tool_calls
        with told_sdk.chat.completions.stream(model="x", messages=HELLO, tools=[strict]) as parts:
            final = parts.get_final_completion()
    assert final.choices[0].finish_reason == "tool_calls" and final.choices[0].message.tool_calls
    streamed = final.choices[0].message.tool_calls[0]
    assert call.function.name == streamed.function.name == "weather"
    assert json.loads(call.function.arguments) == streamed.function.parsed_arguments == {"city": "Oslo"}
    assert streamed.id.startswith("call_")


# --- what clients send


def prompt_of(told: httpx.Client, messages: list[Any], **more: Any) -> str:
    return ask(told, {"messages": messages, **more}, "/apply-template")["prompt"]


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}, {"content": []}])
@pytest.mark.parametrize("name", ["call_1", "x" * 200, "", "呼叫"])
def test_13_a_call_in_the_history(speaker: Served, told: httpx.Client, content: dict[str, Any], name: str) -> None:
    call = {"id": name, "type": "function", "function": {"name": "weather", "arguments": '{"city": "Oslo"}'}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Is it"}, {"type": "text", "text": "cold?"}]},
        {"role": "assistant", **content, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": name, "content": [{"type": "text", "text": "-5"}]},
    ]
    prompt = prompt_of(told, messages)
    assert "<|im_start|>system\nBe brief.<|im_end|>" in prompt
    assert "<|im_start|>user\nIs it\ncold?<|im_end|>" in prompt
    assert f"<|im_start|>assistant\n{OSLO}<|im_end|>" in prompt, "arguments are an object again"
    assert "<|im_start|>tool\n-5<|im_end|>" in prompt
    with saying(speaker.engine, "yes"):
        assert ask(told, {"messages": messages})["choices"][0]["message"]["content"] == "yes"


@pytest.mark.parametrize("arguments", ["", "{}", {}])
def test_13_empty_arguments_in_the_history(told: httpx.Client, arguments: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "now", "arguments": arguments}}
    assert TIME in prompt_of(told, [*HELLO, {"role": "assistant", "tool_calls": [call]}])


def test_arguments_that_are_no_json_stay_text(told: httpx.Client) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "now", "arguments": "{oops"}}
    assert '"{oops"' in prompt_of(told, [*HELLO, {"role": "assistant", "tool_calls": [call]}])


def test_tools_are_shown_as_they_were_sent(told: httpx.Client) -> None:
    """``strict: false`` was added to each, which the models were not trained with."""
    line = prompt_of(told, HELLO, tools=[WEATHER]).splitlines()[1]
    assert json.loads(line) == WEATHER


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"tools": [NOW, NOW]}, "tools"),
        ({"tools": [tool("no name")]}, "tools.0.function.name"),
        ({"tools": [{"type": "web_search"}]}, "tools.0.type"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice"),
        ({"tools": [], "tool_choice": "required"}, "tool_choice"),
    ],
)
def test_26_wrong_choices_are_named(told: httpx.Client, change: dict[str, Any], param: str) -> None:
    assert error_of(told.post(CHAT, json={**BODY, **change}), 400)["param"] == param


def test_a_template_without_tools_says_so(client: httpx.Client) -> None:
    assert "tools" in error_of(client.post(CHAT, json=BODY), 400)["message"]


# --- what the client demands

DEMAND = {**BODY, "reasoning_effort": "none"}


def test_26_none(speaker: Served, told: httpx.Client) -> None:
    with saying(speaker.engine, OSLO), watching(speaker.engine) as seen:
        answer = ask(told, {**BODY, "tool_choice": "none"})
        ask(told, {"messages": HELLO})
    assert answer["choices"][0]["message"]["content"] == OSLO and answer["choices"][0]["finish_reason"] == "stop"
    assert seen[0].request.tokens == seen[1].request.tokens, "the model does not hear of tools"


def check(answer: Any, chunks: list[Any], names: set[str], count: int | None = None) -> None:
    for calls in (calls_of(answer), accumulated(chunks)):
        assert calls and {name for name, _ in calls} <= names and count in (None, len(calls))
        for name, arguments in calls:
            assert arguments == {} if name == "now" else arguments["city"] in ("Oslo", "Rome")
    assert answer["choices"][0]["message"]["content"] is None and joined(chunks) == ""


def test_26_required(told: httpx.Client) -> None:
    for seed in range(3):
        body = {**DEMAND, "tool_choice": "required", "parallel_tool_calls": False, "seed": seed, "temperature": 1}
        answer, chunks = ask(told, body), stream(told, CHAT, body)
        check(answer, chunks, {"weather", "now"}, 1)
        assert answer["choices"][0]["finish_reason"] == choices_of(chunks)[-1]["finish_reason"] == "tool_calls"


def test_26_required_of_several(told: httpx.Client) -> None:
    calls = calls_of(ask(told, {**DEMAND, "tool_choice": "required", "seed": 1, "max_tokens": 200}))
    assert calls and {name for name, _ in calls} <= {"weather", "now"}


@pytest.mark.parametrize("name", ["weather", "now"])
def test_26_a_named_function(told: httpx.Client, told_sdk: openai.OpenAI, name: str) -> None:
    choice = {"type": "function", "function": {"name": name}}
    body = {**DEMAND, "tool_choice": choice, "parallel_tool_calls": False}
    check(ask(told, body), stream(told, CHAT, body), {name}, 1)
    made = told_sdk.chat.completions.create(**body)
    assert [call.function.name for call in made.choices[0].message.tool_calls] == [name]


def test_26_a_call_is_demanded_behind_the_thoughts(told: httpx.Client) -> None:
    body = {**BODY, **ASCII, "tool_choice": "required", "parallel_tool_calls": False, "thinking_budget": 3, "seed": 2}
    answer = ask(told, body)
    check(answer, stream(told, CHAT, body), {"weather", "now"}, 1)


def test_26_calls_may_be_limited_to_one(told: httpx.Client, speaker: Served) -> None:
    """With auto, too: whatever comes, there are not two calls."""
    with watching(speaker.engine) as seen:
        ask(told, {**BODY, "parallel_tool_calls": False, "max_tokens": 4})
        ask(told, {**BODY, "max_tokens": 4})
    assert seen[0].request.constraint is not None and seen[1].request.constraint is None


def test_26_strict_arguments(told: httpx.Client, speaker: Served) -> None:
    strict = tool("weather", {"city": {"enum": ["Oslo", "Rome"]}}, strict=True)
    with watching(speaker.engine) as seen:
        ask(told, {**BODY, "tools": [strict], "max_tokens": 4})
    assert seen[0].request.constraint is not None
    bad = tool("weather", {"city": {"type": "nothing"}}, strict=True)
    assert "weather" in error_of(told.post(CHAT, json={**BODY, "tools": [bad]}), 400)["message"]
