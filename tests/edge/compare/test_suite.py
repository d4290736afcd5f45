"""The package's suites, and what is said of one that is written wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.compare.documents import CHARACTERS, document
from edge.compare.suite import FOLDER, NAMES, SuiteError, load_suite, load_suites

HEAD = 'title = "Mine"\n[[question]]\nid = "a"\n'
SCHEMA = HEAD + 'prompt = "x"\nconstrained = true\ncheck = { kind = "schema", schema = '
TESTS = HEAD + 'prompt = "x"\n[question.check]\nkind = "tests"\ntests = """\n'


def test_every_suite_of_the_package_loads() -> None:
    suites = load_suites(["starter"])
    assert tuple(one.name for one in suites) == NAMES
    assert all(question.check or question.rubric or question.twice for one in suites for question in one.questions)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("title = ", "is no TOML"),
        ('title = "Mine"', r"has no \[\[question\]\]"),
        ("title = 1", "title is not a text"),
        ('titel = "Mine"', "there is no key 'titel': did you mean title"),
        ("[[question]]\nid = 1", "question 1 needs an id"),
        (HEAD + 'promt = "x"', "there is no key 'promt': did you mean prompt"),
        (HEAD, "mine.toml, a: needs a prompt, or turns"),
        (HEAD + 'prompt = " "', "asks nothing"),
        (HEAD + 'prompt = "x"\nmax_tokens = 0', "max_tokens is from 1"),
        (HEAD + 'prompt = "x"\nmax_tokens = true', "max_tokens is not a whole number"),
        (HEAD + 'turns = ["x", 1]', "turns is not a list of texts"),
        (HEAD + 'prompt = "x"\nturns = ["x"]', "needs a prompt, or turns"),
        (HEAD + 'prompt = "x"\nconstrained = true', "constrained needs a check"),
        (HEAD + 'prompt = "x"\ndocument = "book@2"', "there is no document 'book@2'"),
        (HEAD + 'prompt = "x"\ncheck = { kind = "taste" }', "check has no kind 'taste'"),
        (HEAD + 'prompt = "x"\ncheck = { kind = "text" }', "check asks for nothing"),
        (HEAD + 'prompt = "x"\ncheck = { kind = "text", matches = ["("] }', "is no regular expression"),
        (HEAD + 'prompt = "x"\ncheck = { kind = "text", contains = "y" }', "contains is not a list"),
        (HEAD + 'prompt = "x"\ncheck = { kind = "fields", expected = { a = 1 } }', "true or false for each field"),
        (HEAD + 'prompt = "x"\ncheck = { kind = "tests", tests = "x = 1" }', "tests have no function test_"),
        (HEAD + 'prompt = "x"\ncheck = { kind = "tests", tests = "def" }', "tests are no Python"),
        (HEAD + 'prompt = "x"\ncheck = { kind = "schema", schema = { type = "text" } }', "schema is none"),
        (HEAD + 'prompt = "x"\ncheck = { kind = "schema", schema = { "$ref" = "x" } }', "schema refers to another"),
        (SCHEMA + '{ "$dynamicRef" = "#x" } }', "schema refers to another"),
        (SCHEMA + "{ const = 2026-01-01 } }", "schema has what JSON has not"),
        (SCHEMA + "{ const = nan } }", "schema has what JSON has not"),
        (SCHEMA + '{ type = "object" }, expected = { age = 2026-01-01 } }', "expected has what JSON has not"),
        (SCHEMA + '{ properties.age.type = "integer" }, expected = { agee = 3 } }', "expected has 'agee', which"),
        (SCHEMA + "{} }", "check needs a schema"),
        (TESTS + 'def test_a(): ...\ndef test_a(): ..."""', "two tests are called test_a"),
        (TESTS + 'def test_a(capsys): ..."""', "test_a takes arguments"),
        (HEAD + 'prompt = "x"\n' + HEAD.partition("\n")[2] + 'prompt = "x"', "two questions are called a"),
    ],
)
def test_a_wrong_suite_is_told_in_a_line(tmp_path: Path, text: str, says: str) -> None:
    (path := tmp_path / "mine.toml").write_text(text)
    with pytest.raises(SuiteError, match=says) as raised:
        load_suite(str(path))
    assert "mine.toml" in raised.value.message
    assert raised.value.message.isprintable() and raised.value.hint


def test_a_name_that_is_none() -> None:
    with pytest.raises(SuiteError, match="there is no suite puzles; did you mean puzzles"):
        load_suite("puzles")


def test_a_file_of_the_package_by_its_path() -> None:
    """It was said not to be there: only names were looked for in that folder."""
    assert load_suite(str(FOLDER / "code.toml")) == load_suite("code")


@pytest.mark.parametrize("depth", ["0.1", "0.35", "0.6", "0.9"])
def test_a_document_has_its_fact_once_where_it_should_be(depth: str) -> None:
    text = document(f"project@{depth}")
    assert text == document(f"project@{depth}")
    assert text.count("storage.ini") == 1
    assert abs(text.index("storage.ini") / len(text) - float(depth)) < 0.03
    assert CHARACTERS < len(text) < 1.1 * CHARACTERS
