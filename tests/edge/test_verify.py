"""Files against their locked hashes, whatever their size and time say."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from edge import store
from edge.lock import LockedFile, LockedModel, Output
from edge.verify import Check, Finding, checkpoint_checks, compare, gguf_checks, stored_checks, verify
from tests.edge.reports import write_report
from tests.edge.tiny_hub import sha256

GOOD, BAD = b"the right bytes", b"the wrong bytes"


def silent(what: str, done: int, of: int) -> None:
    pass


def states(findings: list[Finding]) -> dict[str, str]:
    return {finding.name: finding.state for finding in findings}


def test_every_state_of_a_checkpoint(tmp_path: Path) -> None:
    model = LockedModel("m", files=tuple(LockedFile(name, 15, sha256(GOOD)) for name in ("a.json", "b.json", "c.json")))
    (tmp_path / "a.json").write_bytes(GOOD)
    (tmp_path / "b.json").write_bytes(GOOD)
    stat = (tmp_path / "b.json").stat()
    (tmp_path / "b.json").write_bytes(BAD)
    os.utime(tmp_path / "b.json", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    steps: list[tuple[str, int, int]] = []
    findings = verify(checkpoint_checks(model, tmp_path), lambda *step: steps.append(step))
    assert [finding.text for finding in findings] == [
        "a.json: ok",
        f"b.json: damaged: SHA-256 is {sha256(BAD)}, not {sha256(GOOD)}",
        "c.json: missing",
    ]
    assert findings[2].wanted == sha256(GOOD)
    assert steps == [("checking a.json", 15, 30), ("checking b.json", 30, 30)]


def test_converted_files_against_their_reports(tmp_path: Path) -> None:
    for level, report in {"Q8_0": {"sha256": sha256(GOOD)}, "Q4_0": {"sha256": sha256(BAD)}, "F16": {}}.items():
        path = store.file_path(tmp_path, "m", level)
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(GOOD)
        write_report(path, {"bytes": len(GOOD), **report})
    assert states(verify(stored_checks(LockedModel("m"), tmp_path), silent)) == {
        "m-Q8_0.gguf": "ok",
        "m-Q4_0.gguf": "damaged",
        "m-F16.gguf": "not locked",
    }


def test_a_converted_file_that_was_cut_short_is_damaged(tmp_path: Path) -> None:
    """The bug: a report counts only for a file of its size, so the file was called `not locked`, and all was well."""
    path = store.file_path(tmp_path, "m", "Q8_0")
    path.parent.mkdir()
    path.write_bytes(GOOD[:5])
    write_report(path, {"bytes": len(GOOD), "sha256": sha256(GOOD)})
    assert states(verify(stored_checks(LockedModel("m"), tmp_path), silent)) == {"m-Q8_0.gguf": "damaged"}


@pytest.mark.parametrize("sha", [None, 5, ["a"]])
def test_a_report_without_a_hash(sha: object, tmp_path: Path) -> None:
    path = store.file_path(tmp_path, "m", "Q8_0")
    path.parent.mkdir()
    path.write_bytes(GOOD)
    write_report(path, {"bytes": len(GOOD), "sha256": sha})
    assert states(verify(stored_checks(LockedModel("m"), tmp_path), silent)) == {"m-Q8_0.gguf": "not locked"}


def output(level: str, sha: str, cpu: str = "x86_64") -> Output:
    return Output(level, "edge 1", cpu, "lib 1", sha)


def test_gguf_files_of_a_folder_against_any_output_of_their_level(tmp_path: Path) -> None:
    """A colleague's file may come from another machine: each locked way of making it will do."""
    outputs = (output("Q8_0", sha256(BAD)), output("Q8_0", sha256(GOOD), "arm64"), output("Q4_0", sha256(BAD)))
    for name in ("m-Q8_0.gguf", "m-Q4_0.gguf", "m-F16.gguf"):
        (tmp_path / name).write_bytes(GOOD)
    assert states(verify(gguf_checks(LockedModel("m", outputs=outputs), tmp_path), silent)) == {
        "m-F16.gguf": "not locked",
        "m-Q4_0.gguf": "damaged",
        "m-Q8_0.gguf": "ok",
    }


def test_a_folder_in_a_files_place_is_missing(tmp_path: Path) -> None:
    (tmp_path / "a.json").mkdir()
    assert states(verify([Check(tmp_path / "a.json", "a.json", frozenset("x"))], silent)) == {"a.json": "missing"}


def test_only_results_of_one_recipe_are_compared() -> None:
    locked = output("Q8_0", "a" * 64)
    same, other_cpu, other_level = replace(locked, sha256="b" * 64), replace(locked, cpu="arm64"), output("Q4_0", "")
    assert compare([locked], [same, other_cpu, other_level]) == [
        (same, locked),
        (other_cpu, None),
        (other_level, None),
    ]
