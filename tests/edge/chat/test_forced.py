"""Calls that must come, and calls that must be right: what the grammars of all formats let a model write."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from convert.pipeline import convert
from edge.chat.calls import CallParser
from edge.chat.formats import format_for
from edge.chat.hermes import Hermes
from edge.chat.lark import searched
from edge.chat.output import Answer, Call, collect
from edge.constrain import Constraint, Grammars
from edge.forced_calls import spec_for_calls
from edge.json_schema import ConstraintError
from edge.llama.model import Model
from tests.edge import tiny_gguf
from tests.edge.chat.answers import TEMPLATES, chatglm, coder, glm
from tests.edge.chat.walks import accepts, allowed, walk
from tests.edge.test_constrain import valid

NAMES = ("qwen3", "qwen3-coder", "glm-4.6", "glm-4", "chatglm3")
pytestmark = pytest.mark.filterwarnings("ignore:.*invalid escape sequence")


@pytest.fixture(scope="module", params=["tiny-qwen", "tiny-glm"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    path = tmp_path_factory.mktemp("forced") / f"{request.param}.gguf"
    convert(Path(str(files("edge.models") / request.param)), {"Q8_0": path})
    with Model(path, vocab_only=True) as model:
        yield model


@pytest.fixture(scope="module")
def grammars(model: Model) -> Grammars:
    return Grammars(model)


def tool(name: str, *, strict: bool | None = None, required: Any = (), **properties: Any) -> dict[str, Any]:
    parameters = {"type": "object", "properties": properties, "required": list(required)}
    return {"type": "function", "function": {"name": name, "strict": strict, "parameters": parameters}}


def constrained(grammars: Grammars, name: str, tools: list[Any], choice: str, parallel: bool = True) -> Constraint:
    template, arch = TEMPLATES[name]
    spec = spec_for_calls(format_for(template, arch, tools).calls, tools, choice, parallel)
    assert spec is not None
    return grammars.compile(spec)


def read(name: str, tools: list[Any], text: str) -> Answer:
    template, arch = TEMPLATES[name]
    calls = format_for(template, arch, tools).calls
    assert calls is not None
    parser = CallParser(calls)
    return collect([*parser.feed(text), *parser.finish(cut=False)])


def hermes(arguments: str, name: str = "f") -> str:
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


CITY = {"type": "string"}
DAYS = {"type": "integer", "minimum": 1, "maximum": 99}
TAUGHT = {
    "qwen3": (hermes('{"city": "Oslo", "days": 3}'), hermes("{}", name="g")),
    "qwen3-coder": (coder(("city", "Oslo"), ("days", "3"), name="f"), coder(name="g")),
    "glm-4.6": (glm(("city", "Oslo"), ("days", "3"), name="f"), glm(name="g")),
    "glm-4": ('f\n{"city": "Oslo", "days": 3}', "g\n{}"),
    "chatglm3": (chatglm('city="Oslo", days=3', name="f"), chatglm("", name="g")),
}
"""The same calls as the templates teach them."""
TWO = [tool("f", city=CITY, days=DAYS, required=["city"]), tool("g")]


@pytest.mark.parametrize("name", NAMES)
def test_calls_as_the_templates_teach_them(model: Model, grammars: Grammars, name: str) -> None:
    first, second = TAUGHT[name]
    for choice, text, parallel in (
        ("required", first, False),
        ("required", second, False),
        ("required", f"\n{first}\n{second}", True),
        ("f", first, False),
        ("g", second, True),
    ):
        constraint = constrained(grammars, name, TWO, choice, parallel)
        assert not constraint.may_stop
        assert accepts(constraint, model, text), (choice, text)
        assert constraint.may_stop
        assert constraint.finished != parallel
    assert read(name, TWO, f"{first}\n{second}").calls == (Call("f", '{"city": "Oslo", "days": 3}'), Call("g", "{}"))


@pytest.mark.parametrize("name", NAMES)
def test_nothing_else_may_come(model: Model, grammars: Grammars, name: str) -> None:
    first, second = TAUGHT[name]
    for choice, text, parallel in (
        ("required", "I call " + first, True),
        ("required", first + "\nDone.", True),
        ("required", first + "\n" + second, False),
        ("required", first.replace("f", "h", 1), True),
        ("f", second, True),
        ("required", first.replace("3", "100"), True),
        ("required", first.replace("3", "soon"), True),
        ("required", first.replace("city", "town"), True),
        ("required", second.replace("g", "f", 1), True),
    ):
        assert not accepts(constrained(grammars, name, TWO, choice, parallel), model, text), text


@pytest.mark.parametrize("name", NAMES)
def test_calls_in_text(model: Model, grammars: Grammars, name: str) -> None:
    """Text is free, a call of a strict function is not, and the answer ends anywhere but in a call."""
    strict = [tool("f", city=CITY, days=DAYS, required=["city"], strict=True), tool("g", x=DAYS)]
    first, second = TAUGHT[name]
    constraint = constrained(grammars, name, strict, "auto")
    assert constraint.may_stop
    for text in ("Let me see. 你好 f\n", "1 < 2 <tool_cal\n", first):
        assert accepts(constraint, model, text)
        assert constraint.may_stop and not constraint.finished
    assert accepts(constraint, model, f" So.\n{second}\n") and constraint.may_stop
    *begun, last = model.tokenize(first)
    for token in begun:
        constraint.accept(token)
    assert not constraint.may_stop
    constraint.accept(last)
    assert accepts(constraint, model, "\nThat is it.") and constraint.may_stop
    for wrong in (first.replace("3", "100"), first.replace("city", "town"), second.replace("g", "f", 1)):
        assert not accepts(constrained(grammars, name, strict, "auto"), model, "Hm.\n" + wrong), wrong
    loose = constrained(grammars, name, strict, "auto", parallel=False)
    assert loose.may_stop
    assert accepts(loose, model, "Hm.\n" + first)
    assert loose.finished


@pytest.mark.parametrize("name", NAMES)
def test_one_call_at_most_without_strict_functions(model: Model, grammars: Grammars, name: str) -> None:
    """Whatever the arguments are: only strict ones are held to their schema."""
    first, _ = TAUGHT[name]
    assert accepts(constrained(grammars, name, TWO, "auto", parallel=False), model, "So:\n" + first.replace("3", "100"))
    odd = [tool("f", x={"type": "nonsense"}), tool("<\n>")]
    constraint = constrained(grammars, name, odd, "auto", parallel=False)
    assert accepts(constraint, model, "So it is.") and constraint.may_stop


def test_the_name_of_a_function_is_also_a_word(model: Model, grammars: Grammars) -> None:
    strict = [tool("f", a=DAYS, required=["a"], strict=True)]
    free = ["f\n", " f\nf\n", "f\n ", "f\nis a letter\n", "x f\n{", "f\n\n{}", "f\ny\n{}", "f {}", "f\n {}"]
    for text in free:
        constraint = constrained(grammars, "glm-4", strict, "auto")
        assert accepts(constraint, model, text) and constraint.may_stop, text
        assert read("glm-4", strict, text).calls == ()
    for before in ("", "f\n", "Hm\n  ", "f\nis a letter\n", '\nf\n{"a": 5}', "f\n\n"):
        constraint = constrained(grammars, "glm-4", strict, "auto")
        assert accepts(constraint, model, before + "f\n{") and not constraint.may_stop, before
        assert accepts(constraint, model, '"a": 7}') and constraint.may_stop
        assert read("glm-4", strict, before + 'f\n{"a": 7}').calls[-1] == Call("f", '{"a": 7}')
        assert not accepts(constrained(grammars, "glm-4", strict, "auto"), model, before + "f\n{}")


STRINGS = st.one_of(
    st.just({"type": "string"}),
    st.builds(lambda least: {"type": "string", "minLength": least, "maxLength": least + 3}, st.integers(0, 3)),
    st.lists(st.text('a"<\\ \n名', max_size=3), min_size=1, max_size=3).map(lambda texts: {"enum": texts}),
    st.sampled_from(["^[a-c]{2,5}$", "x+", "^<", r"^\d\d"]).map(lambda pattern: {"type": "string", "pattern": pattern}),
)
SIMPLE = st.sampled_from([{"type": "boolean"}, {"type": "null"}, DAYS, {"const": "-1"}, {"enum": [1, None, "é"]}])
NESTED = st.builds(
    lambda schema, required: {
        "type": "object",
        "properties": {"x": schema},
        "required": ["x"] if required else [],
        "additionalProperties": False,
    },
    STRINGS | SIMPLE,
    st.booleans(),
)
LISTS = st.builds(lambda schema: {"type": "array", "items": schema, "maxItems": 2}, SIMPLE | NESTED)
MAYBE = st.builds(lambda schema: {"anyOf": [schema, {"type": "null"}]}, STRINGS | NESTED | LISTS)
VALUES = STRINGS | SIMPLE | NESTED | LISTS | MAYBE
TOOLS = st.dictionaries(
    st.sampled_from(["f", "f_g", "get-weather"]),
    st.dictionaries(st.sampled_from(["city", "days", "c", "名字"]), st.tuples(VALUES, st.booleans()), max_size=3),
    min_size=1,
    max_size=2,
)


OPENINGS = {
    **dict.fromkeys(("qwen3", "qwen3-coder", "glm-4.6"), "<tool_call>"),
    "glm-4": "{}\n{{",
    "chatglm3": "{}\n ```python\ntool_call(",
}


def strict_tools(given: dict[str, Any]) -> list[Any]:
    return [
        tool(
            name,
            strict=True,
            required=[key for key, (_, needed) in properties.items() if needed],
            **{key: schema for key, (schema, _) in properties.items()},
        )
        for name, properties in given.items()
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(NAMES), TOOLS, st.booleans(), st.sampled_from(["required", "auto"]), st.integers(0, 999))
def test_walks_are_calls_that_fit(
    model: Model, grammars: Grammars, name: str, given: dict[str, Any], parallel: bool, choice: str, seed: int
) -> None:
    tools = strict_tools(given)
    constraint = constrained(grammars, name, tools, choice, parallel)
    begun = "" if choice == "required" else "Hm.\n" + OPENINGS[name].format(next(iter(given)))
    assert accepts(constraint, model, begun)
    text = begun + walk(constraint, model, seed)
    answer = read(name, tools, text)
    assert answer.calls, text
    schemas = {one["function"]["name"]: one["function"]["parameters"] for one in tools}
    for call in answer.calls:
        schema = schemas[call.name] | {"additionalProperties": False}
        assert valid(json.loads(call.arguments), schema), (text, call)
    assert choice == "auto" or not answer.content, text
    assert parallel or len(answer.calls) <= 1
    assert not any(tag in answer.content for tag in ("<tool_call>", "<function=")), text


def test_a_tag_is_a_token_where_the_vocabulary_has_one(tmp_path: Path) -> None:
    """The grammar's text was spelled by letters, which no model was trained on: tags were not text to the library."""
    tokens, types = tiny_gguf.vocabulary()
    tokens[266:268], types[266:268] = ["<tool_call>", "</tool_call>"], [tiny_gguf.USER_DEFINED] * 2
    changes = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    with Model(tiny_gguf.write(tmp_path / "tags.gguf", changes), vocab_only=True) as model:
        constraint = constrained(Grammars(model), "qwen3", TWO, "g", parallel=False)
        assert 266 in allowed(constraint, model)
        constraint.accept(266)
        forced = constraint.forced()
        assert forced[-1] == 267 and b"".join(map(model.token_bytes, forced)).startswith(b'\n{"name": "g"')
        lazy = constrained(Grammars(model), "qwen3", [tool("g", strict=True)], "auto")
        assert accepts(lazy, model, "Hm. ")
        lazy.accept(266)
        assert not lazy.may_stop and model.token_bytes(lazy.forced()[0]) == b"\n"


def test_a_control_token_is_no_text(tmp_path: Path) -> None:
    """Its text does not reach the parser, so that a tag is spelled."""
    tokens, types = tiny_gguf.vocabulary()
    tokens[266], types[266] = "<tool_call>", tiny_gguf.CONTROL
    changes = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    with Model(tiny_gguf.write(tmp_path / "control.gguf", changes), vocab_only=True) as model:
        constraint = constrained(Grammars(model), "qwen3", TWO, "g", parallel=False)
        assert 266 not in allowed(constraint, model)
        text = walk(constraint, model, 1)
        assert read("qwen3", TWO, text).calls == (Call("g", "{}"),)


def test_nothing_is_constrained_where_nothing_was_asked_for() -> None:
    strict = [tool("f", strict=True)]
    for arguments in (
        (Hermes(), TWO, "auto"),
        (Hermes(), strict, "none"),
        (Hermes(), strict, "none", False),
        (Hermes(), [], "auto", False),
        (Hermes(), None),
        (None, strict, "auto"),
        (Hermes(), [None, 3, {"name": 3}], "auto", False),
    ):
        assert spec_for_calls(*arguments) is None


@pytest.mark.parametrize(
    ("name", "tools", "choice", "message"),
    [
        ("qwen3", TWO, "h", "no function is 'h'"),
        ("qwen3", [], "required", "there are no functions"),
        ("plain", TWO, "required", "not known to call"),
        ("qwen3", [tool("f"), tool("bad", a={"type": "intt"})], "required", "'bad' are refused at $.properties.a.type"),
        ("qwen3-coder", [tool("bad", a={"type": "string", "pattern": "(a"})], "required", "'bad' are refused at"),
        ("glm-4.6", [tool("bad", a={"not": {}})], "bad", "'bad' are refused at $.properties.a.not"),
        (
            "qwen3",
            [{"name": "bad", "parameters": {"type": "array"}}],
            "required",
            "its parameters are no object",
        ),
        ("qwen3", [{"name": "bad", "parameters": [1]}], "required", "'bad': the schema is refused at $"),
        ("qwen3", [tool("bad", a={"enum": [0] * 20_000})], "required", "'bad': the schema has more than"),
        ("glm-4.6", [{"name": "bad", "parameters": {"anyOf": [{}]}}], "required", "'bad' cannot be called"),
        ("glm-4.6", [tool("a b")], "required", "'a b' cannot be called"),
        ("glm-4.6", [tool("bad", **{"a<b": CITY})], "required", "'bad' cannot be called"),
        ("qwen3-coder", [tool("bad", **{"a>b": CITY})], "required", "'bad' cannot be called"),
        ("chatglm3", [tool("bad", **{"a b": CITY})], "required", "'bad' cannot be called"),
        ("chatglm3", [tool("bad", **{"class": CITY})], "required", "'bad' cannot be called"),
        ("glm-4", [tool("two\nlines")], "required", "cannot be called"),
        ("qwen3", [tool(f"f{i}", a={"enum": list(range(3000))}) for i in range(5)], "required", "more than"),
    ],
)
def test_what_cannot_be_asked_for(grammars: Grammars, name: str, tools: list[Any], choice: str, message: str) -> None:
    template, arch = TEMPLATES[name]
    with pytest.raises(ConstraintError) as caught:
        spec = spec_for_calls(format_for(template, arch, tools).calls, tools, choice)
        assert spec is not None
        grammars.compile(spec)
    assert message in caught.value.message


@pytest.mark.parametrize("name", NAMES)
def test_a_schema_cannot_reach_into_the_grammar(model: Model, grammars: Grammars, name: str) -> None:
    hostile = [
        {"type": "string", "minLength": "0}/ | /x"},
        {"type": "string", "maxLength": 2.5},
        {"type": "string", "pattern": "^a/ . /b$"},
        {"enum": ['a" | "b', "\ud800", "x"]},
        {"type": "integer", "x-guidance": {"lenient": True}},
    ]
    for schema in hostile:
        tools = [tool("f", a=schema, required=["a"])]
        try:
            text = walk(constrained(grammars, name, tools, "required", parallel=False), model, 3)
        except ConstraintError:
            continue
        (call,) = read(name, tools, text).calls
        value = json.loads(call.arguments)["a"]
        assert isinstance(value, int) or value in ('a" | "b', "x") or re.fullmatch("a/ . /b", value)


@pytest.mark.parametrize("name", NAMES)
def test_references_and_several_types(model: Model, grammars: Grammars, name: str) -> None:
    parameters = {
        "$ref": "#/$defs/Args",
        "$defs": {
            "Unit": {"enum": ["1", "2"]},
            "Tree": {"type": "object", "properties": {"t": {"$ref": "#/$defs/Tree"}}, "additionalProperties": False},
            "Args": {
                "type": "object",
                "properties": {
                    "unit": {"$ref": "#/$defs/Unit"},
                    "maybe": {"anyOf": [{"$ref": "#/$defs/Unit"}, {"type": "null"}]},
                    "tree": {"$ref": "#/$defs/Tree"},
                    "either": {"type": ["string", "null"], "enum": ["a", None]},
                },
                "required": ["unit", "maybe", "tree", "either"],
            },
        },
    }
    tools = [{"name": "f", "parameters": parameters}]
    for seed in range(5):
        text = walk(constrained(grammars, name, tools, "f", parallel=False), model, seed)
        (call,) = read(name, tools, text).calls
        value = json.loads(call.arguments)
        assert list(value) == ["unit", "maybe", "tree", "either"]
        assert value["unit"] in ("1", "2") and value["maybe"] in ("1", "2", None), text
        assert isinstance(value["tree"], dict) and value["either"] in ("a", None)


def test_calls_come_after_the_thoughts(model: Model, grammars: Grammars) -> None:
    template, arch = TEMPLATES["qwen3"]
    for choice in ("required", "auto"):
        tools = [tool("g", strict=True)]
        spec = spec_for_calls(format_for(template, arch, tools).calls, tools, choice)
        assert spec is not None
        constraint = grammars.compile(dataclasses.replace(spec, after_thinking=True))
        assert accepts(constraint, model, "I could write <tool_call> or 你好 {")
        assert not constraint.may_stop
        assert accepts(constraint, model, "</think>\n\n")
        assert constraint.may_stop == (choice == "auto")
        assert accepts(constraint, model, hermes("{}", name="g")) and constraint.may_stop


@pytest.mark.parametrize("parallel", [True, False])
def test_calls_come_after_thoughts_that_may_come(model: Model, grammars: Grammars, parallel: bool) -> None:
    """What a model that thinks wrote about calls in its thoughts was taken for the beginning of one."""
    strict = [tool("g", strict=True)]
    constraint = constrained(grammars, "qwen3", strict, "auto", parallel)
    assert accepts(constraint, model, "\n<thi") and constraint.may_stop
    assert accepts(constraint, model, "nk>I could write <tool_call> or 你好 {")
    assert not constraint.may_stop
    assert accepts(constraint, model, "</think>\n\n") and constraint.may_stop
    assert accepts(constraint, model, hermes("{}", name="g")) and constraint.may_stop
    assert constraint.finished != parallel


def test_json_is_read_among_python() -> None:
    tools = [tool("f")]
    (call,) = read("chatglm3", tools, chatglm('a={"b": [true, null, -1.5]}, c=false', name="f")).calls
    assert json.loads(call.arguments) == {"a": {"b": [True, None, -1.5]}, "c": False}
    assert read("chatglm3", tools, chatglm("a=undefined", name="f")).calls == ()


@pytest.mark.parametrize(
    ("pattern", "regex"),
    [
        ("^a$", "(?:a)"),
        ("a", "(?s:.*)(?:a)(?s:.*)"),
        ("^a\\$", "(?:a\\$)(?s:.*)"),
        ("a\\\\$", "(?s:.*)(?:a\\\\)"),
        ("^/\\d[\\w-]\n", r"(?:\/[0-9][[0-9A-Za-z_]-]\n)(?s:.*)"),
        ("^\\/$", "(?:\\/)"),
    ],
)
def test_patterns(pattern: str, regex: str) -> None:
    assert searched(pattern) == regex
