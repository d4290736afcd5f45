from __future__ import annotations

import time
from typing import Any

import pytest

from edge.chat.guard import MARKS
from edge.chat.template import ChatTemplate, TemplateError

HELLO = [{"role": "user", "content": "你好"}]
QWEN = {
    "general.architecture": "qwen2",
    "tokenizer.ggml.tokens": ["a", "<bos>", "<eos>"],
    "tokenizer.ggml.bos_token_id": 1,
    "tokenizer.ggml.eos_token_id": 2,
}


def render(source: str, messages: list[dict[str, Any]] | None = None, **variables: Any) -> str:
    return ChatTemplate(source).render(messages or HELLO, **variables)


def test_blocks_leave_no_lines_behind() -> None:
    """trim_blocks and lstrip_blocks are on in the reference library, and off in Jinja: newlines crept in."""
    source = "  {% for m in messages %}\n{{ m.role }}:\n    {% if true %}\nx\n    {% endif %}\n  {% endfor %}\nend"
    assert render(source) == "user:\nx\nend"


def test_tojson_is_not_for_html() -> None:
    """Jinja's own tojson escapes <, >, & and ' and sorts the keys: tools looked unlike in training."""
    value = {"b": "<tag> & 'é' 你", "a": [1, None, True]}
    assert render("{{ x | tojson }}", x=value) == '{"b": "<tag> & \'é\' 你", "a": [1, null, true]}'
    assert render("{{ x | tojson(indent=2) }}", x=[1]) == "[\n  1\n]"
    assert render("{{ x | tojson(ensure_ascii=true) }}", x="你") == '"\\u4f60"'
    assert render("{{ x | tojson(separators=(',', ':'), sort_keys=true) }}", x=value).startswith('{"a":[1,')


def test_loop_controls_and_generation_tag() -> None:
    source = (
        "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}{% if i > 3 %}{% break %}{% endif %}{{ i }}"
    )
    assert render(source + "{% endfor %}") == "023"
    assert render("{% generation %}{{ messages[0].content }}{% endgeneration %}!") == "你好!"


def test_loop_variables_survive_the_charging() -> None:
    source = (
        "{% for m in messages %}{{ loop.index0 }}{{ loop.first }}{{ loop.last }}{{ loop.length }}"
        "{{ loop.previtem is defined }}{{ loop.nextitem is defined }} {% else %}none{% endfor %}"
    )
    two = [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]
    assert render(source, two) == "0TrueFalse2FalseTrue 1FalseTrue2TrueFalse "
    assert render(source.replace("messages", "[]")) == "none"


def test_concatenation_and_macros() -> None:
    assert render("{{ 1 ~ none ~ 'x' ~ [1, 'a'] }}") == "1Nonex[1, 'a']"
    assert render("{% macro f(x, n) %}{% if n %}{{ x }}{{ f(x, n - 1) }}{% endif %}{% endmacro %}{{ f('ab', 3) }}") == (
        "ababab"
    )
    assert render("{% set ns = namespace(a=1) %}{% set ns.a = ns.a + 1 %}{{ ns.a }}") == "2"
    assert (
        render("{% set x %}a{{ 1 }}{% endset %}{{ x * 2 }}{{ '%s-%d' % (x, 7) }}{{ '{}'.format(x) }}") == "a1a1a1-7a1"
    )
    assert render("{{ ['a', 1] | join(', ') }}{{ 'aba' | replace('a', 'x', 1) }}{{ ' b ' | trim }}") == "a, 1xbab"


def test_variables() -> None:
    source = (
        "{{ bos_token }}{{ tools is none }}{{ add_generation_prompt }}{{ enable_thinking }}{{ pad_token is defined }}"
    )
    template = ChatTemplate.from_metadata({**QWEN, "tokenizer.chat_template": source})
    assert template.render(HELLO, enable_thinking=False) == "<bos>TrueTrueFalseFalse"
    assert template.render(HELLO, add_generation_prompt=False, tools=[{}]) == "<bos>FalseFalseFalse"
    assert len(render("{{ strftime_now('%Y-%m-%d') }}")) == 10


def test_thoughts_under_other_names() -> None:
    """Clients send an answer's thoughts as thinking or reasoning too; templates never saw them."""
    source = "{% for m in messages %}{{ m.reasoning_content }}{{ m.content }}{% endfor %}"
    for name in ("reasoning_content", "thinking", "reasoning"):
        answer = {"role": "assistant", "content": "2", name: "hm "}
        assert render(source, [answer]) == "hm 2"
        assert name == "reasoning_content" or "reasoning_content" not in answer
    both = {"role": "assistant", "content": "2", "reasoning_content": None, "thinking": "", "reasoning": "other"}
    assert render(source, [both]) == "2"


def test_what_is_null_in_a_message() -> None:
    """OpenAI's clients send content null beside tool calls: GLM's templates wrote None into the prompt."""
    source = "{% for m in messages %}{{ m.content }}{{ m.tool_calls is defined }}{% endfor %}"
    assert render(source, [{"role": "assistant", "content": None, "tool_calls": None}]) == "False"


def test_a_conversation_of_no_messages() -> None:
    """GLM's templates made a prompt of nothing, which the reference refuses."""
    with pytest.raises(TemplateError, match="no messages"):
        ChatTemplate("[gMASK]<sop>{% for m in messages %}{{ m.content }}{% endfor %}").render([])


@pytest.mark.parametrize(
    ("messages", "complaint"),
    [
        ("hello", "a list, got str"),
        (None, "a list, got NoneType"),
        ({"role": "user", "content": "x"}, "a list, got dict"),
        ((one for one in "ab"), "a list, got generator"),
        (["hello"], r"mapping of role and content, messages\[0\] is 'hello'"),
        ([{"role": "user", "content": "x"}, {"role": "user", "content": 5}], r"content of messages\[1\] is int"),
    ],
)
def test_messages_that_are_none(messages: Any, complaint: str) -> None:
    """The template was blamed, in the words of Python's interpreter; a generator was taken for no messages at all."""
    with pytest.raises(TemplateError, match=complaint):
        ChatTemplate("{{ messages }}").render(messages)
    with pytest.raises(TemplateError, match=complaint):
        ChatTemplate("{{ messages }}").render_segments(messages, ["<|x|>"])


def test_messages_that_cannot_be_guarded() -> None:
    """What was raised was no EdgeError."""
    nested: Any = "x"
    for _ in range(5000):
        nested = [nested]
    template = ChatTemplate("{{ messages[0].content }}")
    for content, complaint in ((nested, "too deep"), ("".join(MARKS), "every mark is in use")):
        with pytest.raises(TemplateError, match=complaint):
            template.render_segments([{"role": "user", "content": content}], ["<|x|>"])


def test_a_variable_may_have_any_name() -> None:
    """``model`` and ``messages`` are names of parameters on the way to the template."""
    variables = {"model": 1, "self": 2, "control_texts": 3}
    found = ChatTemplate("{{ model }}{{ control_texts }}").render_segments([{"role": "user"}], [], **variables)
    assert "".join(one.text for one in found) == "13"


def test_families_without_a_template() -> None:
    talk = [{"role": "system", "content": "S"}, {"role": "user", "content": "U"}]
    assert ChatTemplate.from_metadata(QWEN).render(talk) == (
        "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\n"
    )
    glm = ChatTemplate.from_metadata({"general.architecture": "glm4", "tokenizer.ggml.model": "gpt2"})
    assert glm.render(talk) == "[gMASK]<sop><|system|>\nS<|user|>\nU<|assistant|>\n"
    assert glm.render(talk, add_generation_prompt=False) == "[gMASK]<sop><|system|>\nS<|user|>\nU"
    with pytest.raises(TemplateError, match="no chat template"):
        ChatTemplate.from_metadata({"general.architecture": "llama"})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("a\nb\n{% for %}", "line 3"),
        ("a\n{{ messages[0].content.nothing.more }}", "line 2"),
        ("{{ 1 +\n 'x' }}", "line"),
        ("\n\n{{ messages[0]['content'] + none }}", "line 3"),
        ("{{ raise_exception('only one question\nplease') }}", "refuses these messages: only one question"),
        ("{% include 'x' %}", "line 1"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ cycler.__init__.__globals__ }}", "unsafe"),
        ("{% set ns = namespace() %}{% set ns.__class__ = 1 %}", "namespace"),
        ("{{ messages.append(1) }}", "unsafe"),
        ("{% for x in messages recursive %}{% endfor %}", "recursive"),
        ("{{ " + "(" * 300 + ")" * 300 + " }}", "template"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "template"),
        ("x" * (1 << 20) + "y", "characters"),
    ],
)
def test_a_failure_names_the_line(source: str, message: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(source)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


GROW = "{% for i in range(99) %}"
ENDLESS = [
    "{% for i in range(10 ** 9) %}{% endfor %}",
    "{% for i in range(90000) %}{% for j in range(90000) %}{% endfor %}{% endfor %}",
    "{% for i in range(90000) %}{% for j in range(90000) %}" + "x" * 999 + "{% endfor %}{% endfor %}",
    "{% for i in range(90000) %}{% set x = range(90000) | list %}{% endfor %}",
    "{% for i in range(90000) %}{{ 'x' * 9999 }}{% endfor %}",
    "{{ 'x' * 10 ** 10 }}",
    "{{ 10 ** 9 * 'x' }}",
    "{{ [1] * 10 ** 10 }}",
    "{{ 9 ** 9 ** 9 ** 9 ** 9 ** 9 ** 9 ** 9 ** 9 ** 9 ** 9 }}",
    "{{ '%9999999999d' % 1 }}",
    "{{ '%*d' % (9999999999, 1) }}",
    "{{ '%9999999999d' | format(1) }}",
    "{{ '{:>9999999999}'.format(1) }}",
    "{{ '{:>{}}'.format(1, 9999999999) }}",
    "{{ 'x'.ljust(9999999999) }}",
    "{{ 'x' | center(9999999999) }}",
    "{{ 'x' | indent(9999999999, true) }}",
    "{{ 'xx' | replace('x', 'x' * 9999999) }}",
    "{{ ('x' * 99999).replace('x', 'x' * 99999) }}",
    "{{ ('x' * 99999).join(['a'] * 99999) }}",
    "{{ ['a'] * 99999 | join('x' * 99999) }}",
    "{{ (['a'] * 99999) | join('x' * 99999) }}",
    "{{ [1] | tojson(indent=9999999999) }}",
    "{{ 'x'.translate({120: 'x' * 9999}) }}",
    "{{ (1).to_bytes(9999999999) }}",
    "{{ strftime_now('%9999999999d') }}",
    "{{ lipsum(n=999999) }}",
    "{{ 1.5 | round(9999999999, 'ceil') }}",
    "{% set ns = namespace(s='x') %}" + GROW + "{% set ns.s = ns.s + ns.s %}{% endfor %}",
    "{% set ns = namespace(s='x') %}" + GROW + "{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
    "{% set ns = namespace(s='x') %}" + GROW + "{% set ns.s %}{{ ns.s }}{{ ns.s }}{% endset %}{% endfor %}",
    "{% set ns = namespace(s=[1]) %}" + GROW + "{% set ns.s = [ns.s, ns.s] %}{% endfor %}{{ ns.s }}",
    "{% set ns = namespace(s=1) %}" + GROW + "{% set ns.s = {1: ns.s, 2: ns.s} %}{% endfor %}{{ ns.s | tojson }}",
    "{% set ns = namespace(s=1) %}" + GROW + "{% set ns.s = dict(a=ns.s, b=ns.s) %}{% endfor %}{{ ns.s == 1 }}",
    "{% set ns = namespace(s=2) %}" + GROW + "{% set ns.s = ns.s * ns.s %}{% endfor %}{{ ns.s }}",
    "{% macro f(n) %}{{ f(n - 1) if n else '' }}{{ f(n - 1) if n else '' }}{% endmacro %}{{ f(99) }}",
]


@pytest.mark.parametrize("source", ENDLESS)
def test_what_never_ends_or_fills_the_memory_is_stopped(source: str) -> None:
    start = time.monotonic()
    with pytest.raises(TemplateError):
        render(source)
    assert time.monotonic() - start < 10


def test_a_long_ordinary_chat_is_within_the_budget() -> None:
    talk = [{"role": "user" if i % 2 == 0 else "assistant", "content": "字" * 3000} for i in range(200)]
    text = ChatTemplate.from_metadata(QWEN).render(talk)
    assert text.count("<|im_start|>") == 201
