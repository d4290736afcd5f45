"""What models write, and what it means."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from edge.chat.formats import format_for
from edge.chat.output import Answer, Call, Event, Parser, collect

# What tells the format, in the chat templates: enough of each for the choice.
TEMPLATES: dict[str, tuple[str, str]] = {
    "qwen2.5": ('<tool_call>\\n{"name": <function-name>', "qwen2"),
    "qwen3": ('<think></think> <tool_call>\\n{"name": <function-name>', "qwen3"),
    "qwen3-coder": ("<tool_call>\\n<function=example>\\n<parameter=a>", "qwen3moe"),
    "qwen3.5": ("<think> <tool_call>\\n<function=example>\\n<parameter=a>", "qwen35"),
    "glm-4.6": ("[gMASK]<sop> <think></think> <tool_call>{name}\\n<arg_key>", "glm4moe"),
    "glm-4-0414": ("[gMASK]<sop>{{ message.content }}", "glm4"),
    "glm-4": ("[gMASK]<sop>{{ message.content }}", "chatglm"),
    "chatglm3": ("[gMASK]<sop>{% if message.content %} {{ message.content }}{% endif %}", "chatglm"),
    "plain": ("<|im_start|>{{ message.content }}", "qwen2"),
}

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "days": {"type": ["integer", "null"]},
                "scale": {"type": "number"},
                "exact": {"type": "boolean"},
                "options": {"type": "object"},
                "days_list": {"type": "array"},
                "when": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
                "unit": {"enum": ["1", "2"]},
                "anything": {},
            },
        },
    },
}
NOTHING: dict[str, Any] = {"name": "nothing"}  # the bare function is accepted too
TOOLS = [WEATHER, NOTHING]


def parser(name: str, prompt: str = "", tools: list[Any] | None = TOOLS) -> Parser:
    template, arch = TEMPLATES[name]
    return format_for(template, arch, tools).parser(prompt)


def events(parser: Parser, pieces: Iterable[str], cut: bool = False) -> list[Event]:
    told = [event for piece in pieces for event in parser.feed(piece)]
    return told + parser.finish(cut)


def read(name: str, text: str, *, prompt: str = "", cut: bool = False, tools: list[Any] | None = TOOLS) -> Answer:
    return collect(events(parser(name, prompt, tools), [text], cut))


def calls(*given: tuple[str, str], content: str = "", reasoning: str = "", unfinished: str = "") -> Answer:
    return Answer(content, reasoning, tuple(Call(*one) for one in given), unfinished)


OSLO = ("get_weather", '{"city": "Oslo"}')

HERMES = {
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>': calls(OSLO),
    'Let me see.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>': calls(
        OSLO, content="Let me see."
    ),
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>\n'
    '<tool_call>\n{"name": "nothing", "arguments": {}}\n</tool_call>\n': calls(OSLO, ("nothing", "{}")),
    '<tool_call>{"name": "nothing"}</tool_call>\nDone.': calls(("nothing", "{}"), content="\nDone."),
    '<tool_call>\n{"name": "nothing", "arguments": null}\n</tool_call>': calls(("nothing", "{}")),
    '<tool_call>\n{"arguments": {"city": ""}, "name": "a"}\n</tool_call>': calls(("a", '{"city": ""}')),
    '<tool_call>\n{"name": "a", "arguments": "{\\"b\\": 1}"}\n</tool_call>': calls(("a", '{"b": 1}')),
    # the model's own text, where it is JSON
    '<tool_call>\n{"name": "a", "arguments": {"b":1.0,\n "c":"\\u5317京"}}\n</tool_call>': calls(
        ("a", '{"b":1.0,\n "c":"\\u5317京"}')
    ),
    '<tool_call>\n{"name": "a", "arguments": {"b": {"c": [1, {"d": null}]}, "🦙": "\\ud83e\\udd99"}}\n</tool_call>': (
        calls(("a", '{"b": {"c": [1, {"d": null}]}, "🦙": "\\ud83e\\udd99"}'))
    ),
    # white space wherever JSON has it
    ('<tool_call>{ "name" : "a" , "arguments" : { "b" : [ 1 , true ] , "c" : -1.5e-3 } }'.replace(" ", " \n" * 12)): (
        calls(("a", '{ "b" : [ 1 , true ] , "c" : -1.5e-3 }'.replace(" ", " \n" * 12)))
    ),
    # a tag in a string, a newline that is not escaped
    '<tool_call>\n{"name": "a", "arguments": {"b": "</tool_call> <tool_call>"}}\n</tool_call>': calls(
        ("a", '{"b": "</tool_call> <tool_call>"}')
    ),
    '<tool_call>\n{"name": "a", "arguments": {"b": "1\n2"}}\n</tool_call>': calls(("a", '{"b": "1\\n2"}')),
    # the model ended without the tag; the next call came without it
    '<tool_call>\n{"name": "nothing", "arguments": {}}': calls(("nothing", "{}")),
    '<tool_call>\n{"name": "a"}\n<tool_call>\n{"name": "b"}': calls(("a", "{}"), ("b", "{}")),
    # no calls
    **{
        text: Answer(text)
        for text in (
            "",
            " \n",
            "1 < 2 <tool <tool_call",
            "<tool_call>",
            "</tool_call>",
            "<tool_call>\nget_weather\n</tool_call>",
            '<tool_call>\n{"name": "a", "arguments": {"b": 1}\n</tool_call> and more',
            '<tool_call>\n{"name": "a", "arguments": {"b": "1}}\n</tool_call>\n',
            '<tool_call>\n{"name": "a", "arguments": [1]}\n</tool_call>',
            '<tool_call>\n{"name": "a", "arguments": "text"}\n</tool_call>',
            '<tool_call>\n{"name": 3, "arguments": {}}\n</tool_call>',
            '<tool_call>\n{"name": "", "arguments": {}}\n</tool_call>',
            '<tool_call>\n{"name": "\\ud800", "arguments": {}}\n</tool_call>',
            '<tool_call>\n{"name": "a", "arguments": {"b": NaN}}\n</tool_call>',
            '<tool_call>\n{"name": "a", "arguments": {"b": 1e999}}\n</tool_call>',
            '<tool_call>\n{"name": "a", "arguments": {"b": ' + "9" * 5000 + "}}\n</tool_call>",
            '<tool_call>\n{"name": "a", "arguments": {"b": ' + "[" * 100_000 + "}}\n</tool_call>",
            '<tool_call>\n{"name": "a" "arguments": {}}\n</tool_call>',
            "<tool_call>\n{}\n</tool_call>",
        )
    },
    # a broken call, then one
    '<tool_call>\n{"name": "a\n</tool_call>\n<tool_call>\n{"name": "b"}\n</tool_call>': calls(
        ("b", "{}"), content='<tool_call>\n{"name": "a\n</tool_call>'
    ),
}


def coder(*parameters: tuple[str, str], name: str = "get_weather") -> str:
    inner = "".join(f"<parameter={key}>\n{value}\n</parameter>\n" for key, value in parameters)
    return f"<tool_call>\n<function={name}>\n{inner}</function>\n</tool_call>"


QWEN3_CODER = {
    coder(("city", "Oslo")): calls(OSLO),
    "I look.\n\n" + coder(("city", "Oslo")) + "\n" + coder(name="nothing"): calls(
        OSLO, ("nothing", "{}"), content="I look."
    ),
    coder(("city", "")): calls(("get_weather", '{"city": ""}')),
    coder(("city", "1\n\n2\n")): calls(("get_weather", '{"city": "1\\n\\n2\\n"}')),
    coder(("city", '"北京" & <b>🦙</b>')): calls(("get_weather", '{"city": "\\"北京\\" & <b>🦙</b>"}')),
    coder(("city", "</function>\n</tool_call> </parameter> x")): calls(
        ("get_weather", '{"city": "</function>\\n</tool_call> </parameter> x"}')
    ),
    coder(("city", "3"), ("days", "3"), ("scale", "2.5"), ("exact", "true")): calls(
        ("get_weather", '{"city": "3", "days": 3, "scale": 2.5, "exact": true}')
    ),
    # as the template prints them in the history
    coder(("days", "None"), ("exact", "False"), ("city", "None")): calls(
        ("get_weather", '{"days": null, "exact": false, "city": "None"}')
    ),
    coder(("options", '{"units": "°C", "list": [1, {}]}'), ("days_list", "[]")): calls(
        ("get_weather", '{"options": {"units": "°C", "list": [1, {}]}, "days_list": []}')
    ),
    # several types; a value of no allowed type; an enumeration
    coder(("when", "3"), ("days", "soon"), ("unit", "1")): calls(
        ("get_weather", '{"when": 3, "days": "soon", "unit": "1"}')
    ),
    # no schema: JSON, but not a string
    coder(("a", "3"), ("b", '"x"'), ("c", "x"), ("d", "null"), ("e", "NaN"), ("f", "True"), name="f"): calls(
        ("f", '{"a": 3, "b": "\\"x\\"", "c": "x", "d": null, "e": "NaN", "f": "True"}')
    ),
    coder(("anything", "[1]")): calls(("get_weather", '{"anything": [1]}')),
    # half a surrogate pair cannot be written as it is
    coder(("options", '{"a": "\\ud800"}')): calls(("get_weather", '{"options": {"a": "\\ud800"}}')),
    # tags left out
    "<function=nothing>\n</function>": calls(("nothing", "{}")),
    "<function=nothing>\n</function>\n</tool_call>\nThen": calls(("nothing", "{}"), content="\nThen"),
    "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n": calls(OSLO),
    "<tool_call>\n<function=get_weather>\n<parameter=city>Oslo</parameter>\n</tool_call>": calls(OSLO),
    **{
        text: Answer(text)
        for text in (
            "def f(a) -> a < b: <function",
            "<tool_call>\n{}\n</tool_call>",
            "<tool_call>\n<function=>\n</function>\n</tool_call>",
            "<tool_call>\n<function= >\n</function>\n</tool_call>",
            "<tool_call>\n<function=f>\nwords\n</function>\n</tool_call>",
            "<tool_call>\n<function=f>\n<parameter=a>\n1\n",
            "<function=" + "f" * 300 + ">\n</function>",
        )
    },
}


def glm(*pairs: tuple[str, str], name: str = "get_weather", line: str = "\n") -> str:
    inner = "".join(f"{line}<arg_key>{key}</arg_key>{line}<arg_value>{value}</arg_value>" for key, value in pairs)
    return f"<tool_call>{name}{inner}{line}</tool_call>"


GLM4_5 = {
    "\n" + glm(("city", "Oslo")): calls(OSLO),
    glm(("city", "Oslo"), line=""): calls(OSLO),
    "\nI look.\n" + glm(("city", "Oslo")) + "\n" + glm(name="nothing"): calls(
        OSLO, ("nothing", "{}"), content="I look."
    ),
    glm(name="nothing", line="") + glm(name="nothing", line=""): calls(("nothing", "{}"), ("nothing", "{}")),
    glm(("city", ""), ("days", "3")): calls(("get_weather", '{"city": "", "days": 3}')),
    glm(("city", "a\nb\n </tool_call></arg_value> 北京"), line=""): calls(
        ("get_weather", '{"city": "a\\nb\\n </tool_call></arg_value> 北京"}')
    ),
    glm(("options", '{"a": {"b": [true]}}'), ("days", "null")): calls(
        ("get_weather", '{"options": {"a": {"b": [true]}}, "days": null}')
    ),
    # the model ended without the last tag
    "<tool_call>nothing": Answer("<tool_call>nothing"),
    glm(("city", "Oslo")).removesuffix("\n</tool_call>"): calls(OSLO),
    **{
        text: Answer(text)
        for text in (
            "a <tool_cal",
            "<tool_call></tool_call>",
            "<tool_call>I think we should</tool_call>",
            "<tool_call>f\n<arg_key>a</arg_key>\n",
            "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>b</tool_call>",
            "<tool_call>" + "f" * 300 + "\n</tool_call>",
        )
    },
}

GLM4 = {
    '\nget_weather\n{"city": "Oslo"}': calls(OSLO),
    'get_weather\n{"city": "Oslo"}\nnothing\n{}\n': calls(OSLO, ("nothing", "{}")),
    'get_weather\n{"city": "Oslo"}nothing\n{}': calls(OSLO, ("nothing", "{}")),  # the token between has no text
    'I look.\nget_weather\n{"city": "a}\\n{", "b": {"c": ["北京"]}}\n\nDone.': calls(
        ("get_weather", '{"city": "a}\\n{", "b": {"c": ["北京"]}}'), content="I look.\n\nDone."
    ),
    "get_weather\n{}": calls(("get_weather", "{}")),
    # the first one's string never ends, as is certain at the end only
    'get_weather\n{"city": "Oslo\nnothing\n{}': calls(("nothing", "{}"), content='get_weather\n{"city": "Oslo'),
    "\n你好": Answer("你好"),
    **{
        text: Answer(text)
        for text in (
            "get_weather is a tool\n{}",
            "I call get_weather\n{}",
            "unknown\n{}",
            "get_weather",
            "get_weather\n",
            "get_weather\n{city: Oslo, and many more words}",
            'get_weather\n{"city": "Oslo}',
        )
    },
}


def chatglm(arguments: str, name: str = "get_weather") -> str:
    return f"{name}\n ```python\ntool_call({arguments})\n```"


CHATGLM3 = {
    chatglm("city='Oslo'"): calls(OSLO),
    chatglm('city="Oslo"').replace("\n ", "\n"): calls(OSLO),
    chatglm("", name="nothing"): calls(("nothing", "{}")),
    chatglm("city='', days=-3, scale=2.5, exact=True, when=None, options={'a': [1, {}]}"): calls(
        (
            "get_weather",
            '{"city": "", "days": -3, "scale": 2.5, "exact": true, "when": null, "options": {"a": [1, {}]}}',
        )
    ),
    chatglm(r"city='北京 \'\n\d ```'"): calls(("get_weather", '{"city": "北京 \'\\n\\\\d ```"}')),
    "\n 你好": Answer("你好"),
    "get_weather\n ```python\ntool_call(city='Oslo')": calls(OSLO),
    **{
        text: Answer(text)
        for text in (
            "```python\nprint(1)\n```",
            "unknown\n ```python\ntool_call()\n```",
            "get_weather\n ```python\nprint(1)\n```",
            chatglm("'Oslo'"),
            chatglm("**{'city': 'Oslo'}"),
            chatglm("city=__import__('os').getcwd()"),
            chatglm("city=b'x'"),
            chatglm("city={1, 2}"),
            chatglm("days=1e999"),
            chatglm("days=2j"),
            chatglm("city='a' 'b' + f'{1}'"),
            chatglm("city="),
            chatglm("city='\0'"),
            chatglm("city=" + "[" * 8000),
            chatglm("days=" + "-" * 8000 + "1"),
            chatglm("days=" + "9" * 5000),
            chatglm("city='" + "x" * 20_000 + "'"),
            chatglm("city='a')\nimport os\nos.getcwd("),
        )
    },
}

FORMATS = {
    "qwen2.5": HERMES,
    "qwen3": HERMES,
    "qwen3-coder": QWEN3_CODER,
    "qwen3.5": QWEN3_CODER,
    "glm-4.6": GLM4_5,
    "glm-4-0414": GLM4,
    "glm-4": GLM4,
    "chatglm3": CHATGLM3,
}
