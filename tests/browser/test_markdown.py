"""Markdown: what a text becomes, and that it becomes the same in pieces."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import pytest
from playwright.sync_api import Page

CASES = json.loads((Path(__file__).parent / "markdown.json").read_text(encoding="utf-8"))

SHOW = """async (texts) => {
    const { markdownView } = await import("/page/markdown.js");
    const element = document.createElement("div");
    const show = markdownView(element);
    for (const text of texts) show(text);
    return element.innerHTML;
}"""
PREFIXES_THAT_DIFFER = """async ([text, step]) => {
    const { markdownView } = await import("/page/markdown.js");
    const growing = document.createElement("div");
    const grow = markdownView(growing);
    const differ = [];
    for (let length = 0; length <= text.length; length += step) {
        const fresh = document.createElement("div");
        grow(text.slice(0, length));
        markdownView(fresh)(text.slice(0, length));
        if (growing.innerHTML !== fresh.innerHTML) differ.push(text.slice(0, length));
    }
    return differ;
}"""


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["what"])
def test_markdown_becomes(page: Page, case: dict[str, str]) -> None:
    assert page.evaluate(SHOW, [case["text"]]) == case["html"]


@pytest.mark.parametrize("between", ["\n", "\n\n"])
def test_a_growing_text_looks_as_if_it_had_come_at_once(page: Page, between: str) -> None:
    for case in CASES:
        assert page.evaluate(PREFIXES_THAT_DIFFER, [case["text"] + between + case["text"], 1]) == []
    whole = between.join(case["text"] for case in CASES)
    assert page.evaluate(PREFIXES_THAT_DIFFER, [whole, 7]) == []


def test_a_text_may_become_another_one(page: Page) -> None:
    assert page.evaluate(SHOW, ["# One\n\n- a\n- b", "Two\n\nthree", "Two"]) == "<p>Two</p>"


HOSTILE = {
    "brackets": "[" * 50_000,
    "links": "[a](" * 20_000,
    "images in images": "![" * 20_000 + "](https://e.org)" * 20_000,
    "stars": "*a " * 20_000,
    "stars in stars": "*a " * 20_000 + "a* " * 20_000,
    "mixed marks": "**a__b~~c" * 10_000,
    "backticks": "`` ` " * 20_000,
    "an address of dots": "https://e.org/" + "." * 50_000 + "a",
    "quotes": ">" * 20_000,
    "lists": "- " * 20_000,
    "fences": "- ```\n" * 10_000,
    "tables": "a|b\n-|-\n" * 5_000,
    "formulas": "\\(" * 20_000,
    "headings": "# " * 20_000,
}


DEPTH = """async (text) => {
    const { markdownView } = await import("/page/markdown.js");
    const element = document.createElement("div");
    markdownView(element)(text);
    let depth = 0;
    for (let level = [element]; level.length > 0; level = level.flatMap((one) => [...one.children])) depth += 1;
    return depth;
}"""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_text_neither_hangs_nor_goes_deep(page: Page, name: str) -> None:
    """Elements nested by the thousand overflow the stack; what takes quadratic time does not come to an end here."""
    assert 1 < page.evaluate(DEPTH, HOSTILE[name]) < 150


def test_no_text_breaks_the_reader(page: Page) -> None:
    """An address of which only "https://" had come ended the answer."""
    pieces = [
        *"a \n*_`[)<>|\\;字\t",
        "https://",
        "**",
        "~~",
        "```",
        "](",
        "![",
        "- ",
        "1. ",
        "# ",
        "|-|\n",
        "\\(",
        "&#",
        "&lt;",
    ]
    random = Random(20)
    for _ in range(40):
        text = "".join(random.choices(pieces, k=60))
        assert page.evaluate(PREFIXES_THAT_DIFFER, [text, 1]) == []
