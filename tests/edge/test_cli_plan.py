"""``edge plan`` as a person types it: before any download, in both languages, and what it says of bad values."""

from __future__ import annotations

import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from convert import gguf_file
from edge import machine, measured, store
from edge.cli.main import cli
from edge.plan.make import USUAL
from tests.checkpoints import build
from tests.edge import tiny_gguf
from tests.edge.plan.sample import GB, LOCK, RATES


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with English words, 80 columns, and no models."""
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("LC_ALL", "LC_MESSAGES", "LANGUAGE", "EDGE_LOCK"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LANG", "en_US.UTF-8")
    monkeypatch.setattr("edge.bench.gauges.busy_note", lambda: "")
    return tmp_path / "home"


@pytest.fixture
def quick(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is measured; a laptop with 16 GB of memory and a long name."""
    monkeypatch.setattr("edge.plan.make.measure_rates", lambda *_: RATES)
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(16 * GB, 12 * GB, None))
    monkeypatch.setattr(machine, "disk_free", lambda path: 100 * GB)
    monkeypatch.setattr(machine, "cores", lambda *_: machine.Cores(4, 8, 4, None))
    cpu = machine.Cpu("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "x86_64")
    monkeypatch.setattr(machine, "cpu", lambda: cpu)


def plan(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["plan", *map(str, arguments)])


def refused(*arguments: object) -> str:
    asked = plan(*arguments)
    assert asked.exit_code == 1 and isinstance(asked.exception, SystemExit), asked.exception
    assert asked.stdout == "" and asked.stderr.startswith("error: ") and asked.stderr.count("\n") == 1
    return asked.stderr.removeprefix("error: ").rstrip()


# --- every model of the lock


@pytest.mark.parametrize("name", LOCK)
def test_every_name_of_the_lock_is_planned_or_says_what_to_do(name: str, quick: None, home: Path) -> None:
    """Without network, and without a line that a terminal of 80 columns would break."""
    asked = plan(name)
    if not LOCK[name].context_length:
        assert asked.exit_code == 1 and asked.stderr.count("\n") == 1
        assert asked.stderr.endswith(f"run: edge lock {name}, which fetches its config alone\n")
        return
    assert asked.exit_code == 0 and asked.stderr == ""
    first, second, names, units, *rows = asked.stdout.splitlines()
    assert first == f"{name} on Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz, 4 threads"
    assert re.fullmatch(r"12.00 GB of memory, 100.00 GB of disk free; context 4096 tokens", second)
    assert names.split() == ["LEVEL", "FILE", "MEMORY", "FITS", "DECODE", "PREFILL", "TTFT", "CONTEXT", "CONVERT"]
    assert units.split() == ["tokens/s", "tokens/s", "tokens"]
    table, (memory, fetched, *advice) = rows[: len(USUAL)], rows[len(USUAL) :]
    assert memory.startswith("MEMORY: weights, ") and fetched.startswith("to be fetched first: ")
    assert [row.split()[0] for row in table] == list(USUAL)
    assert max(map(len, [first, second, names, units, *table, memory, fetched])) <= 80
    assert not any("…" in row for row in table)
    assert advice and advice[0].startswith(("Take ", "None of these fits "))
    assert not home.exists()


def test_the_whole_of_a_plan(quick: None) -> None:
    """Every figure is of made-up rates: 20 GB/s, 400 billion operations a second."""
    assert plan("qwen2.5-7b", "--levels", "q8_0,Q4_K_M,F16").stdout.splitlines()[2:] == [
        "LEVEL       FILE    MEMORY  FITS    DECODE   PREFILL  TTFT  CONTEXT  CONVERT",
        "                                  tokens/s  tokens/s         tokens         ",
        "F16     15.24 GB  15.85 GB    no       1.4        29  18 s        0    2 min",
        "Q8_0     8.10 GB   8.71 GB   yes       2.6        29  18 s    32768    2 min",
        "Q4_K_M   4.68 GB   5.29 GB   yes       4.5        29  18 s    32768    112 s",
        "MEMORY: weights, 249.6 MB cache, 178.6 MB for a step, 186.4 MB for the program",
        "to be fetched first: a checkpoint of 15.23 GB",
        "Take Q4_K_M: it needs 5.29 GB of memory, writes about 4.5 tokens/s (slower than one reads) and begins to "
        "answer a question of 512 tokens after about 18 s.",
        "Q8_0 is finer, but writes only 2.6 tokens/s.",
        "Next: edge convert qwen2.5-7b --level Q4_K_M",
    ]


def test_a_plan_that_measures(home: Path) -> None:
    """This machine's own rates."""
    found = json.loads(plan("qwen3-0.6b", "--json", "--levels", "Q4_0,Q8_0", "-t", "1").stdout)
    assert [level["level"] for level in found["levels"]] == ["Q8_0", "Q4_0"]
    for level in found["levels"]:
        assert all(0 < level[key] < math.inf for key in ("decode", "prefill", "first_token", "convert", "memory"))
    assert found["model"] == "qwen3-0.6b" and found["room"]["available"] > 0


# --- other ways to ask


def test_json_has_everything(quick: None) -> None:
    found = json.loads(plan("qwen2.5-7b", "--json", "-c", "1000").stdout)
    assert (found["model"], found["ctx"]) == ("qwen2.5-7b", 1000)
    assert found["room"] == {"total": 16 * GB, "available": 12 * GB, "disk": 100 * GB, "threads": 4}
    assert [level["level"] for level in found["levels"]] == list(USUAL)
    for level in found["levels"]:
        assert level["verdict"] in ("fits", "tight", "does not fit") and level["measured"] == {}
        assert level["memory"] > level["weights"] + level["cache"] + level["compute"]
        assert level["disk"] == level["download"] + level["file"] and level["here"] is False
    assert found["advice"][0].startswith("Take ")


def test_quiet_is_the_recommendation_alone(quick: None) -> None:
    asked = plan("qwen2.5-7b", "-q")
    assert asked.stdout.splitlines() == plan("qwen2.5-7b").stdout.splitlines()[6 + len(USUAL) :]
    assert asked.stdout.startswith("Take ") and asked.stderr == ""


@pytest.mark.parametrize(
    ("environment", "begins"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "建议选择 "),
        ({"LC_ALL": "zh_CN.UTF-8"}, "建议选择 "),
        ({"LANG": "zh_CN.UTF-8", "LC_ALL": "C.UTF-8"}, "Take "),
        ({"LANG": "fr_FR.UTF-8"}, "Take "),
    ],
)
def test_the_language_is_the_systems(
    environment: dict[str, str], begins: str, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert plan("qwen3-0.6b:Q4_0", "-q").stdout.startswith(begins)
    assert json.loads(plan("qwen3-0.6b:Q4_0", "--json").stdout)["advice"][0].startswith(begins)


def test_chinese_reaches_a_pipe_whatever_its_encoding(home: Path, tmp_path: Path) -> None:
    """In a process of its own, as a script runs it; what is not a terminal gets no bar."""
    path = tiny_gguf.write(tmp_path / "tiny.gguf")
    environment = {**os.environ, "LC_ALL": "zh_CN.GBK", "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        [sys.executable, "-m", "edge", "plan", path, "-t", "1"], capture_output=True, env=environment, timeout=300
    )
    assert done.returncode == 0 and all(line.startswith(b"note: ") for line in done.stderr.splitlines())
    assert "建议选择 tiny：" in done.stdout.decode("utf-8")


def test_the_next_command_is_one_that_works(quick: None, tmp_path: Path) -> None:
    """A checkpoint folder was named as if the lock knew it, and without the models folder that was asked for."""
    folder = build(tmp_path / "my models" / "mine")
    for model, says in (
        ("Qwen/Qwen2.5-7B-Instruct:Q4_0", "edge convert qwen2.5-7b --level Q4_0"),
        ("tiny-glm:q4_0", "edge convert tiny-glm --level Q4_0"),
        (folder, f"edge convert '{folder}' --level Q8_0"),
    ):
        assert plan(model, "-q").stdout.splitlines()[-1] == f"Next: {says}"
    asked = plan("tiny-qwen:Q4_0", "-q", "--models-dir", tmp_path / "else where")
    assert asked.stdout.endswith(f" --level Q4_0 --models-dir '{tmp_path / 'else where'}'\n")


def test_the_next_command_is_run(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And a plan knows then what is here."""
    monkeypatch.setattr("edge.plan.make.measure_rates", lambda *_: RATES)
    build(tmp_path / "mine")
    monkeypatch.chdir(tmp_path)
    command = plan("./mine", "-q", "--levels", "Q4_0").stdout.splitlines()[-1]
    assert command == "Next: edge convert ./mine --level Q4_0"
    assert CliRunner().invoke(cli, [*command.split()[2:], "--no-check"]).exit_code == 0
    after = plan("./mine", "--levels", "Q4_0").stdout
    assert " here\n" in after and "Next:" not in after


# --- after a measurement


def test_how_far_off_a_plan_was(quick: None, home: Path) -> None:
    """In percent of what was measured; above 0 it promised too much. Only of levels that were."""
    models = home / "models"
    for level in ("Q8_0", "Q4_0"):
        path = store.file_path(models, "mine", level)
        path.parent.mkdir(parents=True, exist_ok=True)
        tiny_gguf.write(path, None, {k: w[: len(w) // 32 * 32] for k, w in tiny_gguf.tensors().items()})
    assert "measured" not in plan("mine").stdout
    planned = json.loads(plan("mine", "--json").stdout)["levels"][1]
    file = gguf_file.read(store.file_path(models, "mine", "Q4_0"))
    found = {"tg128": planned["decode"] / 1.25, "pp512": planned["prefill"] * 2}
    found |= {"threads": RATES.threads, "threads_batch": RATES.threads_batch}
    measured.save(models, file, found)
    *_, heading, names, row, advice = plan("mine", "--levels", "Q4_0").stdout.splitlines()
    assert heading == "measured before by edge bench, and how far off this plan is:"
    assert names.split() == ["LEVEL", "DECODE", "OFF", "PREFILL", "OFF", "TTFT", "OFF"]
    assert row.split() == ["Q4_0", f"{found['tg128']:.0f}", "+25", "%", f"{found['pp512']:.0f}", "-50", "%"]
    assert advice.startswith("Take Q4_0")
    assert json.loads(plan("mine", "--json").stdout)["levels"][1]["measured"] == found


# --- memory and disk


def test_a_model_that_fits_nowhere(quick: None) -> None:
    asked = plan("glm-4.5-air:Q4_0", "-q")
    assert asked.exit_code == 0
    assert asked.stdout.startswith("None of these fits into the memory of this machine: 12.00 GB are free")


def test_a_context_larger_than_memory(quick: None, tmp_path: Path) -> None:
    """It is no error: the plan says that it does not fit."""
    path = tiny_gguf.write(tmp_path / "long.gguf", {"qwen2.context_length": 1 << 30})
    found = json.loads(plan(path, "--json", "-c", 1 << 30).stdout)
    (level,) = found["levels"]
    assert level["verdict"] == "does not fit" and level["cache"] > 64 * GB
    assert 0 < level["longest_context"] < 1 << 30
    assert found["advice"][0].startswith("None of these fits")


def test_a_full_disk(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "disk_free", lambda path: GB)
    assert plan("qwen2.5-7b:Q4_0", "-q").stdout.splitlines()[-1].endswith("1.00 GB are free.")
    monkeypatch.setattr(machine, "disk_free", lambda path: None)
    assert plan("qwen2.5-7b:Q4_0").stdout.splitlines()[1] == "12.00 GB of memory free; context 4096 tokens"


# --- bad values


@pytest.mark.parametrize(
    "arguments",
    [
        ["qwen2.5-7b", "--threads", "0"],
        ["qwen2.5-7b", "--threads", "513"],
        ["qwen2.5-7b", "-t", "x"],
        ["qwen2.5-7b", "--ctx", "7"],
        ["qwen2.5-7b", "-c", "-1"],
        ["qwen2.5-7b", "--what"],
        [],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(arguments: list[str], quick: None) -> None:
    asked = plan(*arguments)
    assert asked.exit_code == 2 and "Traceback" not in asked.output
    assert asked.stderr.splitlines()[-1].startswith("Error: ")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["org/repo"], "nothing is known of org/repo yet; run: edge lock org/repo, which fetches its config alone"),
        (["tiny-qwem"], "did you mean tiny-qwen?"),
        ([""], "MODEL is empty"),
        (["./nowhere"], "does not exist"),
        (["x.gguf"], "there is no file x.gguf"),
        (["qwen2.5-7b:Q9"], "there is no quant level 'Q9'; one of F32, "),
        (["qwen2.5-7b", "--levels", "Q9"], "there is no quant level 'Q9'; one of F32, "),
        (["qwen2.5-7b", "--ctx", "32769"], "qwen2.5-7b was trained for 32768 tokens, not 32769; give a smaller --ctx"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else None,
)
def test_failures_are_one_line_with_a_hint(arguments: list[str], says: str, quick: None) -> None:
    assert says in refused(*arguments)


def test_files_that_are_none(quick: None, tmp_path: Path) -> None:
    whole = tiny_gguf.write(tmp_path / "whole.gguf")
    half = tmp_path / "half.gguf"
    half.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert re.fullmatch(
        r"half.gguf: the file ends inside the data of tensor '.*'; download or convert it again", refused(half)
    )
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "folder").mkdir()
    assert "there is no file" in refused(tmp_path / "folder.gguf")
    assert "is not a checkpoint: it has no config.json" in refused(tmp_path / "folder")
    assert "whole is not here at Q8_0; there is whole" in refused(whole, "--levels", "Q8_0")


def test_a_file_of_the_store_that_was_cut(quick: None, home: Path) -> None:
    path = store.file_path(home / "models", "qwen2.5-7b", "Q4_0")
    path.parent.mkdir(parents=True)
    os.truncate(tiny_gguf.write(path), 4000)
    assert refused("qwen2.5-7b").startswith("qwen2.5-7b-Q4_0.gguf: ")


@pytest.mark.parametrize("name", ["[red]x", "x[bold]y"])
def test_a_name_that_looks_like_markup(name: str, quick: None, tmp_path: Path) -> None:
    """A file's name is its level where it does not say one; of these rich showed something else."""
    asked = plan(tiny_gguf.write(tmp_path / f"{name}.gguf"))
    heading, _, _, _, row, _, advice = asked.stdout.splitlines()
    assert heading.startswith(f"{name} on ") and row.startswith(f"{name} ") and advice.startswith(f"Take {name}: ")


def test_unexpected_failures_have_no_traceback(quick: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr("edge.plan.make.measure_rates", fail)
    assert "ZeroDivisionError: a b; run again with --debug" in refused("qwen2.5-7b")
