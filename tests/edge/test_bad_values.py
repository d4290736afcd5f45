"""What a person may get wrong, with every command that loads a model: one line, what to do, and no traceback."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge import machine
from edge.cli.main import cli
from tests.edge import tiny_gguf

COMMANDS = ("run", "chat", "plan", "bench", "tune")
Made = Callable[[Path], Path]


def ask(command: str, model: object, *options: str) -> Result:
    question = ["hello"] if command == "run" else []
    return CliRunner().invoke(cli, [command, str(model), *question, *options], input=b"hello\n")


def refusal(asked: Result) -> str:
    """The one line that a person sees."""
    assert asked.exit_code == 1 and isinstance(asked.exception, SystemExit), asked.exception
    assert asked.stdout == "" and asked.stderr.count("\n") == 1 and asked.stderr.startswith("error: ")
    return asked.stderr.removeprefix("error: ").rstrip()


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_HOME", str(tmp_path / "home"))
    monkeypatch.setattr("edge.bench.gauges.busy_note", lambda: "")


def half(folder: Path) -> Path:
    whole = tiny_gguf.write(folder / "whole.gguf").read_bytes()
    (folder / "x.gguf").write_bytes(whole[: len(whole) // 2])
    return folder / "x.gguf"


def header(folder: Path) -> Path:
    (folder / "x.gguf").write_bytes(tiny_gguf.write(folder / "whole.gguf").read_bytes()[:3000])
    return folder / "x.gguf"


def nothing(folder: Path) -> Path:
    (folder / "x.gguf").touch()
    return folder / "x.gguf"


def text(folder: Path) -> Path:
    (folder / "x.gguf").write_text("<html>not found</html>", encoding="utf-8")
    return folder / "x.gguf"


def folder_named_as_file(folder: Path) -> Path:
    (folder / "x.gguf").mkdir()
    return folder / "x.gguf"


def empty_folder(folder: Path) -> Path:
    (folder / "x").mkdir()
    return folder / "x"


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("made", "says", "hint"),
    [
        (half, "x.gguf: the file ends inside the data of tensor", "download or convert it again"),
        (header, "x.gguf: ", "download or convert it again"),
        (nothing, "x.gguf: the file ends after 0 bytes", "download or convert it again"),
        (text, "x.gguf: not a GGUF file, it begins with b'<htm'", "download or convert it again"),
        (folder_named_as_file, "there is no file ", "`edge list` shows the models that are there"),
        (empty_folder, "it has no config.json", "give a name, a checkpoint folder or a .gguf file"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_model_that_is_none(command: str, made: Made, says: str, hint: str, tmp_path: Path) -> None:
    line = refusal(ask(command, made(tmp_path)))
    assert says in line and line.endswith(f"; {hint}")


@pytest.mark.parametrize(
    ("command", "options"),
    [
        *(
            (command, ("--threads", value))
            for command in ("run", "chat", "plan", "bench")
            for value in ("0", "513", "x")
        ),
        *((command, ("--ctx", "0")) for command in ("run", "chat", "plan")),
        *((command, ("--gpu-layers", "some")) for command in ("run", "bench", "tune")),
        ("bench", ("--output", "here.txt")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else value,
)
def test_a_value_that_no_machine_could_take(command: str, options: tuple[str, ...], tmp_path: Path) -> None:
    asked = ask(command, tiny_gguf.write(tmp_path / "x.gguf"), *options)
    assert asked.exit_code == 2 and asked.stdout == "" and "Traceback" not in asked.stderr
    assert asked.stderr.splitlines()[-1].startswith("Error: Invalid value for ")


@pytest.mark.parametrize("command", ["run", "chat"])
def test_a_context_larger_than_memory(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the one that is advised is made."""
    path = tiny_gguf.write(tmp_path / "long.gguf", {"qwen2.context_length": 1 << 24})
    monkeypatch.setattr(machine, "memory", lambda: machine.Memory(1 << 30, 1 << 22, None))
    line = refusal(ask(command, path, "--ctx", str(1 << 24)))
    told = "a context of 16777216 tokens needs 21.48 GB of memory, 4.2 MB are free; "
    assert line.startswith(told) and (most := int(line.removeprefix(told).split()[0])) >= 256
    assert line == f"{told}{most} tokens fit: --ctx {most}"
    assert ask(command, path, "--ctx", str(most), "-n", "2").exit_code == 0
