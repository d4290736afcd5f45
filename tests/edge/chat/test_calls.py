"""Tool calls in all formats: what is read, that cuts do not matter, and that nothing is lost."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.chat import calls as calls_module
from edge.chat.calls import Found
from edge.chat.output import Answer, CallArguments, CallBegin, CallEnd, Content, collect
from edge.chat.qwen3_coder import Qwen3Coder
from tests.edge.chat.answers import FORMATS, coder, events, glm, parser, read

CASES = [(name, text) for name, table in FORMATS.items() for text in table]
pytestmark = pytest.mark.filterwarnings("ignore:.*invalid escape sequence")  # pytest drops our filter
SHORT = [(name, text) for name, text in CASES if len(text) < 800]
PIECES = {
    "qwen3": ["<tool_call>", "</tool_call>", '{"name": "a"', ', "arguments": {"b": 1}', "}", '"', "\n", "<think>"],
    "qwen3.5": ["<tool_call>", "<function=f>", "<parameter=a>", "</parameter>", "</function>", "</tool_call>", "\n"],
    "glm-4.6": ["<tool_call>f", "<arg_key>a</arg_key>", "<arg_value>1", "</arg_value>", "</tool_call>", "\n", "<"],
    "glm-4": ["get_weather", "nothing", "\n", "{}", "{", "}", '{"a": "', '"', " "],
    "chatglm3": ["get_weather", "nothing", "\n", "```python\n", "tool_call(", "a=1", ")", "```", " ", "'"],
}
TRIMMED = {"glm-4.6": "\n", "glm-4": "\n ", "chatglm3": "\n "}


@pytest.mark.parametrize(("name", "text"), CASES, ids=lambda value: value[:60])
def test_what_is_read(name: str, text: str) -> None:
    answer = read(name, text)
    want = FORMATS[name][text]
    assert answer == want
    assert all(isinstance(json.loads(call.arguments), dict) for call in answer.calls)


@pytest.mark.parametrize(("name", "text"), SHORT, ids=lambda value: value[:60])
@pytest.mark.parametrize("cut", [False, True])
def test_every_cut_in_two_and_letter_by_letter(name: str, text: str, cut: bool) -> None:
    whole = read(name, text, cut=cut)
    assert collect(events(parser(name), text, cut)) == whole
    for at in range(len(text)):
        assert collect(events(parser(name), [text[:at], text[at:]], cut)) == whole


@given(st.data())
def test_any_cut_of_anything(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(PIECES)))
    pieces = data.draw(st.lists(st.sampled_from(PIECES[name]) | st.text(max_size=3), max_size=12))
    text = "".join(pieces)
    cut = data.draw(st.booleans())
    ends = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    cuts = [text[start:end] for start, end in zip([0, *ends], [*ends, len(text)], strict=True)]
    whole = read(name, text, cut=cut)
    assert collect(events(parser(name), cuts, cut)) == whole
    assert collect(events(parser(name), text, cut)) == whole
    if not whole.calls and not whole.unfinished and not whole.reasoning and "<think>" not in text:
        assert whole.content == text.lstrip(TRIMMED.get(name, ""))


@pytest.mark.parametrize(("name", "text"), SHORT, ids=lambda value: value[:60])
def test_cut_by_the_limit_anywhere(name: str, text: str) -> None:
    """Calls are the whole answer's first ones, and a half one is given as it was written, never filled up."""
    whole = FORMATS[name][text]
    for at in range(len(text)):
        answer = read(name, text[:at], cut=True)
        assert answer.calls == whole.calls[: len(answer.calls)]
        assert text[:at].endswith(answer.unfinished)
        if not answer.calls:
            assert "".join((answer.content + answer.unfinished).split()) == "".join(text[:at].split())


def test_what_a_cut_call_looks_like() -> None:
    text = 'Hm.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Os'
    assert read("qwen3", text, cut=True) == Answer("Hm.", unfinished=text.removeprefix("Hm.\n"))
    assert read("qwen3", text) == Answer(text)
    half = "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n"
    assert read("qwen3.5", half, cut=True) == Answer(unfinished=half)  # more parameters might have come
    whole = '<tool_call>\n{"name": "nothing", "arguments": {}}\n</tool_'
    assert read("qwen3", whole, cut=True) == read("qwen3", whole + "call>")


def test_content_comes_at_once_and_a_call_when_it_is_whole() -> None:
    reader = parser("qwen3")
    assert reader.feed("1 < 2") == [Content("1 < 2")]
    assert reader.feed(" and") == [Content(" and")]
    assert reader.feed(" <tool_") == []
    assert reader.feed("box>") == [Content(" <tool_box>")]
    assert reader.feed('\n<tool_call>{"name": "nothing"') == []
    assert reader.feed("}") == [CallBegin(0, "nothing"), CallArguments(0, "{}"), CallEnd(0)]
    assert reader.feed("</tool_call>") == []
    assert reader.finish(cut=False) == []


def test_a_line_that_is_no_name_is_not_held_back() -> None:
    reader = parser("glm-4")
    assert reader.feed("get_we") == []
    assert reader.feed("ll soon") == [Content("get_well soon")]
    assert reader.feed(" get_we") == [Content(" get_we")]


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_without_tools_nothing_is_a_call(name: str) -> None:
    for text in FORMATS[name]:
        for none in (None, []):
            answer = read(name, text, tools=none)
            assert answer.calls == () and answer.unfinished == ""
            assert text.endswith(answer.content) and not text.removesuffix(answer.content).strip()


def test_a_call_beyond_all_measure_is_content(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls_module, "MAX_CALL", 100)
    for text in (
        '<tool_call>\n{"name": "a", "arguments": {"b": "' + "x" * 100 + '"}}\n</tool_call>',
        '<tool_call>\n{"name": "a", "arguments": {"b": "' + "x" * 100,
    ):
        assert read("qwen3", text) == Answer(text)
        assert collect(events(parser("qwen3"), text, True)) == Answer(text)
    assert read("qwen3", "Hi " * 100 + '<tool_call>{"name": "a"}').calls


def test_a_long_call_is_not_read_at_every_piece(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each token of a long call made the parser read it from its beginning: minutes for a file of 100,000 letters."""
    reads: list[int] = []
    read_call = Qwen3Coder.read

    def counted(self: Qwen3Coder, text: str, *, ended: bool) -> Found | None:
        reads.append(len(text))
        return read_call(self, text, ended=ended)

    monkeypatch.setattr(Qwen3Coder, "read", counted)
    text = coder(("city", "x" * 20_000))
    (call,) = collect(events(parser("qwen3.5"), text + "\nSo.")).calls
    assert json.loads(call.arguments) == {"city": "x" * 20_000}
    assert len(reads) < 6000
    assert min(size for size in reads if size >= len(text) - len("\n</tool_call>")) < len(text) + 3  # and in time


def test_odd_tools_do_no_harm() -> None:
    odd = [None, 3, {}, {"name": 3}, {"function": None}, {"name": "f", "parameters": []}, {"function": {"name": ""}}]
    assert read("glm-4", "f\n{}", tools=odd).calls[0].name == "f"
    assert read("glm-4", "g\n{}", tools=[{}]) == Answer("g\n{}")
    for schema in (True, {"type": 3}, {"type": [3]}, {"anyOf": []}, {"anyOf": 3}, {"enum": [1]}, {"enum": 3}):
        tools = [{"name": "f", "parameters": {"properties": {"a": schema}}}]
        assert json.loads(read("qwen3.5", coder(("a", "1"), name="f"), tools=tools).calls[0].arguments)["a"] in (1, "1")


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=4), JSON_VALUES, max_size=4))
def test_all_json_arguments_come_back(arguments: dict) -> None:
    text = json.dumps({"name": "nothing", "arguments": arguments}, ensure_ascii=False)
    (call,) = read("qwen3", f"<tool_call>\n{text}\n</tool_call>").calls
    assert json.loads(call.arguments) == arguments
    text = json.dumps(arguments, ensure_ascii=False)
    (call,) = read("glm-4", f"nothing\n{text}").calls
    assert json.loads(call.arguments) == arguments
    named = {f"a{index}": value for index, value in enumerate(arguments.values())}
    literals = ", ".join(f"{key}={value!r}" for key, value in named.items())
    (call,) = read("chatglm3", f"nothing\n ```python\ntool_call({literals})\n```").calls
    assert json.loads(call.arguments) == named


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_all_texts_come_back_from_tags(value: str) -> None:
    for name, text in (("qwen3.5", coder(("city", value))), ("glm-4.6", glm(("city", value)))):
        (call,) = read(name, text).calls
        assert json.loads(call.arguments) == {"city": value}


def test_the_tables_hold_calls_and_none() -> None:
    """A table without broken ones would prove little."""
    for table in FORMATS.values():
        assert any(answer.calls for answer in table.values())
        assert any(not answer.calls for answer in table.values())


def test_python_of_a_model_warns_nobody() -> None:
    """A backslash before another letter printed a SyntaxWarning between the user's lines."""
    source = r"""
from edge.chat.formats import format_for
template = "[gMASK]<sop>{% if message.content %} {{ message.content }}"
parser = format_for(template, "chatglm", [{"name": "f"}]).parser()
print(*parser.feed("f\n```python\ntool_call(a='\\d')\n```"))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", source], capture_output=True, text=True, check=True)
    assert "CallEnd" in done.stdout and not done.stderr
