"""``edge tune`` as a person types it; what it measures is another matter, and made up here."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from convert import gguf_file
from edge import tuned
from edge.bench.gauges import busy_note
from edge.cli.main import cli
from edge.llama.context import Context
from edge.llama.library import load
from edge.llama.model import Model
from edge.tuned import Tuned
from edge.tuned_text import explain
from tests.edge import tiny_gguf

FOUND = Tuned(
    threads=1,
    threads_batch=2,
    flash_attn=True,
    rows=128,
    width=2,
    made="2026-11-29T06:20:00+00:00",
    measured={"decode threads": {"1": 30.5, "2": 20.0}, "batch size": {}},
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where no other program ever disturbs."""
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("edge.bench.gauges.busy_note", lambda: "")
    return tmp_path / "home"


@pytest.fixture
def tunings(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The models that were tuned, and with how many layers on a GPU; nothing is measured."""
    done: list[tuple[str, int]] = []

    def fake(
        model: Model,
        *,
        gpu_layers: int = 0,
        on_progress: Callable[[str, int, int], None] = lambda what, done, of: None,
    ) -> Tuned:
        assert model.n_vocab > 0, "it is loaded"
        done.append((model.path.name, gpu_layers))
        on_progress("decode threads", 0, 5)
        on_progress("", 5, 5)
        return FOUND

    monkeypatch.setattr("edge.bench.tune.tune", fake)
    return done


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return tiny_gguf.write(tmp_path / "tiny.gguf")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [*map(str, arguments)])


def kept(models: Path, path: Path) -> Tuned | None:
    return tuned.load(models, gguf_file.read(path))


Tunings = list[tuple[str, int]]


def test_what_is_found_is_told_and_kept(tunings: Tunings, home: Path, tiny: Path) -> None:
    asked = run("tune", tiny)
    assert asked.exit_code == 0 and asked.stderr == ""
    assert asked.stdout.splitlines() == [
        *explain(FOUND),
        "kept for tiny.gguf on this machine; every command that loads it uses them from now on",
    ]
    assert len(tunings) == 1 and tunings[0][0] == "tiny.gguf"
    assert kept(home / "models", tiny) == FOUND
    assert run("show", tiny).stdout.endswith("".join(f"{'':14}{line}\n" for line in explain(FOUND)))


def test_json(tunings: Tunings, home: Path, tiny: Path) -> None:
    asked = run("tune", tiny, "--json")
    found = json.loads(asked.stdout)
    assert asked.stderr == "" and asked.stdout.count("\n") == 1
    assert found == {
        "model": str(tiny),
        "kept": str(tuned.path_for(home / "models", gguf_file.read(tiny))),
        **asdict(FOUND),
    }
    assert Path(found["kept"]).is_file()


@pytest.mark.skipif(load().llama_supports_gpu_offload(), reason="other numbers where there is a GPU")
@pytest.mark.parametrize(
    ("options", "layers"),
    [((), 0), (("-ngl", "auto"), 0), (("-ngl", "0"), 0), (("-ngl", "all"), -1), (("-ngl", "3"), 3)],
)
def test_layers_on_gpus(options: tuple[str, ...], layers: int, tunings: Tunings, tiny: Path) -> None:
    assert run("tune", tiny, *options, "-q").exit_code == 0
    assert tunings == [("tiny.gguf", layers)]


def test_an_embedded_model_is_converted_first(tunings: Tunings, home: Path) -> None:
    asked = run("tune", "tiny-qwen:q4_0")
    assert asked.stderr == "converting tiny-qwen to Q4_0 first\n"
    assert tunings[0][0] == "tiny-qwen-Q4_0.gguf"
    path = home / "models" / "tiny-qwen" / "tiny-qwen-Q4_0.gguf"
    assert kept(home / "models", path) == FOUND
    assert run("tune", "tiny-qwen:q4_0", "-q").stderr == ""
    listed = json.loads(run("list", "--json").stdout)["models"]
    assert [model["name"] for model in listed if model["level"]] == ["tiny-qwen"], "what is kept is no model"


def test_a_busy_machine_is_told_of(tunings: Tunings, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = "note: other programs use 1.5 CPUs just now"
    monkeypatch.setattr("edge.bench.gauges.busy_note", lambda: note)
    asked = run("tune", tiny, "--json")
    assert asked.stderr == f"{note}\n" and json.loads(asked.stdout)["threads"] == 1
    monkeypatch.setattr("psutil.cpu_percent", lambda interval: 50.0)
    monkeypatch.setattr("psutil.cpu_count", lambda: 4)
    assert busy_note().startswith("note: other programs use 2.0 CPUs just now")


# --- everything uses it


@pytest.fixture
def contexts(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each context was asked for."""
    asked: list[dict[str, Any]] = []
    make = Context.__init__

    def noted(self: Context, *args: Any, **options: Any) -> None:
        asked.append(options)
        make(self, *args, **options)

    monkeypatch.setattr(Context, "__init__", noted)
    return asked


@pytest.mark.parametrize("where", [None, "elsewhere"])
def test_run_and_chat_use_what_was_tuned(
    where: str | None, tunings: Tunings, contexts: list[dict[str, Any]], tiny: Path, tmp_path: Path
) -> None:
    """Settings in another models folder were kept there, and never found by ``edge run --models-dir``."""
    folder = [] if where is None else ["--models-dir", tmp_path / where]
    options = ["-n", "3", "--temp", "0", *folder]
    assert run("run", tiny, "hello", *options).exit_code == 0
    assert run("tune", tiny, "-q", *folder).exit_code == 0
    for command in (["run", tiny, "hello"], ["chat", tiny]):
        assert CliRunner().invoke(cli, [*map(str, [*command, *options])], input=b"hello\n").exit_code == 0
    assert run("run", tiny, "hello", *options, "--threads", "2", "--flash-attn", "off").exit_code == 0
    names = ("threads", "threads_batch", "flash_attn", "n_ubatch")
    before, in_run, in_chat, chosen = ([context[name] for name in names] for context in contexts)
    assert before == [None, None, None, 512]
    assert in_run == in_chat == [1, 2, True, 128]
    assert chosen == [2, 2, False, 128]


# --- what cannot be


@pytest.mark.parametrize("options", [["-ngl", "x"], ["-ngl", "-2"], ["--threads", "2"], ["--what"]], ids=" ".join)
def test_wrong_usage_is_exit_code_2(options: list[str], tunings: Tunings, tiny: Path) -> None:
    asked = run("tune", tiny, *options)
    assert asked.exit_code == 2 and tunings == [] and "Traceback" not in asked.output
    assert run("tune").exit_code == 2


def refused(*arguments: object) -> str:
    asked = run("tune", *arguments)
    assert asked.exit_code == 1 and isinstance(asked.exception, SystemExit), asked.exception
    assert asked.stdout == "" and asked.stderr.startswith("error: ") and asked.stderr.count("\n") == 1
    return asked.stderr.removeprefix("error: ").rstrip()


def test_what_is_no_model(tunings: Tunings, tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "half.gguf").write_bytes(tiny.read_bytes()[: tiny.stat().st_size // 2])
    (tmp_path / "folder.gguf").mkdir()
    (tmp_path / "folder").mkdir()
    assert refused(tmp_path / "half.gguf").endswith("; download or convert it again")
    assert "there is no file" in refused(tmp_path / "folder.gguf")
    assert "it has no config.json" in refused(tmp_path / "folder")
    assert "qwen2.5-7b is not here yet; run: edge convert qwen2.5-7b" in refused("qwen2.5-7b")
    assert "did you mean tiny-qwen?" in refused("tiny-qwem")
    assert tunings == []


def test_where_nothing_can_be_kept_nothing_is_measured(tunings: Tunings, tiny: Path, tmp_path: Path) -> None:
    """It measured for most of a minute first."""
    (tmp_path / "a file").write_text("", encoding="utf-8")
    says = refused(tiny, "--models-dir", tmp_path / "a file")
    assert says.startswith("cannot make ") and "--models-dir" in says
    assert tunings == []
