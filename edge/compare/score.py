"""What an answer is worth: from 0 to 1, and why in a line. Pure, but for code, which runs confined.

Whatever cannot be decided by a rule is not scored: it is shown.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jsonschema
from referencing import Registry

from edge.compare.sandbox import TestRun, extract_code, run_tests
from edge.compare.suite import Check

FENCED = re.compile(r"```[a-zA-Z]*[ \t]*\n(.*?)```", re.DOTALL)
ENGLISH_KEY = re.compile(r"[A-Za-z][A-Za-z0-9_ -]*")
DEEPEST = 64  # levels of an answer's JSON


@dataclass(frozen=True)
class Score:
    """``detail``: the parts that a summary adds up, as 0 and 1 or as counts."""

    score: float
    why: str
    detail: Mapping[str, int] = field(default_factory=dict)


def score(check: Check, text: str, run: Callable[[str, str], TestRun] = run_tests) -> Score:
    """Of the last answer ``text``. Raises EdgeError where code can't be confined."""
    if check.kind == "tests":
        found = run(extract_code(text), check.tests)
        why = f"{found.passed} of {found.total} tests passed" + (f": {found.why}" if found.why else "")
        return Score(found.passed / found.total, why, {"passed": found.passed, "tests": found.total})
    scored = {"text": text_score, "schema": schema_score, "fields": fields_score}
    return scored[check.kind](check, text)


def text_score(check: Check, text: str) -> Score:
    """All that is asked for, or nothing."""
    plain = folded(text)
    wrong = [f"lacks {one!r}" for one in check.contains if folded(one) not in plain]
    if check.contains_any and not any(folded(one) in plain for one in check.contains_any):
        wrong.append(f"has none of {', '.join(map(repr, check.contains_any))}")
    wrong += [f"has {one!r}" for one in check.lacks if folded(one) in plain]
    wrong += [f"does not match {one!r}" for one in check.matches if not found(one, text)]
    wrong += [f"matches {one!r}" for one in check.lacks_match if found(one, text)]
    if not text.strip():
        wrong = ["says nothing"]
    return Score(float(not wrong), "; ".join(wrong) or "as asked for")


def folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def found(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE | re.DOTALL) is not None


# --- JSON


def schema_score(check: Check, text: str) -> Score:
    """Whether it is JSON and fits the schema (``valid``), has the values that are known (``complete``), and keys of
    Latin letters (``english``)."""
    value, fault = parse(text)
    if fault:
        return Score(0.0, fault, {"valid": 0, "complete": 0, "english": 0})
    wrong = []
    schema = check.schema or {}
    checker = jsonschema.Draft202012Validator(schema, registry=Registry())  # its own would fetch what a $ref names
    error = next(iter(checker.iter_errors(value)), None)
    if error is not None:
        wrong.append(f"{'/'.join(map(str, error.absolute_path)) or 'it'} does not fit the schema ({error.validator})")
    has = value if isinstance(value, Mapping) else {}
    missing = [key for key in schema.get("required", ()) if has.get(key) is None]
    other = [key for key, one in (check.expected or {}).items() if key not in missing and not same(has.get(key), one)]
    wrong += [f"lacks {key}" for key in missing] + [f"another {key}" for key in other]
    english = all(ENGLISH_KEY.fullmatch(key) for key in keys(value))
    if check.english_keys and not english:
        wrong.append("a key is not English")
    detail = {"valid": int(error is None), "complete": int(not missing and not other), "english": int(english)}
    return Score(float(not wrong), "; ".join(wrong) or "as asked for", detail)


def fields_score(check: Check, text: str) -> Score:
    """A verdict a field: the share that is right; ``tp``, ``fp``, ``fn`` for precision and recall."""
    expected = check.expected or {}
    value, fault = parse(text)
    said = value if isinstance(value, Mapping) else {}
    detail = {
        "tp": sum(said.get(key) is True and one for key, one in expected.items()),
        "fp": sum(said.get(key) is True and not one for key, one in expected.items()),
        "fn": sum(said.get(key) is not True and one for key, one in expected.items()),
    }
    wrong = [key for key, one in expected.items() if said.get(key) is not one]
    why = fault or (f"wrong: {', '.join(wrong)}" if wrong else "as asked for")
    return Score(1 - len(wrong) / max(1, len(expected)), why, detail)


def parse(text: str) -> tuple[Any, str]:
    """The JSON that an answer is, alone or in a fence; a fault in words where it is none."""
    fenced = FENCED.findall(text)
    try:
        return limited(json.loads((fenced[-1] if fenced else text).strip())), ""
    except (ValueError, RecursionError):
        return None, "is no JSON"


def limited(value: Any, depth: int = 0) -> Any:
    """Raises ValueError for what is nested too deeply to be looked through."""
    if depth > DEEPEST:
        raise ValueError
    for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        limited(one, depth + 1)
    return value


def same(said: Any, expected: Any) -> bool:
    """Spaces and case of a text do not matter, nor the order of a list of texts; a number is no boolean."""
    if isinstance(said, str) and isinstance(expected, str):
        return folded(said).split() == folded(expected).split()
    if isinstance(said, list) and isinstance(expected, list):
        return sorted(map(folded, map(str, said))) == sorted(map(folded, map(str, expected)))
    return type(said) is type(expected) and said == expected


def keys(value: Any) -> list[str]:
    """Of all objects in it."""
    if isinstance(value, Mapping):
        return [*map(str, value), *(key for one in value.values() for key in keys(one))]
    return [key for one in value for key in keys(one)] if isinstance(value, list) else []
