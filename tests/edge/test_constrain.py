from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.constrain import Constraint, ConstraintSpec, Grammars
from edge.json_schema import ConstraintError, path_text
from edge.llama.batch import Batch
from edge.llama.context import Context
from edge.llama.model import Model, ModelError
from edge.llama.sampler import Sampler, Sampling
from tests.edge import tiny_gguf
from tests.edge.tiny_gguf import END_OF_TEXT, END_THINK, IM_END, THINK

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    with Model(tiny_gguf.write(tmp_path_factory.mktemp("constrain") / "tiny.gguf")) as model:
        yield model


@pytest.fixture(scope="module")
def grammars(model: Model) -> Grammars:
    return Grammars(model)


def schema_spec(schema: Any, **options: Any) -> ConstraintSpec:
    return ConstraintSpec("json_schema", schema, **options)


def allowed(constraint: Constraint, model: Model) -> list[int]:
    logits = np.zeros(model.n_vocab, np.float32)
    constraint.mask(logits)
    assert set(np.unique(logits)) <= {0, -np.inf}
    return np.flatnonzero(logits == 0).tolist()


def feed(constraint: Constraint, model: Model, text: str) -> None:
    for token in model.tokenize(text):
        constraint.accept(token)


def random_text(constraint: Constraint, model: Model, seed: int, limit: int = 4000) -> str:
    """A walk over allowed tokens; it ends when it may, and is steered to close strings and lists."""
    rng = random.Random(seed)
    closing = [token for text in '"}]' for token in model.tokenize(text)]
    data = b""
    for _ in range(limit):
        if constraint.finished:
            break
        tokens = allowed(constraint, model)
        assert tokens
        ends = [token for token in tokens if model.is_eog(token)]
        assert bool(ends) == constraint.may_stop
        steered = ends or [token for token in tokens if token in closing]
        token = rng.choice(steered if steered and rng.random() < 0.4 else tokens)
        constraint.accept(token)
        data += model.token_bytes(token)
    assert constraint.finished
    return data.decode("utf-8")


def valid(value: Any, schema: Any) -> bool:
    """The part of JSON schema that these tests use, by its definition."""
    if isinstance(schema, bool):
        return schema
    kinds = {
        "object": isinstance(value, dict),
        "array": isinstance(value, list),
        "string": isinstance(value, str),
        "integer": isinstance(value, int | float) and not isinstance(value, bool) and value == int(value),
        "number": isinstance(value, int | float) and not isinstance(value, bool),
        "boolean": isinstance(value, bool),
        "null": value is None,
    }
    good = kinds[schema["type"]] if "type" in schema else True
    if "const" in schema:
        good &= value == schema["const"]
    if "enum" in schema:
        good &= value in schema["enum"]
    if "anyOf" in schema:
        good &= any(valid(value, part) for part in schema["anyOf"])
    if "oneOf" in schema:
        good &= sum(valid(value, part) for part in schema["oneOf"]) == 1
    if kinds["number"]:
        good &= schema.get("minimum", value) <= value <= schema.get("maximum", value)
    if kinds["string"]:
        good &= schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        good &= re.search(schema.get("pattern", ""), value) is not None
    if kinds["array"]:
        good &= schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value))
        good &= all(valid(item, schema.get("items", True)) for item in value)
    if kinds["object"]:
        named = schema.get("properties", {})
        good &= all(name in value for name in schema.get("required", ()))
        good &= all(
            valid(item, named.get(name, schema.get("additionalProperties", True))) for name, item in value.items()
        )
    return bool(good)


CLOSED = {"type": "object", "additionalProperties": False}
PERSON = CLOSED | {
    "properties": {
        "name": {"type": "string", "maxLength": 5},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "tags": {"type": "array", "items": {"enum": ["red", "蓝色", 3]}, "minItems": 2, "maxItems": 4},
    },
    "required": ["name", "age", "tags"],
}
SCHEMAS = [
    PERSON,
    CLOSED,
    CLOSED | {"properties": {"姓名": {"const": '张三 "é"'}}, "required": ["姓名"]},
    {"oneOf": [{"type": "string", "maxLength": 3}, {"type": "integer", "minimum": 5, "maximum": 1234}]},
    {"type": "number", "minimum": -1.5, "maximum": 2.25},
    {"enum": ["a", 1, None, True, {"deep": [1, 2]}]},
    {"type": "array", "items": {"type": "boolean"}, "minItems": 3, "maxItems": 5},
    {"type": "string", "pattern": "^[a-c]{2}-[0-9]+$"},
    {"anyOf": [{"type": "null"}, CLOSED | {"properties": {"a b": {"type": "null"}}, "required": ["a b"]}]},
]


@pytest.mark.parametrize("compact", [True, False])
@pytest.mark.parametrize("schema", SCHEMAS)
def test_random_documents_fit_the_schema(model: Model, grammars: Grammars, schema: Any, compact: bool) -> None:
    for seed in range(5):
        text = random_text(grammars.compile(schema_spec(schema, compact=compact)), model, seed)
        value = json.loads(text)
        assert valid(value, schema), text
        if compact:
            assert len(text) <= len(json.dumps(value, ensure_ascii=True, separators=(",", ":"))) + 40


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_a_model_under_a_schema(model: Model, grammars: Grammars, temperature: float) -> None:
    """The whole path: logits of the context masked in place, the C sampler, forced tokens decoded at once."""
    for seed in range(3):
        constraint = grammars.compile(schema_spec(PERSON, compact=True))
        data = b""
        with (
            Context(model, 512, threads=1) as context,
            Batch(64) as batch,
            Sampler(model, Sampling(temperature=temperature, seed=seed)) as sampler,
        ):
            pos, new = 0, [100, 110, 120]
            while True:
                batch.clear()
                for i, token in enumerate(new):
                    batch.add(token, pos + i, want_logits=i == len(new) - 1)
                pos += len(new)
                row = len(batch) - 1
                context.decode(batch)
                logits = context.logits(row)
                constraint.mask(logits)
                token = sampler.sample(context, row)
                constraint.accept(token)
                if model.is_eog(token):
                    break
                new = [token]
                for token in constraint.forced():
                    sampler.accept(token)
                    constraint.accept(token)
                    new.append(token)
                data += b"".join(map(model.token_bytes, new))
        assert valid(json.loads(data), PERSON)


JSON_VALUES = st.one_of(st.none(), st.booleans(), st.integers(-9, 9), st.text('aé中"\\\n', max_size=3))


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    def build(properties: dict[str, Any], n: int) -> dict[str, Any]:
        return CLOSED | {"properties": properties, "required": list(properties)[:n]}

    names = st.text('ab"\\ 名', min_size=1, max_size=3)
    return st.builds(build, st.dictionaries(names, inner, max_size=3), st.integers(0, 3))


SMALL_SCHEMAS = st.recursive(
    st.one_of(
        st.sampled_from([{"type": kind} for kind in ("boolean", "null")]),
        st.builds(lambda v: {"const": v}, JSON_VALUES),
        st.builds(lambda v: {"enum": v}, st.lists(JSON_VALUES, min_size=1, max_size=3)),
        st.builds(
            lambda a, b: {"type": "integer", "minimum": a, "maximum": a + b}, st.integers(-50, 50), st.integers(0, 99)
        ),
        st.builds(lambda n: {"type": "string", "minLength": n, "maxLength": n + 2}, st.integers(0, 2)),
    ),
    lambda inner: st.one_of(
        objects(inner),
        st.builds(
            lambda s, n: {"type": "array", "items": s, "minItems": n, "maxItems": n + 1}, inner, st.integers(0, 2)
        ),
        st.builds(lambda a, b: {"anyOf": [a, b]}, inner, inner),
    ),
    max_leaves=6,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SMALL_SCHEMAS, st.integers(0, 999))
def test_documents_of_any_small_schema(model: Model, grammars: Grammars, schema: Any, seed: int) -> None:
    text = random_text(grammars.compile(schema_spec(schema, compact=True)), model, seed)
    assert valid(json.loads(text), schema), text


def test_forced_tokens_are_the_only_allowed_ones(model: Model, grammars: Grammars) -> None:
    constraint = grammars.compile(schema_spec(SCHEMAS[2], compact=True))
    forced = constraint.forced()
    assert b"".join(map(model.token_bytes, forced)).decode() == '{"姓名":"张三 \\"é\\""}'
    for token in forced:
        assert allowed(constraint, model) == [token]
        constraint.accept(token)
    assert constraint.finished
    assert constraint.forced() == []
    assert allowed(constraint, model) == [END_OF_TEXT, IM_END]


@pytest.mark.parametrize(
    ("kind", "source", "pattern"),
    [
        ("regex", "(19|20)[0-9]{2}-[01]x?", "(19|20)[0-9]{2}-[01]x?"),
        ("regex", "[你好]{2,4}!", "[你好]{2,4}!"),
        ("lark", 'start: "x" pair+ "!"\npair: DIGIT ":" DIGIT\nDIGIT: /[0-9]/', "x([0-9]:[0-9])+!"),
        ("gbnf", 'root ::= "x" pair+ "!"\npair ::= [0-9] ":" [0-9]  # a pair', "x([0-9]:[0-9])+!"),
        ("gbnf", 'root ::= ("是" | "no" [a-c]{1,3}) "."', "(是|no[a-c]{1,3})[.]"),
    ],
)
def test_grammars(model: Model, grammars: Grammars, kind: Any, source: str, pattern: str) -> None:
    for seed in range(5):
        text = random_text(grammars.compile(ConstraintSpec(kind, source)), model, seed)
        assert re.fullmatch(pattern, text), text


def test_a_json_object(model: Model, grammars: Grammars) -> None:
    constraint = grammars.compile(ConstraintSpec("json_object"))
    feed(constraint, model, ' {"a": [1, {"b": null}], "名": "\\n"}'.lstrip())
    assert constraint.finished
    constraint = grammars.compile(ConstraintSpec("json_object"))
    assert [model.token_bytes(token) for token in allowed(constraint, model)] == [b"{"]


def test_whitespace_has_an_end(model: Model, grammars: Grammars) -> None:
    constraint = grammars.compile(ConstraintSpec("json_object"))
    feed(constraint, model, "{" + "\n" * 40)
    assert model.tokenize("\n")[0] not in allowed(constraint, model)
    compact = grammars.compile(ConstraintSpec("json_object", compact=True))
    feed(compact, model, "{")
    assert [model.token_bytes(token) for token in allowed(compact, model)] == [b'"', b"}"]


def test_it_ends_only_when_complete(model: Model, grammars: Grammars) -> None:
    constraint = grammars.compile(ConstraintSpec("regex", "a|ab"))
    assert not constraint.may_stop
    feed(constraint, model, "a")
    assert constraint.may_stop and not constraint.finished
    constraint.accept(IM_END)
    assert constraint.finished
    with pytest.raises(ConstraintError, match="ended already"):
        feed(constraint, model, "b")

    constraint = grammars.compile(schema_spec(PERSON))
    feed(constraint, model, '{"name": "')
    assert not {IM_END, END_OF_TEXT} & set(allowed(constraint, model))
    with pytest.raises(ConstraintError, match="before it was complete"):
        constraint.accept(IM_END)


def test_a_wrong_token_is_an_error_that_stays(model: Model, grammars: Grammars) -> None:
    constraint = grammars.compile(ConstraintSpec("regex", "ab"))
    with pytest.raises(ConstraintError, match="left its grammar"):
        feed(constraint, model, "x")
    for method in (constraint.forced, lambda: constraint.mask(np.zeros(model.n_vocab, np.float32))):
        with pytest.raises(ConstraintError):
            method()
    assert not constraint.finished


@pytest.mark.parametrize("end", [[END_THINK], "</think>", "</thi</think>"])
def test_after_thinking(model: Model, grammars: Grammars, end: Any) -> None:
    constraint = grammars.compile(ConstraintSpec("regex", "ab", after_thinking=True))
    texts = [token for token in range(model.n_vocab) if model.token_bytes(token)]
    for token in [THINK, *model.tokenize("{ab </think 你ab"), *(end if isinstance(end, list) else model.tokenize(end))]:
        assert not constraint.may_stop and constraint.forced() == []
        now = allowed(constraint, model)
        assert token in now and set(now) <= set(texts) and len(now) >= 64  # in 你 only the second half of the bytes
        constraint.accept(token)
    assert {model.token_bytes(token) for token in allowed(constraint, model)} == {b"\n", b"a", b"ab"}
    feed(constraint, model, "\n\n")
    assert b"".join(map(model.token_bytes, constraint.forced())) == b"ab"
    feed(constraint, model, "ab")
    assert constraint.finished


@pytest.mark.parametrize("kind", ["json_schema", "json_object", "regex", "lark", "gbnf"])
def test_a_token_may_end_the_thoughts_and_begin_the_answer(tmp_path: Path, kind: Any) -> None:
    tokens, types = tiny_gguf.vocabulary()
    tokens[266], types[266] = ">{", tiny_gguf.USER_DEFINED
    changes = {"tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": types}
    sources = {
        "json_schema": PERSON,
        "json_object": "",
        "regex": r"\{x",
        "lark": 'start: "{" "x"',
        "gbnf": 'root ::= "{" "x"',
    }
    with Model(tiny_gguf.write(tmp_path / "tiny.gguf", changes), vocab_only=True) as model:
        constraint = Grammars(model).compile(ConstraintSpec(kind, sources[kind], after_thinking=True))
        feed(constraint, model, "Hm</think")
        assert 266 in allowed(constraint, model)
        constraint.accept(266)
        after = {model.token_bytes(token) for token in allowed(constraint, model)}
        assert after and after <= {b'"', b"}", b"x", b"\n", b" ", b"\t", b"\r"}


def test_a_closed_model_is_not_read(tmp_path: Path) -> None:
    with Model(tiny_gguf.write(tmp_path / "tiny.gguf")) as model:
        grammars = Grammars(model)
        constraint = grammars.compile(ConstraintSpec("regex", "ab"))
    for call in (constraint.forced, lambda: grammars.compile(ConstraintSpec("regex", "ab"))):
        with pytest.raises(ModelError, match="closed"):
            call()


def person(**age: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"age": age, "name": {"type": "string"}}}


BAD_SCHEMAS = [
    (person(type="intt"), '$.properties.age.type: there is no type "intt"'),
    (person(type="array", uniqueItems=True), '$.properties.age.uniqueItems: not supported: "uniqueItems"'),
    ({"not": {}}, '$.not: not supported: "not"'),
    (person(type="string", pattern="(ab"), "$.properties.age.pattern: bad regular expression: unclosed group"),
    (person(type="string", pattern="(?=a)"), "$.properties.age.pattern: bad regular expression: look-around"),
    (person(type="string", format="blah"), "$.properties.age.format: Unknown format: blah"),
    (person(type="array", minItems=-1), "$.properties.age.minItems: Expected positive integer"),
    (
        {"type": "integer", "minimum": 5, "maximum": 3},
        "$.minimum: Unsatisfiable schema: minimum (5) is greater than maximum (3)",
    ),
    ({"properties": {"a b": {"items": {"enum": 5}}}}, '$.properties["a b"].items.enum: enum must be an array'),
    ({"anyOf": [{"type": "null"}, {"type": "名"}]}, '$.anyOf[1].type: there is no type "名"'),
    ({"oneOf": [{"type": "string"}, {"type": "string"}]}, "$.oneOf: the alternatives of oneOf overlap"),
    (person(**{"$ref": "http://x/y"}), "$.properties.age.$ref: http://x/y is outside the schema"),
    (person(**{"$ref": "#/$defs/none"}), "$.properties.age.$ref: there is nothing at #/$defs/none"),
    ({"$defs": {"n/a": {"minimum": "x"}}, "items": {"$ref": "#/$defs/n~1a"}}, '$.$defs["n/a"].minimum: Expected'),
    ({"$ref": "#"}, "$.$ref: no text can satisfy it"),
    (person(type="intt") | {"x-guidance": {"lenient": True}}, "$.properties.age.type"),
    ("{", "the schema is not JSON"),
    ("[1]", "at $: a schema"),
    ({"const": float("nan")}, "the schema is not JSON"),
]


@pytest.mark.parametrize(("schema", "message"), BAD_SCHEMAS)
def test_a_bad_schema_names_the_place(grammars: Grammars, schema: Any, message: str) -> None:
    with pytest.raises(ConstraintError) as caught:
        grammars.compile(schema_spec(schema))
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("kind", "source", "message"),
    [
        ("regex", "(a", "unclosed group"),
        ("regex", "(a)\\1", "backreferences are not supported"),
        ("regex", "[^\\s\\S]", "no text can satisfy it"),
        ("lark", "start: nothing", "nothing"),
        ("lark", 'start: A\nA: /a.*/ & ~/.*"b/', "operator &"),
        ("lark", "start: %json {" + '"items": {' * 70 + "}" * 71, "deep"),
        ("gbnf", "root ::= nothing", "Rule 'nothing' not found"),
        ("gbnf", "root ::= " + "(" * 5000, "too deep"),
        ("regex", {"a": 1}, "is text"),
        ("nonsense", "", "no constraint 'nonsense'"),
    ],
)
def test_bad_grammars(grammars: Grammars, kind: Any, source: Any, message: str) -> None:
    with pytest.raises(ConstraintError) as caught:
        grammars.compile(ConstraintSpec(kind, source))
    assert message in caught.value.message


def test_operators_inside_literals_are_text(model: Model, grammars: Grammars) -> None:
    constraint = grammars.compile(ConstraintSpec("lark", 'start: "a&b" /[~]/ // & ~'))
    feed(constraint, model, "a&b~")
    assert constraint.finished


def test_paths() -> None:
    assert path_text(("properties", "a b", "anyOf", 0, "$ref")) == '$.properties["a b"].anyOf[0].$ref'


NASTY = r"""
import json, random, sys
try:
    import resource
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
except ImportError:
    pass
import numpy as np
from edge.constrain import ConstraintSpec, Grammars
from edge.json_schema import ConstraintError
from edge.llama.model import Model

def nest(n, wrap):
    schema = {"type": "integer"}
    for _ in range(n):
        schema = wrap(schema)
    return schema

def chain(n, link):
    links = {f"a{i}": link({"$ref": f"#/$defs/a{i + 1}"}, i) for i in range(n)}
    return {"$defs": links | {f"a{n}": {}}, "$ref": "#/$defs/a0"}

def rules(form, n):
    return "".join(form.format(i, i + 1) for i in range(n))

def props(n, prefix="p"):
    return {f"{prefix}{i}": {"type": "integer"} for i in range(n)}

wrapped = lambda ref, i: nest(50, lambda s: {"properties": {"x": s}}) | {"properties": {"x": ref}}
CASES = {
    "deep": lambda: nest(10000, lambda s: {"items": s}),
    "deep text": lambda: '{"items":' * 10000 + "1" + "}" * 10000,
    "depth 60": lambda: nest(60, lambda s: {"items": s}),
    "many properties": lambda: {"properties": props(1000000)},
    "most properties": lambda: {"properties": props(1000)},
    "key patterns": lambda: {"patternProperties": {f"^k{i}x.*a.{{20}}$": {} for i in range(50)}},
    "one bad of many": lambda: {"properties": props(999) | {"z": {"type": "bad"}}},
    "refs": lambda: chain(3000, lambda ref, i: ref),
    "refs in allOf": lambda: chain(1900, lambda ref, i: {"allOf": [ref, {"minimum": i}]}),
    "self": lambda: {"allOf": [{"$ref": "#"}]},
    "mutual": lambda: {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
    "endless": lambda: {"type": "object", "properties": {"c": {"$ref": "#"}}, "required": ["c"]},
    "doubling": lambda: chain(40, lambda ref, i: {"properties": {"x": ref, "y": ref}}),
    "doubling allOf": lambda: chain(40, lambda ref, i: {"allOf": [ref, ref]}),
    "branches": lambda: {"allOf": [{"anyOf": [{"properties": props(1, f"{c}{i}")} for c in "ab"]} for i in range(30)]},
    "patterns": lambda: {"type": "string", "allOf": [{"pattern": f".*a{i}.*"} for i in range(40)]},
    "patterns by refs": lambda: chain(40, lambda ref, i: ref | {"pattern": f".*a{i}.*"}),
    "two patterns": lambda: {"type": "string", "allOf": [{"pattern": ".*a.{30}b"}, {"pattern": ".*b.{31}a"}]},
    "enum": lambda: {"enum": ["x" * 20 + str(i) for i in range(5000)]},
    "enum of objects": lambda: {"enum": [{f"k{j}": list(range(20)) for j in range(9)} for i in range(45)]},
    "sizes": lambda: {"type": "array", "minItems": 10**7, "items": {"type": "string", "minLength": 10**7}},
    "numbers": lambda: {"type": "integer", "minimum": -(10**30), "maximum": 10**30, "multipleOf": 99991},
    "regex counts": lambda: ("regex", "((a{1000}){1000}){1000}"),
    "regex exponential": lambda: ("regex", "(.*a.{400}b|.*b.{300}c)+"),
    "regex star star": lambda: ("regex", "((a*)*)*(a+)+b"),
    "regex empty counts": lambda: ("regex", "((a?){500}(a{500}))+"),
    "regex nested": lambda: ("regex", "(" * 10000 + "a" + ")" * 10000),
    "regex long": lambda: ("regex", "a" * 1000000),
    "regex longest": lambda: ("regex", "a.*" * 10000),
    "lark rules": lambda: ("lark", "start: r0\n" + rules("r{}:r{}\n", 2600) + 'r2600: "a"'),
    "lark tokens": lambda: ("lark", "start: R0\n" + rules("R{}:R{}\n", 2600) + 'R2600: "a"'),
    "lark nested": lambda: ("lark", "start: " + "(" * 10000 + '"a"' + ")" * 10000),
    "lark counts": lambda: ("lark", 'start: ((("a"{1000}){1000}){1000}){1000}'),
    "lark ambiguous": lambda: ("lark", 'start: s\ns: s s s | s s | "a" | "b" | ""'),
    "lark left": lambda: ("lark", "start: start"),
    "call texts": lambda: ("calls", "start: T\nT: /(?s:.*)/ & ~/(?s:.*)<x>(?s:.*)/ & /(?s:.{0,9000}a.{40}b.*)/"),
    "call lists": lambda: ("calls", "start: r0\n" + rules('r{}: "a" ("," r{})?\n', 1000) + 'r1000: "a"'),
    "gbnf rules": lambda: ("gbnf", "root ::= a0\n" + rules("a{} ::= a{}\n", 1900) + 'a1900 ::= "a"'),
    "gbnf nested": lambda: ("gbnf", "root ::= " + "(" * 10000 + '"a"' + ")" * 10000),
    "gbnf counts": lambda: ("gbnf", 'root ::= ("a"{1000000}){1000000}'),
}
name, path = sys.argv[1:]
case = CASES[name]()
spec = ConstraintSpec(*case) if isinstance(case, tuple) else ConstraintSpec("json_schema", case)
rng = random.Random(1)
with Model(path, vocab_only=True) as model:
    try:
        constraint = Grammars(model).compile(spec)
        for _ in range(100):
            logits = np.zeros(model.n_vocab, np.float32)
            constraint.mask(logits)
            constraint.accept(int(rng.choice(np.flatnonzero(logits == 0))))
            if constraint.finished:
                break
        print("works")
    except ConstraintError as error:
        print("refused:", error)
"""
REFUSED = {
    "deep": "nested",
    "deep text": "nested",
    "many properties": "at most 1000",
    "one bad of many": "$.properties.z.type",
    "self": "no text can satisfy",
    "mutual": "no text can satisfy",
    "patterns": "40 patterns",
    "patterns by refs": "40 patterns",
    "two patterns": "too complex",
    "branches": "too large",
    "regex nested": "nest",
    "regex long": "bytes",
    "lark nested": "nested",
    "lark left": "no text can satisfy",
}
NAMES = re.findall(r'^    "([^"]+)": lambda', NASTY, re.M)


@pytest.mark.parametrize("name", NAMES)
def test_nasty_grammars_neither_crash_nor_hang(model: Model, name: str) -> None:
    """Chains of references or rules ended the process at the end of its stack; joined patterns took all memory."""
    ran = subprocess.run(
        [sys.executable, "-c", NASTY, name, str(model.path)], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.returncode == 0, ran.stderr
    said = ran.stdout.splitlines()[-1]
    assert said.startswith(("works", "refused: "))
    assert REFUSED.get(name, "") in said
