"""Which format is chosen, and that our own templates write what is read."""

from __future__ import annotations

import pytest

from convert.own_templates import CHATGLM3, CHATML, GLM4
from edge.chat import template as own
from edge.chat.chatglm3 import ChatGlm3
from edge.chat.formats import format_for
from edge.chat.glm4 import Glm4
from edge.chat.glm4_5 import Glm45
from edge.chat.hermes import Hermes
from edge.chat.output import collect
from edge.chat.qwen3_coder import Qwen3Coder
from edge.chat.template import ChatTemplate, TemplateError
from tests.edge.chat.answers import OSLO, TEMPLATES, TOOLS, calls

CHOSEN = {
    "qwen2.5": (Hermes, False),
    "qwen3": (Hermes, True),
    "qwen3-coder": (Qwen3Coder, False),
    "qwen3.5": (Qwen3Coder, True),
    "glm-4.6": (Glm45, True),
    "glm-4-0414": (Glm4, False),
    "glm-4": (Glm4, False),
    "chatglm3": (ChatGlm3, False),
}


@pytest.mark.parametrize("name", CHOSEN)
def test_the_template_tells(name: str) -> None:
    template, arch = TEMPLATES[name]
    chosen = format_for(template, arch, TOOLS)
    assert (type(chosen.calls), chosen.thinks) == CHOSEN[name]
    assert format_for(template, arch, None).calls is None


def test_our_own_templates() -> None:
    """Templates for files and checkpoints that have none."""
    assert type(format_for(CHATGLM3, "chatglm", TOOLS).calls) is ChatGlm3
    assert type(format_for(GLM4, "chatglm", TOOLS).calls) is Glm4
    assert type(format_for(own.GLM4, "glm4", TOOLS).calls) is Glm4
    for template in (CHATML, own.CHATML, None, ""):
        assert format_for(template, "qwen2", TOOLS).calls is None


@pytest.mark.parametrize(
    ("template", "content"),
    [
        (GLM4, '{"city": "Oslo"}'),
        (CHATGLM3, "```python\ntool_call(city='Oslo')\n```"),
    ],
)
def test_calls_in_the_history_are_read_back(template: str, content: str) -> None:
    source = ChatTemplate(template)
    ask = {"role": "user", "content": "?"}
    prompt = source.render([ask])
    answer = {"role": "assistant", "metadata": "get_weather", "content": content}
    text = source.render([ask, answer], add_generation_prompt=False).removeprefix(prompt)
    parser = format_for(template, "chatglm", TOOLS).parser(prompt)
    assert collect([*parser.feed(text), *parser.finish(cut=False)]) == calls(OSLO)
    text = source.render([ask, {"role": "assistant", "content": "2"}], add_generation_prompt=False)
    parser = format_for(template, "chatglm", TOOLS).parser(prompt)
    told = collect([*parser.feed(text.removeprefix(prompt)), *parser.finish(cut=False)])
    assert told.content == "2"


def test_our_own_templates_tell_of_tools_and_calls() -> None:
    """They left tools out, so that a model was never told of those that it was offered."""
    tool = {"type": "function", "function": {"name": "get_weather", "parameters": {"title": "城市"}}}
    call = {
        "type": "function",
        "function": {"name": "get_weather", "arguments": {"city": "Oslo", "days": 3, "x": True}},
    }
    talk = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "rain"},
    ]
    told = ChatTemplate(GLM4).render(talk, tools=[tool])
    assert '## get_weather\n\n{\n    "name": "get_weather",\n' in told and "城市" in told
    assert told.endswith(
        '<|user|>\n?<|assistant|>get_weather\n{"city": "Oslo", "days": 3, "x": true}<|observation|>\nrain<|assistant|>'
    )
    told = ChatTemplate(CHATGLM3).render(talk, tools=[tool])
    assert 'following tools:\n[{\n    "name": "get_weather",\n' in told and "城市" in told
    assert told.endswith(
        '<|user|>\n ?<|assistant|>get_weather\n ```python\ntool_call(city="Oslo", days=3, x=True)\n```'
        "<|observation|>\n rain<|assistant|>"
    )


def test_tools_that_a_template_leaves_out_are_refused() -> None:
    with pytest.raises(TemplateError, match="no place for tools"):
        ChatTemplate(CHATML).render([{"role": "user", "content": "?"}], tools=TOOLS)
