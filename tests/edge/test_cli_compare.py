"""``edge compare`` and ``edge eval`` on both tiny models, which are served in processes of their own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.cli.compare_view import columns
from edge.cli.main import cli

SUITE = """\
title = "Small"
[[question]]
id = "hello"
prompt = "你好"
max_tokens = 8
rubric = "kind"
[[question]]
id = "object"
prompt = "An object with a."
max_tokens = 24
constrained = true
[question.check]
kind = "schema"
schema = { type = "object", required = ["a"], properties = { a = { type = "boolean" } }, additionalProperties = false }
"""


@pytest.fixture
def suite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
    (path := tmp_path / "small.toml").write_text(SUITE)
    return str(path)


def test_both_tiny_models_side_by_side(suite: str, tmp_path: Path) -> None:
    files = [str(tmp_path / f"report.{kind}") for kind in ("html", "md", "json")]
    outputs = [part for file in files for part in ("-o", file)]
    done = CliRunner().invoke(cli, ["compare", "tiny-qwen:Q4_0", "tiny-glm:Q8_0", "--suite", suite, *outputs])
    assert done.exit_code == 0, done.output
    result = json.loads(Path(files[2]).read_text())
    assert [one["name"] for one in result["models"]] == ["tiny-qwen:Q4_0", "tiny-glm:Q8_0"]
    assert all(one["memory"] > 1 << 20 and one["sha256"] for one in result["models"])
    assert len(result["answers"]) == 6 and all(one["error"] is None for one in result["answers"])
    constrained = [one["texts"][0] for one in result["answers"] if one["variant"] == "constrained"]
    assert len(constrained) == 2 and all(text.startswith("{") for text in constrained)
    assert all(Path(file).stat().st_size > 1000 for file in files)
    assert not list((tmp_path / "home").rglob("*.jsonl"))


def test_eval_holds_a_model_to_its_figures(suite: str) -> None:
    arguments = ["eval", "tiny-qwen:Q4_0", "--suite", suite, "-q", "--assert"]
    assert CliRunner().invoke(cli, [*arguments, "small>=0,rate>0"]).exit_code == 0
    broken = CliRunner().invoke(cli, [*arguments, "small>1"])
    assert broken.exit_code == 1 and "error: tiny-qwen:Q4_0: small is " in broken.output
    assert CliRunner().invoke(cli, [*arguments, "smal>1"]).exit_code == 2


def test_nothing_is_there(suite: str, tmp_path: Path) -> None:
    done = CliRunner().invoke(cli, ["compare", "http://127.0.0.1:9/v1", "--suite", suite])
    assert done.exit_code == 1 and "does not answer" in done.output
    assert CliRunner().invoke(cli, ["compare", "tiny-qwen", "-o", "report.pdf"]).exit_code == 2
    done = CliRunner().invoke(cli, ["compare", str(tmp_path / "a.json"), str(tmp_path / "b.json")])
    assert done.exit_code == 1 and "cannot read" in done.output


def test_a_table_of_many_models_is_broken_where_the_terminal_ends() -> None:
    """Its heads were folded within words."""
    grid = [["Model", *(f"model {n}" for n in range(6))], ["Overall", *(["0.50 (0.40-0.60)"] * 6)]]
    found = list(columns(grid, 80))
    assert [one[0] for one in found] == [
        ["Model", *(f"model {n}" for n in range(3))],
        ["Model", *(f"model {n}" for n in range(3, 6))],
    ]
    assert len(list(columns(grid, 10))) == 6
