"""The whole sample as Markdown, to be read: after a change that is meant, run this file as a program, and read it."""

from __future__ import annotations

from pathlib import Path

from edge.compare.markdown import fenced, markdown_report
from tests.edge.compare.sample import LONG, sample

GOLDEN = Path(__file__).with_name("sample.md")


def short() -> str:
    """With the long word cut: nobody reads it."""
    return markdown_report(sample()).replace(LONG, f"{LONG[:60]}(and so on)")


def test_the_golden_file() -> None:
    assert short() == GOLDEN.read_text(encoding="utf-8")


def test_a_fence_is_longer_than_what_it_holds() -> None:
    assert list(fenced("a")) == ["```text\na\n```"]
    assert list(fenced("`" * 7)) == [f"{'`' * 8}text\n{'`' * 7}\n{'`' * 8}"]


if __name__ == "__main__":
    GOLDEN.write_text(short(), encoding="utf-8")
