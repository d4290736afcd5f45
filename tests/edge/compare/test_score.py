"""What an answer is worth."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edge.compare.sandbox import TestRun
from edge.compare.score import Score, keys, same, score
from edge.compare.suite import Check

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer"},
        "skills": {"type": "array", "items": {"type": "string"}, "maxItems": 3},
    },
    "required": ["name", "age", "skills"],
}
SCHEMA = Check("schema", schema=PERSON, english_keys=True, expected={"age": 34})
FIELDS = Check("fields", expected={"mail": True, "phone": True, "address": False, "id": False})


def of_text(text: str, **rules: tuple[str, ...]) -> Score:
    return score(Check("text", **rules), text)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    ("text", "rules", "why"),
    [
        ("Port ６５４３", {"contains": ("6543",)}, ""),
        ("it is PARIS", {"contains": ("paris",), "lacks": ("london",)}, ""),
        ("paris", {"contains": ("paris", "london")}, "lacks 'london'"),
        ("b", {"contains_any": ("a", "b")}, ""),
        ("c", {"contains_any": ("a", "b")}, "has none of 'a', 'b'"),
        ("OK. Bonjour", {"lacks": ("ok",)}, "has 'ok'"),
        ("line\none", {"matches": ("LINE.one",)}, ""),
        ("two", {"matches": ("^one$",)}, "does not match '^one$'"),
        ("two", {"lacks_match": ("t.o",)}, "matches 't.o'"),
        (" \n", {"lacks": ("x",)}, "says nothing"),
    ],
)
def test_text(text: str, rules: dict[str, tuple[str, ...]], why: str) -> None:
    found = of_text(text, **rules)
    assert found.score == (0 if why else 1)
    assert found.why == (why or "as asked for")


def test_an_object_as_asked_for() -> None:
    text = json.dumps({"name": "王芳", "age": 34, "skills": ["SQL"]}, ensure_ascii=False)
    for said in (text, f"Here it is:\n```json\n{text}\n```\nAnything else?"):
        assert score(SCHEMA, said) == Score(1.0, "as asked for", {"valid": 1, "complete": 1, "english": 1})


@pytest.mark.parametrize(
    ("value", "detail", "why"),
    [
        ({"name": "a", "age": 34, "skills": list("abcd")}, (0, 1, 1), "skills does not fit the schema (maxItems)"),
        ({"name": "a", "age": 33, "skills": []}, (1, 0, 1), "another age"),
        ({"name": "a", "age": 34}, (0, 0, 1), "it does not fit the schema (required); lacks skills"),
        ({"name": "a", "age": 34, "skills": [], "城市": "x"}, (1, 1, 0), "a key is not English"),
        ([1], (0, 0, 1), "it does not fit the schema (type); lacks name; lacks age; lacks skills"),
    ],
)
def test_another_object(value: Any, detail: tuple[int, int, int], why: str) -> None:
    found = score(SCHEMA, json.dumps(value))
    assert (found.score, found.why) == (0, why)
    assert tuple(found.detail[key] for key in ("valid", "complete", "english")) == detail


@pytest.mark.parametrize("text", ["", "none", '{"name": ', "[" * 5000, "[" * 100 + "]" * 100])
def test_no_object(text: str) -> None:
    assert score(SCHEMA, text) == Score(0.0, "is no JSON", {"valid": 0, "complete": 0, "english": 0})


def test_a_schema_does_not_reach_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """jsonschema fetched what a $ref names, by itself."""
    import urllib.request

    reached: list[object] = []
    monkeypatch.setattr(urllib.request, "urlopen", lambda *args, **kwargs: reached.append(args))
    with pytest.raises(Exception, match="nresolvable"):
        score(Check("schema", schema={"$ref": "http://127.0.0.1:9/x"}), "1")
    assert not reached


def test_verdicts() -> None:
    said = {"mail": True, "phone": False, "address": True, "id": False}
    assert score(FIELDS, json.dumps(said)) == Score(0.5, "wrong: phone, address", {"tp": 1, "fp": 1, "fn": 1})
    right = {"mail": True, "phone": True, "address": False, "id": False}
    assert score(FIELDS, json.dumps(right)) == Score(1.0, "as asked for", {"tp": 2, "fp": 0, "fn": 0})


def test_no_verdict_is_wrong_and_finds_nothing() -> None:
    assert score(FIELDS, "I cannot say") == Score(0.0, "is no JSON", {"tp": 0, "fp": 0, "fn": 2})
    assert score(FIELDS, '{"mail": 1, "phone": "true"}').detail == {"tp": 0, "fp": 0, "fn": 2}


def test_code_is_worth_the_tests_it_passes() -> None:
    ran: list[tuple[str, str]] = []

    def run(code: str, tests: str) -> TestRun:
        ran.append((code.strip(), tests))
        return TestRun(1, 4, "test_b: 2 != 3")

    found = score(Check("tests", tests="def test_a(): ..."), "Sure:\n```python\nx = 1\n```", run)
    assert found == Score(0.25, "1 of 4 tests passed: test_b: 2 != 3", {"passed": 1, "tests": 4})
    assert ran == [("x = 1", "def test_a(): ...")]


def test_same_values() -> None:
    assert same("Wang  Fang", "wang fang") and same(["b", "A"], ["a", "B"]) and same(1, 1)
    assert not same(True, 1) and not same("1", 1) and not same(["a"], ["a", "a"])


def test_all_keys() -> None:
    assert sorted(keys({"a": [{"b": 1}], "c": {"d": []}})) == ["a", "b", "c", "d"]
