"""``edge serve``: its flags."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge.cli.main import cli
from edge.server.notify import Manager
from edge.server.serving import Serving

Run = Callable[..., Result]


@pytest.fixture
def started() -> list[Serving]:
    """What was to be served."""
    return []


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, started: list[Serving], gguf: dict[str, Path]) -> Run:
    """The command with these flags, up to where it would bind."""

    def serve(serving: Serving, ready: Callable[[str], None], manager: Manager | None) -> None:
        started.append(serving)
        ready("http://127.0.0.1:1")
        serving.tell("a request")

    monkeypatch.setattr("edge.server.run.serve", serve)

    def run(*arguments: object, model: object = None) -> Result:
        return CliRunner().invoke(cli, ["serve", str(model or gguf["tiny-qwen"]), *map(str, arguments)])

    return run


def test_without_flags(run: Run, started: list[Serving]) -> None:
    done = run()
    assert done.exit_code == 0, done.output
    (serving,) = started
    config = serving.config
    assert (config.host, config.port, config.socket, config.keys) == ("127.0.0.1", 8080, None, ())
    assert config.origins == config.hosts == () and config.kiosk is None
    assert serving.slots == serving.gate.slots == 4 and serving.gate.places == 4 + 16
    assert serving.name == "tiny-qwen-Q8_0" and serving.level == "Q8_0" and not serving.debug
    assert done.stderr == "tiny-qwen-Q8_0 at http://127.0.0.1:1 (Ctrl-C ends; page at /, OpenAI clients at /v1)\n"
    assert done.stdout == ""


def test_what_the_server_is_told(run: Run, started: list[Serving], tmp_path: Path) -> None:
    (keys := tmp_path / "keys").write_text("one\ntwo # second\n")
    (kiosk := tmp_path / "kiosk.toml").write_text('title = "Museum"\n')
    (operators := tmp_path / "operators").write_text("three\n")
    done = run(
        *("--host", "0.0.0.0", "--port", 0, "--api-key-file", keys, "--slots", 2, "--queue", 3, "--timeout", 7.5),
        *("--cors-origin", "https://a.example", "--cors-origin", "https://b.example", "--allow-host", "kiosk.local"),
        *("--alias", "helper", "--kiosk", kiosk, "--debug"),
        *("--answer-seconds", 45, "--operator-key-file", operators),
    )
    assert done.exit_code == 0, done.output
    (serving,) = started
    config = serving.config
    assert (config.host, config.port, config.keys, config.timeout) == ("0.0.0.0", 0, ("one", "two"), 7.5)
    assert config.origins == ("https://a.example", "https://b.example") and config.hosts == ("kiosk.local",)
    assert config.kiosk and config.kiosk.title == "Museum"
    assert config.soft_deadline == 45 and config.operator_keys == ("three",)
    assert serving.gate.slots == 2 and serving.gate.places == 5 and serving.name == "helper" and serving.debug


def test_the_engine_is_made_of_the_flags(run: Run, started: list[Serving]) -> None:
    assert run("--slots", 2, "-c", 256, "--threads", 1).exit_code == 0
    with started[0].load() as engine:
        assert engine.ctx == 256 and engine.context.threads == 1
        assert engine.context.n_seq_max == 2


def test_a_name_is_the_models(run: Run, started: list[Serving], gguf: dict[str, Path], tmp_path: Path) -> None:
    """No folder of this machine is in it."""
    folder = tmp_path / "models" / "qwen"
    folder.mkdir(parents=True)
    shutil.copy(gguf["tiny-qwen"], folder / "qwen-Q8_0.gguf")
    assert run("--models-dir", tmp_path / "models", model="qwen").exit_code == 0
    assert started[0].name == "qwen" and started[0].level == "Q8_0"


@pytest.mark.parametrize(("flags", "lines"), [((), 1), (("-q",), 0), (("-v",), 2), (("-q", "-v"), 1)])
def test_how_much_it_says(run: Run, flags: tuple[str, ...], lines: int) -> None:
    assert run(*flags).stderr.count("\n") == lines


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--host", "0.0.0.0"], "--api-key-file"),
        (["--cors-origin", "*"], "no origin"),
        (["--api-key-file", "nowhere"], "cannot read the key file"),
        (["--kiosk", "nowhere.toml"], "cannot read nowhere.toml"),
        (["--kv-type", "q8_0", "--flash-attn", "off"], "flash attention"),
    ],
)
def test_what_cannot_be_is_one_line(run: Run, started: list[Any], flags: list[str], told: str) -> None:
    done = run(*flags)
    assert done.exit_code == 1 and not started
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1 and told in done.stderr


@pytest.mark.parametrize(
    "flags", [["--port", 65536], ["--slots", 0], ["--queue", -1], ["--timeout", 0], ["--max-tokens", 5], ["--temp", 1]]
)
def test_what_is_no_flag(run: Run, started: list[Any], flags: list[object]) -> None:
    assert run(*flags).exit_code == 2 and not started


def test_a_model_that_is_not_there(run: Run, started: list[Any], tmp_path: Path) -> None:
    done = run("--models-dir", tmp_path, model="qwen2.5-7b")
    assert done.exit_code == 1 and not started and done.stderr.count("\n") == 1


def test_everybody_may_ask_where_that_is_said(run: Run) -> None:
    assert run("--host", "0.0.0.0", "--without-key").exit_code == 0


@pytest.mark.parametrize("name", ["a b", ""])
def test_names_for_clients(run: Run, started: list[Serving], name: str) -> None:
    assert run("--alias", name).exit_code == 0
    assert started[0].name == (name or "tiny-qwen-Q8_0")
