"""Figures, both reports and the comparison of two, from a result that holds hostile answers."""

from __future__ import annotations

import copy
import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from convert.errors import EdgeError
from edge.compare.differ import difference_rows, load_result, remarks
from edge.compare.markdown import markdown_report
from edge.compare.report import html_report
from edge.compare.summary import bootstrap, summarize, wilson, winner

HOSTILE = "<script>alert(1)</script></pre>````\n```\u202e\x1b[31m](javascript:x) | &amp;"
IDS = [str(number) for number in range(6)]


def answer(model: int, question: str, score: float, text: str = "x") -> dict[str, Any]:
    return {
        "model": model, "suite": "mine", "question": question, "variant": "plain", "repeat": 0, "seed": 1,
        "texts": [text], "score": score, "why": text, "detail": {}, "ttft": 0.1, "seconds": 1.0, "tokens": 4,
        "prompt_tokens": 9, "rate": 10.0, "finish": "stop", "error": None, "memory": None,
    }  # fmt: skip


def model(name: str, level: str) -> dict[str, Any]:
    facts = {"name": name, "base": "m", "level": level, "address": None, "size": 10**9, "sha256": "0" * 64}
    return facts | {"memory": None, "failed": None}


def result(*scores: list[float]) -> dict[str, Any]:
    questions = [
        {"id": one, "system": "", "turns": [HOSTILE], "document": "", "rubric": "r", "scored": "text"} for one in IDS
    ]
    return {
        "kind": "edge compare", "edge": "0", "made": "2026", "command": "edge compare <b>", "seed": 1, "repeats": 1,
        "temperature": 0.0, "ctx": None, "skipped": [], "machine": {"cpu": "C", "usable": 2, "memory": 10**9, "os": "L",
        "library": "l"},
        "suites": [{"name": "mine", "title": "Mine", "note": "", "digest": "d", "questions": questions}],
        "models": [model(f"m:{number}", str(number)) for number in range(len(scores))],
        "answers": [answer(number, one, score, HOSTILE) for number, of in enumerate(scores)
                    for one, score in zip(IDS, of, strict=True)],
    }  # fmt: skip


def test_intervals() -> None:
    low, high = wilson([1] * 9 + [0])  # 0.9 of 10, as tables have it
    assert (round(low, 3), round(high, 3)) == (0.596, 0.982)
    assert wilson([1.0] * 5)[1] == 1 and wilson([1.0] * 5)[0] < 0.6
    low, high = bootstrap([0.2, 0.4, 0.6])
    assert 0.2 <= low < 0.4 < high <= 0.6


def test_no_winner_within_the_noise() -> None:
    assert winner(result([1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 0, 0]), "mine") is None
    assert winner(result([1] * 6, [1] * 6), "mine") is None
    assert winner(result([1] * 6, [0] * 6), "mine") == 0
    assert winner(result([0] * 6, [1] * 6, [1] * 6), "mine") is None, "two are as good"


def test_a_summary() -> None:
    (one,) = summarize(result([1, 1, 1, 0, 0, 0]))
    assert (one.scores["mine"].value, one.scores["mine"].n, one.rate, one.ttft) == (0.5, 6, 10.0, 0.1)
    assert one.overall is not None and one.overall.value == 0.5


class Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str] = []
        self.answers: list[str] = []
        self._inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag == "pre" and ("class", "answer") in attrs:
            self._inside = True
            self.answers.append("")

    def handle_endtag(self, tag: str) -> None:
        self._inside = self._inside and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._inside:
            self.answers[-1] += data


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_page_that_no_answer_gets_out_of(language: str) -> None:
    page = Page()
    page.feed(html_report(result([1] * 6, [0] * 6), language))
    assert "script" not in page.tags and "b" in page.tags and page.links == []
    assert page.answers == [HOSTILE.replace("\u202e", "\\u202e").replace("\x1b", "\\u001b")] * 12


def test_markdown_that_no_answer_gets_out_of() -> None:
    text = markdown_report(result([1] * 6, [0] * 6))
    assert text.count("`````text") == 18 and "\u202e" not in text
    outside = [part for number, part in enumerate(text.split("`````")) if number % 2 == 0]
    assert all("<script>" not in part.replace("\\<", "") for part in outside)


def test_two_reports(tmp_path: Path) -> None:
    old, new = result([1] * 6), result([0] * 6)
    new["suites"][0]["digest"] = "e"
    (path := tmp_path / "old.json").write_text(json.dumps(old))
    assert load_result(path) == old
    rows = list(difference_rows(old, new))
    assert rows[0] == ("m:0", "mine", "1.00 -> 0.00", "beyond the noise")
    assert [row[1] for row in rows if "/" in row[1]] == [f"mine/{one}" for one in IDS]
    assert list(remarks(old, new)) == ["the questions of mine are others"]


@pytest.mark.parametrize("text", ["", "[]", '{"kind": "edge compare"}', "[" * 9999])
def test_a_file_that_is_no_report(tmp_path: Path, text: str) -> None:
    (path := tmp_path / "old.json").write_text(text)
    with pytest.raises(EdgeError, match="is no report of edge compare"):
        load_result(path)


def test_a_report_with_a_wrong_type(tmp_path: Path) -> None:
    wrong = copy.deepcopy(result([1] * 6))
    wrong["answers"][0]["score"] = "high"
    (path := tmp_path / "old.json").write_text(json.dumps(wrong))
    with pytest.raises(EdgeError, match=r"answers\.0\.score"):
        load_result(path)
