"""Nothing that a model writes gets out of its place in a report: the whole sample, in both languages."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from edge.compare.markdown import markdown_report
from edge.compare.report import html_report
from edge.compare.tables import visible
from tests.edge.compare.sample import HOSTILE, LONG, sample

OUTSIDE = re.compile(r"""(?:src|href|srcset|action|data|poster)\s*=|url\(|@import""", re.IGNORECASE)
VOID = {"meta", "br", "hr", "img", "input", "link"}


class Page(HTMLParser):
    """Tags, the markup without text, and the texts of ``<pre class="answer">``. Tags that do not match fail."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.markup: list[str] = []
        self.answers: list[str] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self._answer = False
        self.feed(document)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.markup.append(self.get_starttag_text() or "")
        if tag not in VOID:
            self._open.append(tag)
        if ("class", "answer") in attrs:
            self._answer = True
            self.answers.append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.markup.append(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        self._answer = self._answer and tag != "pre"

    def handle_data(self, data: str) -> None:
        if self._answer:
            self.answers[-1] += data
        elif self._open and self._open[-1] == "style":
            self.markup.append(data)
        else:
            self.text.append(data)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_a_page_holds_what_was_said_and_nothing_else_of_it(language: str) -> None:
    page = Page(html_report(sample(), language))
    assert not page.tags & {"script", "iframe", "img", "a", "link", "object", "base", "form", "button"}
    assert not any(OUTSIDE.search(one) or " on" in one for one in page.markup)
    said = [text for one in sample()["answers"] if (text := "\n\n— — —\n\n".join(one["texts"]))]
    assert sorted(one for one in page.answers if not one.startswith("[")) == sorted(
        visible(one) for one in said if not one.startswith("[")
    )
    assert visible(HOSTILE[1]) in page.answers and LONG in page.answers


def test_a_page_says_its_policy_and_what_was_left_out() -> None:
    document = html_report(sample())
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    assert f'<meta http-equiv="Content-Security-Policy" content="{policy}">' in document
    said = " ".join(Page(document).text)
    for wanted in ("three cannot be served: <b>no</b>", "left out by hand", "8" * 64, "c" * 64, "Q8_0 1.00, Q4_0 0.00"):
        assert wanted in said
    assert said.index("three cannot be served") < said.index("Small functions."), "before the questions"


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f", "\x9b", "\r", "\u202e", "\u2066", "\u200f", "\u061c"])
def test_what_hides_is_shown(character: str) -> None:
    assert visible(f"a{character}b\n\t") == f"a\\u{ord(character):04x}b\n\t"
    assert visible("a\r\nb é 你 👍") == "a\nb é 你 👍"


def test_markdown_outside_of_fences_is_ours() -> None:
    """A line's fence is closed only by one that is as long, as CommonMark has it."""
    outside, fence = [], ""
    for line in markdown_report(sample()).split("\n"):
        run = re.match(r"`{3,}", line)
        if fence:
            fence = "" if line == fence else fence
        elif run:
            fence = run[0]
        else:
            outside.append(line)
    text = "\n".join(outside)
    assert fence == "" and "alert" not in text and "evil" not in text and "gpj" not in text
    assert "<b>" not in text and r"\<b\>" in text
    assert all(character.isprintable() for character in text.replace("\n", ""))


def test_cells_stay_cells() -> None:
    found = sample()
    found["models"][0]["name"] = "a|b\n| c | <i>`x`"
    rows = [line for line in markdown_report(found).split("\n") if line.startswith("| Model | a")]
    assert rows[0].startswith(r"| Model | a\|b \| c \| \<i\>\`x\` | ")
    assert len(re.findall(r"(?<!\\)\|", rows[0])) == 5
