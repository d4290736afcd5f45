"""Where models live, and that nothing else is ever touched."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge import store
from edge.errors import StoreError
from tests.edge.reports import write_report


def put(models: Path, name: str, level: str, report: dict | None = None) -> Path:
    path = store.file_path(models, name, level)
    store.make_folder(path.parent)
    path.write_bytes(b"x" * 10)
    if report is not None:
        write_report(path, report)
    return path


def test_models_dir_is_chosen_then_home_then_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
    assert store.models_dir(tmp_path / "chosen") == tmp_path / "chosen"
    assert store.models_dir() == tmp_path / "home" / "models"
    monkeypatch.delenv("EDGE_HOME")
    assert store.models_dir().name == "models" and store.models_dir().parent.name == "edge"


def test_an_absent_folder_holds_no_models(tmp_path: Path) -> None:
    assert store.all_models(tmp_path / "nowhere") == []


def test_lists_by_name_and_from_fine_to_coarse(tmp_path: Path) -> None:
    for name, level in (("b", "Q4_0"), ("a", "Q4_0"), ("a", "Q8_0")):
        put(tmp_path, name, level)
    (tmp_path / "a" / "notes.txt").write_text("not a model")
    assert [(m.name, m.level) for m in store.all_models(tmp_path)] == [("a", "Q8_0"), ("a", "Q4_0"), ("b", "Q4_0")]


def test_a_bare_name_means_the_usual_level(tmp_path: Path) -> None:
    assert store.preferred([]) is None
    for level in ("BF16", "Q2_K", "Q8_0"):
        put(tmp_path, "a", level)
    found = store.preferred(store.levels_of(tmp_path, "a"))
    assert found is not None and found.level == "Q8_0"


def test_a_report_about_another_file_is_not_believed(tmp_path: Path) -> None:
    """A GGUF copied over a converted one would be shown as having passed the gate."""
    path = put(tmp_path, "a", "Q8_0", {"bytes": 10, "gate": {"passed": True}})
    assert store.read_report(path)["gate"]["passed"]
    path.write_bytes(b"x" * 11)
    assert store.read_report(path) == {}


@pytest.mark.parametrize("content", ["", "[]", "{", "[" * 100_000, "\udcff"])
def test_a_damaged_report_is_no_report(tmp_path: Path, content: str) -> None:
    path = put(tmp_path, "a", "Q8_0")
    store.report_path(path).write_bytes(content.encode("utf-8", "surrogateescape"))
    assert store.read_report(path) == {}


def test_remove_takes_the_file_its_report_and_the_empty_folder(tmp_path: Path) -> None:
    put(tmp_path, "a", "Q8_0", {})
    put(tmp_path, "a", "Q4_0", {})
    first, second = store.levels_of(tmp_path, "a")
    store.remove(first)
    assert [m.level for m in store.levels_of(tmp_path, "a")] == ["Q4_0"]
    store.remove(second)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("name", ["", "..", "a/b", "a\\b", ".hidden", "a..b", "/etc", "a" * 200, "a b", "模型"])
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    """A model called ../x would be written outside the models folder."""
    with pytest.raises(StoreError, match="cannot be a model's name"):
        store.file_path(tmp_path, name, "Q8_0")


def test_fingerprint_changes_with_the_files(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    before = store.fingerprint(tmp_path)
    (tmp_path / "notes.md").write_text("irrelevant")
    assert store.fingerprint(tmp_path) == before
    (tmp_path / "config.json").write_text("{ }")
    assert store.fingerprint(tmp_path) != before


def test_models_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="is not a folder"):
        store.all_models(tmp_path / "file")
    with pytest.raises(StoreError, match="cannot make"):
        store.make_folder(tmp_path / "file" / "a")


def test_a_report_belongs_to_the_file_it_was_made_for(tmp_path: Path) -> None:
    """The bug: a kill between the two renames left the old report beside a new file, which was then called damaged."""
    path = put(tmp_path, "a", "Q8_0", {"sha256": "old"})
    new = path.with_name("new")
    new.write_bytes(path.read_bytes())
    store.prepare_report(path, {"bytes": path.stat().st_size, "sha256": "new", "mtime_ns": new.stat().st_mtime_ns})
    assert store.kept_report(path)["sha256"] == "old", "until the new file has the name"
    new.replace(path)
    assert store.kept_report(path)["sha256"] == "new" == store.read_report(path)["sha256"]
    store.publish_report(path)
    assert store.kept_report(path)["sha256"] == "new"
    assert {one.name for one in path.parent.iterdir()} == {path.name, store.report_path(path).name}
