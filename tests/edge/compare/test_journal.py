"""Answers that are kept while a comparison goes on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edge.compare.journal import Journal, key_of

ANSWER: dict[str, Any] = {
    "model": 0, "suite": "code", "question": "prime", "variant": "plain", "repeat": 0, "seed": 1,
    "texts": ["素数"], "score": 0.5, "why": "", "detail": {}, "ttft": 0.1, "seconds": 1, "rate": None,
}  # fmt: skip


def test_answers_come_back(tmp_path: Path) -> None:
    journal = Journal(tmp_path, {"seed": 1})
    assert journal.read() == {}
    other = ANSWER | {"repeat": 1}
    journal.add(ANSWER)
    journal.add(other)
    assert Journal(tmp_path, {"seed": 1}).read() == {key_of(ANSWER): ANSWER, key_of(other): other}
    assert Journal(tmp_path, {"seed": 2}).read() == {}
    journal.forget()
    assert Journal(tmp_path, {"seed": 1}).read() == {}


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[1]", b"\xff", b"[" * 9000, b'{"model": 0}', b'{"model": true}'],
)
def test_a_damaged_line_is_asked_again(tmp_path: Path, line: bytes) -> None:
    journal = Journal(tmp_path, 1)
    journal.add(ANSWER)
    (file,) = (tmp_path / ".compare").iterdir()
    file.write_bytes(line + b"\n" + file.read_bytes() + file.read_bytes()[:-30])
    assert journal.read() == {key_of(ANSWER): ANSWER}


@pytest.mark.parametrize("change", [{"texts": "x"}, {"texts": [1]}, {"score": "x"}, {"detail": None}, {"ttft": True}])
def test_a_line_of_another_shape_is_asked_again(tmp_path: Path, change: dict[str, Any]) -> None:
    journal = Journal(tmp_path, 1)
    journal.add(ANSWER | change)
    assert journal.read() == {}


def test_text_that_is_no_unicode(tmp_path: Path) -> None:
    """A model's JSON may hold half of a surrogate pair."""
    journal = Journal(tmp_path, 1)
    journal.add(ANSWER | {"texts": ["\ud800"]})
    assert [one["texts"] for one in journal.read().values()] == [["?"]]
