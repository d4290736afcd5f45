"""Calls that the models' own templates wrote into the history are read back as the same calls."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.chat.formats import format_for
from edge.chat.output import Answer, collect
from edge.chat.template import ChatTemplate
from tests.oracle.conversations import ASK, CALLS, TOOLS, Conversation, assistant, call
from tests.oracle.test_templates import GLM46, GLM47, QWEN3, QWEN3_CODER, QWEN25, QWEN35, QWQ, template

# template -> (general.architecture, what it writes behind an answer)
ENDS = {
    QWEN25: ("qwen2", "<|im_end|>\n"),
    QWQ: ("qwen2", "<|im_end|>\n"),
    QWEN3: ("qwen3", "<|im_end|>\n"),
    QWEN3_CODER: ("qwen3moe", "<|im_end|>\n"),
    QWEN35: ("qwen35", "<|im_end|>\n"),
    GLM46: ("glm4moe", ""),
    GLM47: ("deepseek2", ""),
}
THINKING = (QWEN3, QWEN35, GLM46, GLM47)
PARAMETERS = {
    "text": {"type": "string"},
    "number": {"type": "integer"},
    "flag": {"type": "boolean"},
    "maybe": {"type": ["integer", "null"]},
    "object": {"type": "object"},
    "array": {"type": "array"},
}
TYPED = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": PARAMETERS}}}


def written(name: str, conversation: Conversation, message: dict[str, Any]) -> tuple[str, str]:
    """The prompt, and what the template makes of the answer to it."""
    source = ChatTemplate(template(name))
    prompt = source.render(conversation.messages, tools=conversation.tools)
    history = source.render([*conversation.messages, message], tools=conversation.tools, add_generation_prompt=False)
    assert history.startswith(prompt)
    text = history.removeprefix(prompt)
    assert text.endswith(ENDS[name][1])
    return prompt, text.removesuffix(ENDS[name][1])


def read_back(name: str, calls: list[Any], content: str, reasoning: str, tools: list[Any]) -> Answer:
    message = assistant(content, tool_calls=calls)
    if name in THINKING:
        message["reasoning_content"] = reasoning
    prompt, text = written(name, Conversation([ASK], tools), message)
    parser = format_for(template(name), ENDS[name][0], tools).parser(prompt)
    whole = collect([*parser.feed(text), *parser.finish(cut=False)])
    parser = format_for(template(name), ENDS[name][0], tools).parser(prompt)
    assert collect([event for piece in text for event in parser.feed(piece)] + parser.finish(cut=False)) == whole
    return whole


def as_given(answer: Answer) -> list[tuple[str, Any]]:
    return [(call.name, json.loads(call.arguments)) for call in answer.calls]


@pytest.mark.parametrize("name", [name for name in ENDS if name != QWQ])
@pytest.mark.parametrize("content", ["", "Let me see:\n\n - one < two"])
@pytest.mark.parametrize("calls", [CALLS[:1], CALLS, [call({}, "nothing"), *CALLS]], ids=["one", "two", "three"])
def test_read_back(name: str, content: str, calls: list[Any]) -> None:
    answer = read_back(name, calls, content, "One\n\nand two.", TOOLS)
    assert as_given(answer) == [(one["function"]["name"], one["function"]["arguments"]) for one in calls]
    assert replace(answer, calls=()) == Answer(content, "One\n\nand two." if name in THINKING else "")


TEXTS = st.text(st.characters(exclude_characters="<", exclude_categories=["Cs"]), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
ARGUMENTS = st.fixed_dictionaries(
    {},
    optional={
        "text": TEXTS,
        "number": st.integers(),
        "flag": st.booleans(),
        "maybe": st.none() | st.integers(),
        "object": st.dictionaries(TEXTS, VALUES, max_size=3),
        "array": st.lists(VALUES, max_size=3),
    },
)


@pytest.mark.parametrize("name", [name for name in ENDS if name != QWQ])
@settings(max_examples=30, deadline=None)
@given(st.lists(ARGUMENTS, min_size=1, max_size=3))
def test_any_arguments_are_read_back(name: str, arguments: list[dict[str, Any]]) -> None:
    answer = read_back(name, [call(one, "f") for one in arguments], "", "Hm.", [TYPED])
    assert as_given(answer) == [("f", one) for one in arguments]
    assert answer.content == "" and answer.unfinished == ""


def test_qwq_begins_inside_thoughts() -> None:
    """Its template drops the thoughts of the history, so that only the prompt's end can be tried."""
    prompt = ChatTemplate(template(QWQ)).render([ASK], tools=TOOLS, enable_thinking=True)
    parser = format_for(template(QWQ), "qwen2", TOOLS).parser(prompt)
    text = 'Hm.\n</think>\n\n<tool_call>\n{"name": "nothing", "arguments": {}}\n</tool_call>'
    answer = collect([*parser.feed(text), *parser.finish(cut=False)])
    assert (answer.reasoning, answer.content, as_given(answer)) == ("Hm.", "", [("nothing", {})])
