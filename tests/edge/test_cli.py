"""The commands as a person types them: output, exit codes, one-line failures."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge.cli.main import cli
from tests.checkpoints import build, edit_json
from tests.hub.huggingface import HuggingFaceDouble
from tests.hub.modelscope import ModelScopeDouble

TINY = Path(str(files("edge.models") / "tiny-qwen"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def run(*arguments: str, **kwargs: Any) -> Result:
    return CliRunner().invoke(cli, list(arguments), **kwargs)


def command(*arguments: str, **kwargs: Any) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, output as text."""
    environment = {**os.environ, "PYTHONUTF8": "1"}
    return subprocess.run(
        [sys.executable, "-m", *arguments], capture_output=True, text=True, env=environment, encoding="utf-8", **kwargs
    )


def error_of(result: Result) -> str:
    assert isinstance(result.exception, SystemExit), result.exception
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1 and lines[0].startswith("error: ")
    return lines[0]


def test_convert_list_show_run_rm(home: Path) -> None:
    """The whole way of an embedded model."""
    made = run("convert", "tiny-qwen", "--level", "Q8_0,q4_0")
    assert made.exit_code == 0 and made.stdout.count("gate: passed") == 2 and made.stderr == ""
    listed = json.loads(run("list", "--json").stdout)
    assert [(m["name"], m["level"], m["gate"]) for m in listed["models"]] == [
        ("tiny-qwen", "Q8_0", "passed"),
        ("tiny-qwen", "Q4_0", "passed"),
    ]
    assert listed["models_dir"] == str(home / "models")
    shown = json.loads(run("show", "tiny-qwen:Q4_0", "--json").stdout)
    assert shown["level"] == "Q4_0" and shown["report"]["gate"]["passed"] is True
    assert shown["bytes"] == Path(shown["path"]).stat().st_size
    answer = run("run", "tiny-qwen:Q8_0", "你好", "--temp", "0")
    assert answer.exit_code == 0 and answer.stdout.strip()
    assert answer.stderr.startswith("prefill ") and "decode " in answer.stderr and answer.stderr.count("\n") == 1
    again = json.loads(run("run", "tiny-qwen:Q8_0", "你好", "--temp", "0", "--json").stdout)
    assert again["answer"].strip() == answer.stdout.strip() and again["finish_reason"] == "stop"
    assert run("rm", "tiny-qwen:Q8_0").stdout.startswith("removed tiny-qwen:Q8_0")
    assert run("rm", "tiny-qwen").exit_code == 0
    assert "tiny-qwen" not in {m["name"] for m in json.loads(run("list", "--json").stdout)["models"]}


def test_run_converts_an_embedded_model_once(home: Path) -> None:
    first = run("run", "tiny-glm:Q4_0", "Hello", "--temp", "0")
    assert "converting tiny-glm to Q4_0 first" in first.stderr and first.stdout.strip()
    assert "converting" not in run("run", "tiny-glm:Q4_0", "Hello", "--temp", "0").stderr


def test_run_reads_the_question_from_standard_input(home: Path) -> None:
    asked = run("run", "tiny-qwen:Q4_0", "-q", "--temp", "0", input="你好\n".encode())
    assert asked.exit_code == 0 and asked.stdout.strip() and "prefill" not in asked.stderr
    assert run("run", "tiny-qwen:Q4_0", input=b"").exit_code == 2


def test_show_reads_any_gguf(home: Path, tmp_path: Path) -> None:
    assert run("convert", "tiny-qwen", str(tmp_path / "x.gguf"), "-l", "F16", "--no-check").exit_code == 0
    text = run("show", str(tmp_path / "x.gguf")).stdout
    assert "level         F16" in text and "gate          not run" in text


def test_show_names_what_fell_back(home: Path, tmp_path: Path) -> None:
    folder = build(tmp_path / "odd", ffn=288)
    assert run("convert", str(folder), str(tmp_path / "x.gguf"), "--no-check").exit_code == 0
    shown = json.loads(run("show", str(tmp_path / "x.gguf"), "--json").stdout)
    assert set(shown["fallbacks"]) == {"Q5_0", "Q8_0"}
    assert all("ffn_down" in name for names in shown["fallbacks"].values() for name in names)


def test_dry_run_writes_nothing_and_tells_the_real_size(home: Path, tmp_path: Path) -> None:
    planned = json.loads(run("convert", "tiny-qwen", "--dry-run", "--json", "-l", "Q4_K_M,Q8_0").stdout)
    assert not home.exists()
    run("convert", "tiny-qwen", "-l", "Q4_K_M,Q8_0", "--no-check")
    for output in planned["outputs"]:
        assert Path(output["path"]).stat().st_size == output["bytes"]


def test_same_conversion_twice_gives_the_same_hash(home: Path) -> None:
    hashes = {
        json.loads(run("convert", "tiny-qwen", "--json", "--no-check").stdout)["outputs"][0]["sha256"] for _ in "ab"
    }
    assert len(hashes) == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "tiny-qwem", "hi"], "did you mean tiny-qwen"),
        (["show", "nothing"], "there is no model called nothing"),
        (["show", "x.gguf"], "there is no file x.gguf"),
        (["rm", "tiny-qwen"], "is not in the store"),
        (["convert", "./nowhere"], "does not exist"),
        (["convert", "qwen2.5-77b"], "no model is called 'qwen2.5-77b'"),
        (["run", "qwen2.5:7b", "hi"], "qwen2.5:7b is not here yet; run: edge convert qwen2.5:7b"),
        (["pull", "qwen2.5-7b", "--offline"], "--offline forbids the network"),
        (["convert", "tiny-qwen", "--level", "Q9"], "there is no quant level 'Q9'"),
        (["convert", "tiny-qwen:Q9"], "there is no quant level 'Q9'"),
        (["run", "tiny-qwen", "hi", "--ctx", "1000000"], "more than the"),
        (["run", "tiny-qwen", "hi" * 3000, "--ctx", "64"], "tokens, the context "),
        (["run", "tiny-qwen", "hi", "--temp", "-1"], "temperature"),
        (["convert", "tiny-qwen", "no/such/folder/x.gguf"], "is not a folder"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_failures_are_one_line_with_exit_code_1(home: Path, arguments: list[str], says: str) -> None:
    result = run(*arguments)
    assert result.exit_code == 1
    errors = [line for line in result.stderr.splitlines() if not line.startswith("converting ")]
    assert len(errors) == 1 and errors[0].startswith("error: ") and says in errors[0]


@pytest.mark.parametrize(
    "arguments",
    [["convert"], ["convert", "tiny-qwen", "x.gguf", "-l", "Q8_0,Q4_0"], ["run"], ["nothing"], ["list", "--what"]],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(home: Path, arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2 and "Traceback" not in result.output


def test_a_refused_conversion_says_which_check_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(TINY, tmp_path / "broken")
    edit_json(folder / "tokenizer_config.json", chat_template="{% if %}")
    assert "the check 'chat template' failed" in error_of(run("convert", str(folder)))
    assert list((home / "models").rglob("*.gguf*")) == []


def test_unexpected_failure_has_no_traceback_without_debug(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def explode(*_: Any) -> None:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr("edge.store.all_models", explode)
    assert "ZeroDivisionError: a b; run again with --debug" in error_of(run("list"))
    assert "Traceback" in run("list", "--debug").stderr


def test_python_m_convert(tmp_path: Path) -> None:
    out = tmp_path / "tiny-{level}.gguf"
    done = command("convert", str(TINY), str(out), "--level", "Q4_0,Q8_0", "--no-check", "--json", "--threads", "1")
    assert done.returncode == 0 and done.stderr == ""
    assert [o["level"] for o in json.loads(done.stdout)["outputs"]] == ["Q4_0", "Q8_0"]
    assert sorted(p.name for p in tmp_path.glob("*.gguf")) == ["tiny-Q4_0.gguf", "tiny-Q8_0.gguf"]
    assert command("convert", str(TINY), str(tmp_path / "x.gguf"), "-l", "Q4_0,Q8_0").returncode == 2
    missing = command("convert", str(tmp_path / "no"), str(tmp_path / "x.gguf"))
    assert missing.returncode == 1 and missing.stderr.startswith("error: ") and missing.stderr.count("\n") == 1


def test_output_is_utf8_and_silent_where_it_should_be(home: Path) -> None:
    """llama.cpp's own log must not reach the person, and Chinese must come out whole whatever the locale."""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "LC_ALL": "C"}
    done = subprocess.run(
        [sys.executable, "-m", "edge", "run", "tiny-qwen:Q8_0", "你好", "--temp", "0", "-q"],
        capture_output=True,
        env=environment,
    )
    assert done.returncode == 0 and done.stderr == b""
    assert any("\u4e00" <= c <= "\u9fff" for c in done.stdout.decode("utf-8"))


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to send there")
def test_ctrl_c_says_what_was_kept(home: Path, tmp_path: Path) -> None:
    folder = build(tmp_path / "big", layers=12, ffn=4096)
    child = subprocess.Popen(
        [sys.executable, "-m", "edge", "convert", str(folder), "--no-check"],
        stderr=subprocess.PIPE,
        text=True,
    )
    partial = home / "models" / "big" / "big-Q4_K_M.gguf.partial"
    deadline = time.monotonic() + 30
    while not partial.exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    child.send_signal(signal.SIGINT)
    _, errors = child.communicate(timeout=30)
    assert child.returncode == 130
    assert errors == "interrupted; finished and kept: nothing; everything unfinished was removed\n"
    assert list(home.rglob("*.gguf*")) == []


def test_doctor(home: Path) -> None:
    found = json.loads(run("doctor", "--json").stdout)
    assert {"Python", "llama-cpp-python", "memory"} <= {check["name"] for check in found["checks"]}
    told = run("doctor")
    assert "ok   Python" in told.stdout
    assert told.exit_code == 0


def test_doctor_ends_with_1_for_what_must_be_mended(home: Path) -> None:
    broken = home / "models" / "tiny-qwen" / "tiny-qwen-Q8_0.gguf"
    broken.parent.mkdir(parents=True)
    broken.write_bytes(b"GGUF")
    told = run("doctor")
    assert told.exit_code == 1
    [line] = [line for line in told.stdout.splitlines() if line.startswith("BAD ")]
    assert line.startswith("BAD  model tiny-qwen:Q8_0: the file ends after 4 bytes")
    assert line.endswith(" -> edge convert tiny-qwen --level Q8_0")
    assert run("convert", "tiny-qwen", "--level", "Q8_0").exit_code == 0
    assert "ok   model tiny-qwen:Q8_0: " in run("doctor").stdout


def test_doctor_asks_the_hubs_only_when_told_to(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with HuggingFaceDouble([]) as face, ModelScopeDouble([]) as scope:
        monkeypatch.setenv("HF_ENDPOINT", face.endpoint)
        monkeypatch.setenv("MODELSCOPE_DOMAIN", scope.endpoint)
        assert "127.0.0.1" not in run("doctor").stdout
        assert "note hubs: not tried: --offline forbids the network\n" in run("doctor", "--online", "--offline").stdout
        with monkeypatch.context() as offline:
            offline.setenv("HF_HUB_OFFLINE", "1")
            assert "note hubs: not tried: HF_HUB_OFFLINE forbids" in run("doctor", "--online").stdout
            assert "hubs:" not in run("doctor").stdout
        assert face.requests == scope.requests == []
        told = run("doctor", "--online").stdout
        assert "ok   Hugging Face: 127.0.0.1 answers in " in told
        assert "ok   ModelScope: 127.0.0.1 answers in " in told
        assert len(face.requests) == len(scope.requests) == 1


def test_demo_runs_every_embedded_model_at_three_levels(home: Path) -> None:
    rows = json.loads(run("demo", "--json").stdout)["runs"]
    assert [(row["model"], row["level"]) for row in rows] == [
        (model, level) for model in ("tiny-qwen", "tiny-glm") for level in ("Q8_0", "Q4_K_M", "Q4_0")
    ]
    assert all(row["gate"] == "passed" and row["answer"] and row["decode_tokens_per_second"] > 0 for row in rows)
    assert not home.exists()


def test_help_names_every_command() -> None:
    text = run("--help").output
    assert all(name in text for name in ("convert", "list", "show", "rm", "run", "doctor", "demo"))
