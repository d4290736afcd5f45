"""The package's own questions: a good answer is told from a bad one."""

from __future__ import annotations

import dataclasses
import re
import sys
import types
import unicodedata
from pathlib import Path
from typing import Any

import pytest

from edge.compare.documents import document
from edge.compare.score import score
from edge.compare.suite import CHECKS, Check, Question, load_suite, load_suites
from tests.edge.compare.said import SAID, Said
from tests.edge.compare.solutions import RIGHT, WRONG

CODE = {one.id: one for one in load_suite("code").questions}
FIGURES = str.maketrans("〇零一二三四五六七八九", "00123456789")
PAGE = Path(__file__).parents[3] / "docs" / "suites.md"
WEIGHTS = (7, 9, 10, 5, 8, 4, 2, 1, 6, 3, 7, 9, 10, 5, 8, 4, 2)  # of an identity number's digits


def check_of(question: Question) -> Check:
    assert question.check is not None
    return question.check


def passed(code: str, tests: str, monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """By test; these answers are ours, so they run here."""
    answer = types.ModuleType("answer")
    exec(code, answer.__dict__)
    monkeypatch.setitem(sys.modules, "answer", answer)
    space: dict[str, Any] = {}
    exec(tests, space)
    return [runs(test) for name, test in space.items() if name.startswith("test_")]


def runs(test: Any) -> bool:
    try:
        test()
    except Exception:
        return False
    return True


def test_every_question_with_a_check_has_its_answers() -> None:
    scored = {
        (suite.name, one.id)
        for suite in load_suites(["starter"])
        for one in suite.questions
        if one.check and one.check.kind in ("text", "schema")
    }
    assert scored == {(suite, name) for suite, answers in SAID.items() for name in answers}
    assert set(CODE) == set(RIGHT) == set(WRONG)


@pytest.mark.parametrize("name", CODE)
def test_right_code_passes_and_wrong_code_does_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    tests = check_of(CODE[name]).tests
    found = passed(RIGHT[name], tests, monkeypatch)
    assert 4 <= len(found) <= 6 and all(found)
    assert not all(passed(WRONG[name], tests, monkeypatch))


@pytest.mark.parametrize(
    ("suite", "name", "said"),
    [(suite, name, said) for suite, all_said in SAID.items() for name, said in all_said.items()],
)
def test_good_answers_are_taken_and_bad_ones_refused(suite: str, name: str, said: Said) -> None:
    check = check_of(next(one for one in load_suite(suite).questions if one.id == name))
    for text in said.good:
        assert score(check, text).why == "as asked for", text
    for text in said.bad:
        assert score(check, text).score == 0, text


def test_each_document_asked_about_holds_what_is_asked_for() -> None:
    for one in load_suite("long").questions:
        assert all(word in document(one.document) for word in check_of(one).contains)


def test_identity_numbers_are_nobodys() -> None:
    """Each fails its check digit, however it is written."""
    prompts = (one.turns[0] for one in load_suite("sensitive").questions)
    plain = (re.sub(r"[\s-]", "", unicodedata.normalize("NFKC", text).translate(FIGURES)) for text in prompts)
    numbers = [number for text in plain for number in re.findall(r"\d{17}[\dX]", text)]
    assert len(numbers) == 2
    for number in numbers:
        rest = sum(int(digit) * weight for digit, weight in zip(number, WEIGHTS, strict=False)) % 11
        assert "10X98765432"[rest] != number[-1], number


def test_every_example_of_the_page_loads(tmp_path: Path) -> None:
    kinds = set()
    for text in re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL):
        (path := tmp_path / "mine.toml").write_text(text, encoding="utf-8")
        kinds |= {check_of(one).kind for one in load_suite(str(path)).questions}
    assert kinds == set(CHECKS)


def test_the_page_tells_every_key() -> None:
    """Those of the two tables, as the loader knows them."""
    told = set(re.findall(r"^\|[^|]*\| `(\w+)` \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    fields = {one.name for made in (Check, Question) for one in dataclasses.fields(made)}
    assert told == fields | {"title", "note", "prompt"}
