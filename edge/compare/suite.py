"""A suite: questions, and how an answer to each is scored, from a TOML file. docs/suites.md tells how to write one."""

from __future__ import annotations

import ast
import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema

from convert.errors import EdgeError
from edge.compare.documents import check_document

NAMES = ("puzzles", "code", "json", "translate", "sensitive", "long", "chat", "writing", "speed")
STARTER = "starter"  # all of them
FOLDER = Path(__file__).with_name("suites")
MOST_BYTES = 1 << 22  # of a file
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


class SuiteError(EdgeError):
    """A suite that is not there, or not written right."""


@dataclass(frozen=True)
class Check:
    """``kind`` is ``text``, ``schema``, ``fields`` or ``tests``. Texts are compared without case, after NFKC;
    patterns see the answer as it is.

    ``contains``: all; ``contains_any``: one of them; ``lacks``: none. ``matches``, ``lacks_match``: regular
    expressions. ``schema``: a JSON Schema. ``expected``: values that some of its keys have; for ``fields`` a verdict
    for each. ``tests``: Python, whose functions ``test_...`` import from ``answer``.
    """

    kind: str
    contains: tuple[str, ...] = ()
    contains_any: tuple[str, ...] = ()
    lacks: tuple[str, ...] = ()
    matches: tuple[str, ...] = ()
    lacks_match: tuple[str, ...] = ()
    schema: Mapping[str, Any] | None = None
    english_keys: bool = False
    expected: Mapping[str, Any] | None = None
    tests: str = ""


@dataclass(frozen=True)
class Question:
    """``turns``: what the user says, one after another; the last answer is scored. Without a check, ``rubric`` tells a
    reader what to look for. ``constrained``: asked a second time with the schema as response format. ``document`` is
    put before the first turn. ``twice``: asked twice in a row."""

    id: str
    turns: tuple[str, ...]
    system: str = ""
    rubric: str = ""
    check: Check | None = None
    max_tokens: int = 512
    constrained: bool = False
    document: str = ""
    twice: bool = False


@dataclass(frozen=True)
class Suite:
    """``digest``: SHA-256 of the file, so that a report says which questions were asked."""

    name: str
    title: str
    note: str
    questions: tuple[Question, ...]
    digest: str


def load_suites(names: Sequence[str]) -> list[Suite]:
    """Those of the package by name, ``starter`` for all of them, others by their file. Raises SuiteError."""
    wanted = [one for name in names for one in (NAMES if name == STARTER else (name,))]
    suites = [load_suite(name) for name in dict.fromkeys(wanted)]
    called = [one.name for one in suites]
    if twice := next((name for name in called if called.count(name) > 1), None):
        raise SuiteError(f"two suites are called {twice}", "rename one of the files")
    return suites


def load_suite(name: str) -> Suite:
    """Raises SuiteError, which names file, question and key."""
    is_file = name.endswith(".toml") or "/" in name or "\\" in name
    path = Path(name) if is_file else FOLDER / f"{name}.toml"
    if not is_file and name not in NAMES:
        near = difflib.get_close_matches(name, NAMES, 1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join((STARTER, *NAMES))}, or a .toml file"
        raise SuiteError(f"there is no suite {name}", hint)
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SuiteError(f"{path.name} is too large for a suite", f"at most {MOST_BYTES >> 20} MB")
        data = path.read_bytes()
        table = tomllib.loads(data.decode("utf-8"))
    except OSError as error:
        raise SuiteError(f"cannot read the suite {name}: {error.strerror}", "give the file's path") from error
    except (UnicodeDecodeError, RecursionError, tomllib.TOMLDecodeError) as error:
        raise SuiteError(f"{path.name} is no TOML: {error}", "docs/suites.md shows how a suite is written") from error
    return parse_suite(path.stem, path.name, table, hashlib.sha256(data).hexdigest())


# --- from tables


def parse_suite(name: str, where: str, table: Mapping[str, Any], digest: str) -> Suite:
    known(where, table, {"title": str, "note": str, "question": list})
    rows = table.get("question", [])
    if not rows or not all(isinstance(row, Mapping) for row in rows):
        raise wrong(where, "has no [[question]]")
    questions = tuple(parse_question(where, number, row) for number, row in enumerate(rows, 1))
    ids = [one.id for one in questions]
    if twice := next((one for one in ids if ids.count(one) > 1), None):
        raise wrong(where, f"two questions are called {twice}")
    return Suite(name, table.get("title", name), table.get("note", ""), questions, digest)


def parse_question(where: str, number: int, row: Mapping[str, Any]) -> Question:
    name = row.get("id")
    if not isinstance(name, str) or not ID.fullmatch(name):
        raise wrong(where, f"question {number} needs an id of letters, digits, dots and dashes")
    where = f"{where}, {name}"
    kinds = {"id": str, "turns": list, "prompt": str, "system": str, "rubric": str, "max_tokens": int}
    kinds |= {"constrained": bool, "document": str, "twice": bool, "check": dict}
    known(where, row, kinds)
    if ("prompt" in row) == ("turns" in row):
        raise wrong(where, "needs a prompt, or turns")
    turns = texts(where, "turns", row["turns"]) if "turns" in row else (row["prompt"],)
    if not turns or not all(turn.strip() for turn in turns):
        raise wrong(where, "asks nothing")
    if not 1 <= row.get("max_tokens", 1) <= 1 << 17:
        raise wrong(where, "max_tokens is from 1 to 131072")
    check = parse_check(where, row["check"]) if "check" in row else None
    if row.get("constrained") and (check is None or check.kind != "schema"):
        raise wrong(where, "constrained needs a check of the kind schema")
    if document := row.get("document", ""):
        check_document(document, lambda what: wrong(where, what))
    given = {key: value for key, value in row.items() if key not in ("turns", "prompt", "check")}
    return Question(**given, turns=turns, check=check)


LISTS = ("contains", "contains_any", "lacks", "matches", "lacks_match")


def parse_check(where: str, row: Mapping[str, Any]) -> Check:
    kind = row.get("kind")
    if not isinstance(kind, str) or kind not in CHECKS:
        raise wrong(where, f"check has no kind {kind!r}: there are {', '.join(CHECKS)}")
    keys, look = CHECKS[kind]
    known(f"{where}, check", row, {"kind": str, **keys})
    given: dict[str, Any] = dict(row) | {key: texts(where, key, row[key]) for key in LISTS if key in row}
    check = Check(**given)
    look(where, check)
    return check


def look_at_text(where: str, check: Check) -> None:
    if not any(getattr(check, key) for key in LISTS):
        raise wrong(where, "check asks for nothing")
    for pattern in (*check.matches, *check.lacks_match):
        try:
            re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise wrong(where, f"{pattern!r} is no regular expression: {error}") from error


def look_at_schema(where: str, check: Check) -> None:
    for key in ("schema", "expected"):
        if not is_json(getattr(check, key)):
            raise wrong(where, f"{key} has what JSON has not, as a date or nan: write it as a text")
    try:
        jsonschema.Draft202012Validator.check_schema(check.schema or {})
    except (jsonschema.SchemaError, RecursionError) as error:
        raise wrong(where, f"schema is none: {getattr(error, 'message', error)}") from error
    if "$ref" in str(check.schema) or "$dynamicRef" in str(check.schema):
        raise wrong(where, "schema refers to another: write it out")
    if not check.schema:
        raise wrong(where, "check needs a schema")
    if other := [key for key in check.expected or {} if repr(key) not in str(check.schema)]:
        raise wrong(where, f"expected has {other[0]!r}, which the schema does not name")


def is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def look_at_fields(where: str, check: Check) -> None:
    if not check.expected or not all(type(one) is bool for one in check.expected.values()):
        raise wrong(where, "expected needs true or false for each field")


def look_at_tests(where: str, check: Check) -> None:
    try:
        found = ast.parse(check.tests).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise wrong(where, f"tests are no Python: {error}") from error
    tests = [one for one in found if isinstance(one, ast.FunctionDef) and one.name.startswith("test_")]
    if not tests:
        raise wrong(where, "tests have no function test_...")
    names = [one.name for one in tests]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise wrong(where, f"two tests are called {twice}")
    if needy := next((one.name for one in tests if ast.unparse(one.args)), None):
        raise wrong(where, f"{needy} takes arguments, which nobody gives")


CHECKS: Mapping[str, tuple[Mapping[str, type], Callable[[str, Check], None]]] = {
    "text": (dict.fromkeys(LISTS, list), look_at_text),
    "schema": ({"schema": dict, "expected": dict, "english_keys": bool}, look_at_schema),
    "fields": ({"expected": dict}, look_at_fields),
    "tests": ({"tests": str}, look_at_tests),
}


def known(where: str, table: Mapping[str, Any], kinds: Mapping[str, type]) -> None:
    """Raises SuiteError for a key that there is not, and a value of another type."""
    for key, value in table.items():
        if key not in kinds:
            near = difflib.get_close_matches(key, kinds, 1)
            raise wrong(where, f"there is no key {key!r}" + (f": did you mean {near[0]}?" if near else ""))
        if type(value) is not kinds[key]:
            raise wrong(where, f"{key} is not {WORDS[kinds[key]]}")


WORDS = {str: "a text", int: "a whole number", bool: "true or false", list: "a list", dict: "a table"}


def texts(where: str, key: str, value: Sequence[Any]) -> tuple[str, ...]:
    if not all(isinstance(one, str) and one for one in value):
        raise wrong(where, f"{key} is not a list of texts")
    return tuple(value)


def wrong(where: str, what: str) -> SuiteError:
    return SuiteError(f"{where}: {what}", "docs/suites.md shows how a suite is written")
