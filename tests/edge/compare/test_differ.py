"""Two results compared, and files that hold anything."""

from __future__ import annotations

import codecs
import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from convert.errors import EdgeError
from edge.compare import differ
from edge.compare.differ import difference_rows, load_result, remarks
from tests.edge.compare.sample import CODE, sample

ANYTHING = [None, True, -1, 10**400, 1e308, "x", "\u202e", [], [[]], {}, {"a": 1}]


def saved(folder: Path, data: bytes | dict[str, Any]) -> Path:
    path = folder / "old.json"
    path.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    return path


def test_a_result_comes_back(tmp_path: Path) -> None:
    assert load_result(saved(tmp_path, sample())) == sample()
    assert load_result(saved(tmp_path, codecs.BOM_UTF8 + json.dumps(sample()).encode())) == sample()


def test_what_changed() -> None:
    old, new = sample(), sample()
    for one in new["answers"]:
        if (one["model"], one["suite"]) == (0, "code"):
            one |= {"score": 0.0, "rate": 10.0}
        if one["model"] == 1 and one["question"] == CODE[1]:
            one["score"] = 1.0
    rows = list(difference_rows(old, new))
    assert ("one:Q8_0", "code", "0.92 -> 0.00", "beyond the noise") in rows
    assert ("one:Q4_0", "code", "0.17 -> 0.25", "within the noise") in rows
    assert ("one:Q4_0", f"code/{CODE[1]}", "0.50 -> 1.00", "") in rows
    assert [row[1] for row in rows if row[0] == "one:Q4_0" and "/" in row[1]] == [f"code/{CODE[1]}"]
    assert not any(row[0] == "three:Q4_0" for row in rows)


def test_nothing_changed() -> None:
    rows = list(difference_rows(sample(), sample()))
    assert not any("/" in row[1] or row[3] == "beyond the noise" for row in rows)
    assert {row[3] for row in rows} == {"within the noise", "1.00 times"}
    assert list(remarks(sample(), sample())) == []


def test_what_is_unlike() -> None:
    new = sample()
    new["suites"][0]["digest"], new["machine"]["cpu"], new["seed"] = "f" * 64, "Other CPU", 2
    new["models"][0]["sha256"] = "9" * 64
    assert list(remarks(sample(), new)) == [
        "the questions of code are others",
        "another cpu: Sample CPU, now Other CPU",
        "the file of one:Q8_0 is another",
        "other seeds or repeats",
    ]


PLACES: list[tuple[str, Callable[[dict[str, Any]], list[dict[str, Any]]]]] = [
    *((key, lambda found: [found]) for key in ("kind", "seed", "repeats", "machine", "suites", "models", "answers")),
    *((key, lambda found: found["suites"]) for key in ("name", "title", "digest", "questions")),
    *((key, lambda found: found["models"]) for key in ("name", "size", "memory", "sha256", "failed")),
    *((key, lambda found: found["answers"]) for key in sample()["answers"][0]),
    *((key, lambda found: [one["detail"] for one in found["answers"]]) for key in ("valid", "tp", "fp", "fn")),
]


@pytest.mark.parametrize(("key", "place"), PLACES, ids=[key for key, _ in PLACES])
def test_anything_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str, place: Callable[..., Any]
) -> None:
    """Refused, or compared. Scores of 1e308, whose sum is no float, ended in OverflowError; so did counts of
    400 digits."""
    monkeypatch.setattr("edge.compare.summary.DRAWS", 20)
    refused = 0
    for value in ANYTHING:
        found = sample()
        for one in place(found):
            one[key] = value
        try:
            read = load_result(saved(tmp_path, found))
        except EdgeError:
            refused += 1
        else:
            for pair in ((sample(), read), (read, sample()), (read, read)):
                assert json.dumps([*difference_rows(*pair), *remarks(*pair)])
    assert refused or key in {"sha256", "seed", "texts", "why", "tokens", "prompt_tokens", "finish", "memory"}


@pytest.mark.parametrize("data", [b"\xff{}", b"null", b"9" * 5000, b'{"kind": "edge bench"}', b'{"a": "\\ud800"}'])
def test_a_file_of_something_else(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(EdgeError, match=r"old\.json is no report of edge compare"):
        load_result(saved(tmp_path, data))


def test_a_file_that_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(differ, "MOST_BYTES", 100)
    with pytest.raises(EdgeError, match="too large for a report"):
        load_result(saved(tmp_path, b" " * 101))
    with pytest.raises(EdgeError, match="cannot read"):
        load_result(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_file_that_tells_no_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A device says that it holds 0 bytes: /dev/zero was read until the memory was full. A pipe does no harm."""
    monkeypatch.setattr(differ, "MOST_BYTES", 100)
    os.mkfifo(path := tmp_path / "pipe")
    writer = threading.Thread(target=path.write_bytes, args=(b" " * 200,), daemon=True)
    writer.start()
    with pytest.raises(EdgeError, match="too large for a report"):
        load_result(path)
    writer.join(5)
