"""The options of ``edge run`` and ``edge chat``: how they are read, and that each reaches the model or the answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from convert.errors import EdgeError
from convert.pipeline import convert
from edge import api
from edge.cli.main import cli
from edge.cli.model_options import DEFAULT_CONTEXT, engine_and_answer, model_options, schema_text

SCHEMA = '{"type": "object", "properties": {"n": {"enum": [1, 2]}}, "required": ["n"], "additionalProperties": false}'


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("tiny") / "tiny-qwen.gguf"
    convert(Path(str(files("edge.models") / "tiny-qwen")), {"Q8_0": path})
    return str(path)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Keyword arguments of every ``Engine`` and of every ``Engine.chat``."""
    engines: list[Mapping[str, Any]] = []
    chats: list[Mapping[str, Any]] = []

    class Spy(api.Engine):
        def __init__(self, model: Any, **options: Any) -> None:
            engines.append(options)
            super().__init__(model, **options)

        def chat(self, messages: Any, **options: Any) -> api.Stream:
            chats.append(options)
            return super().chat(messages, **options)

    monkeypatch.setattr(api, "Engine", Spy)
    return engines, chats


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["run", *map(str, arguments)])


def chat(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["chat", *map(str, arguments)], input="你好\n".encode())


def sorted_options(*arguments: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What ``engine_and_answer`` makes of a command line."""
    found: list[tuple[dict[str, Any], dict[str, Any]]] = []

    @click.command
    @model_options
    def command(**given: Any) -> None:
        found.append(engine_and_answer(given))

    command.main(list(arguments), standalone_mode=False)
    return found[0]


# --- how they are read


def test_what_is_not_given_is_left_to_the_model() -> None:
    assert sorted_options() == ({}, {})
    assert DEFAULT_CONTEXT == api.DEFAULT_CONTEXT


@pytest.mark.parametrize(
    ("arguments", "engine"),
    [
        (["-c", "512"], {"ctx": 512}),
        (["-t", "2", "-tb", "3"], {"threads": 2, "threads_batch": 3}),
        (["-ngl", "all"], {"gpu_layers": -1}),
        (["-ngl", "auto"], {"gpu_layers": "auto"}),
        (["-ngl", "-1"], {"gpu_layers": -1}),
        (["--gpu-layers", "0"], {"gpu_layers": 0}),
        (["-ngl", "3"], {"gpu_layers": 3}),
        (["-ts", "3,1"], {"tensor_split": (3.0, 1.0)}),
        (["-ts", "0,0.5"], {"tensor_split": (0.0, 0.5)}),
        (["-mg", "0"], {"main_gpu": 0}),
        (["-fa", "on"], {"flash_attn": True}),
        (["-fa", "off"], {"flash_attn": False}),
        (["-fa", "auto"], {}),
        (["--kv-type", "q8_0"], {"kv_type": "q8_0"}),
        (["--cache-type", "q4_0", "-fa", "on"], {"kv_type": "q4_0", "flash_attn": True}),
        (["-fa", "off", "--kv-type", "f16"], {"kv_type": "f16", "flash_attn": False}),
        (["--mlock"], {"use_mlock": True}),
        (["--mmap"], {"use_mmap": True}),
        (["--no-mmap"], {"use_mmap": False}),
        (["--deterministic"], {"deterministic": True}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_options_of_the_model(
    tiny: str, seen: tuple[list[Any], list[Any]], arguments: list[str], engine: dict[str, Any]
) -> None:
    """They reach ``Engine``, which takes them: a build for the CPU puts no layers elsewhere."""
    assert sorted_options(*arguments) == (engine, {})
    asked = run(tiny, "你好", "-n", "2", "-q", *arguments)
    assert (asked.exit_code, asked.stderr) == (0, "") and asked.stdout.strip()
    assert seen[0] == [{"slots": 1, "models_dir": None, **engine}]


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["-n", "2"], {"max_tokens": 2}),
        (["--temp", "0"], {"temperature": 0.0}),
        (["--top-k", "0"], {"top_k": 0}),
        (["--top-p", "1"], {"top_p": 1.0}),
        (["--min-p", "0.1"], {"min_p": 0.1}),
        (["--repeat-penalty", "1.1"], {"repeat_penalty": 1.1}),
        (["--seed", "0"], {"seed": 0}),
        (["--seed", "-5"], {"seed": -5}),
        (["--seed", "9" * 30], {"seed": int("9" * 30)}),
        (["--stop", "a"], {"stop": ("a",)}),
        (["--stop", "a, b", "--stop", "c"], {"stop": ("a, b", "c")}),
        (["--json-schema", SCHEMA], {"schema": SCHEMA}),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else None,
)
def test_options_of_the_answer(
    tiny: str, seen: tuple[list[Any], list[Any]], arguments: list[str], answer: dict[str, Any]
) -> None:
    """A value of 0 is a value."""
    assert sorted_options(*arguments) == ({}, answer)
    for ask in (lambda *more: run(tiny, "你好", "-q", *more), lambda *more: chat(tiny, *more)):
        asked = ask("-n", "2", *arguments)
        assert (asked.exit_code, asked.stderr) == (0, "")
    as_always = {"variables": {}, "thinking_budget": None, "max_tokens": 2}
    assert seen[1] == [{**as_always, **answer}] * 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["-ngl", "x"],
        ["-ngl", "-2"],
        ["-ngl", "1.5"],
        ["-ngl", str(2**31)],
        ["-ts", "a"],
        ["-ts", ""],
        ["-ts", "1,"],
        ["-ts", "0,0"],
        ["-ts", "-1,2"],
        ["-ts", "nan"],
        ["-ts", "1,inf"],
        ["-mg", "-1"],
        ["-fa", "maybe"],
        ["--kv-type", "f32"],
        ["-c", "0"],
        ["-t", "0"],
        ["-n", "0"],
        ["--temp", "warm"],
        ["--seed", "1.5"],
        ["--think", "maybe"],
        ["--think", "-1"],
        ["--think", ""],
        ["--think", "9" * 5000],
    ],
    ids=lambda value: " ".join(value)[:20],
)
@pytest.mark.parametrize("ask", [run, chat])
def test_what_cannot_be_read_is_wrong_usage(tiny: str, ask: Any, arguments: list[str]) -> None:
    """A split of nan or of nothing but zeros went as far as llama.cpp."""
    asked = ask(tiny, *arguments)
    assert asked.exit_code == 2 and asked.stdout == ""
    last = asked.stderr.splitlines()[-1]
    assert last.startswith("Error: Invalid value for ") and f"'{arguments[0]}'" in last


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--temp", "-1"], "temperature is 0 to 100, got -1.0"),
        (["--temp", "nan"], "temperature is 0 to 100, got nan"),
        (["--top-p", "2"], "top_p is 0 to 1, got 2.0"),
        (["--min-p", "-0.1"], "min_p is"),
        (["--top-k", "-1"], "top_k is"),
        (["--top-k", str(10**12)], "top_k is"),
        (["--repeat-penalty", "0"], "repeat_penalty is"),
        (["-fa", "off", "--kv-type", "q8_0"], "a KV cache of q8_0 needs flash attention; leave --flash-attn off out"),
        (["--json-schema", "nowhere.json"], "cannot read the schema nowhere.json: No such file"),
        (["--json-schema", ""], "cannot read the schema"),
        (["--json-schema", "{"], "--json-schema is not JSON"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else None,
)
def test_what_makes_no_sense_is_one_line_before_a_model_is_loaded(arguments: list[str], says: str) -> None:
    for asked in (run("no-such-model", "hi", *arguments), chat("no-such-model", *arguments)):
        assert asked.exit_code == 1 and asked.stdout == ""
        assert asked.stderr.startswith(f"error: {says}") and asked.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--stop", ""], "a stop string is empty"),
        (["-ts", "3,1", "-mg", "0"], "one main GPU or is split, not both"),
        (["-ts", ",".join(["1"] * 100)], "is no split over GPUs"),
        (["-c", str(2**40)], "more than the"),
        (["--json-schema", '{"type": "nothing"}'], "the schema is refused at $.type"),
        (["--json-schema", '{"properties": {"a": {"type": 5}}}'], "at $.properties.a.type"),
    ],
    ids=lambda value: " ".join(value)[:30] if isinstance(value, list) else None,
)
def test_what_the_model_refuses_is_one_line(tiny: str, arguments: list[str], says: str) -> None:
    for asked in (run(tiny, "hi", *arguments), chat(tiny, *arguments)):
        assert asked.exit_code == 1 and asked.stdout == ""
        assert asked.stderr.startswith("error: ") and says in asked.stderr and asked.stderr.count("\n") == 1


# --- a schema


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_schema_from_a_file(tmp_path: Path, encoding: str) -> None:
    """Notepad writes a mark before the text, which is no JSON."""
    path = tmp_path / "数.json"
    path.write_text(SCHEMA, encoding=encoding)
    assert schema_text(str(path)) == SCHEMA
    assert schema_text(f" \n{SCHEMA}") == f" \n{SCHEMA}"


def test_an_answer_keeps_to_the_schema(tiny: str, tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(SCHEMA)
    for given in (SCHEMA, tmp_path / "s.json"):
        assert json.loads(run(tiny, "你好", "--json-schema", given, "-q").stdout)["n"] in (1, 2)


@pytest.mark.parametrize("content", [b"", b"{", b"hello", b"\xff\xfe{\x00}\x00", b"[" * 100_000])
def test_a_file_without_a_schema_is_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "s.json"
    path.write_bytes(content)
    with pytest.raises(EdgeError, match=r"s\.json( is not JSON|: )"):
        schema_text(str(path))


@pytest.mark.parametrize("given", [".", "\0", "x" * 5000])
def test_a_name_that_is_no_file_is_one_line(given: str) -> None:
    with pytest.raises(EdgeError, match="cannot read the schema") as caught:
        schema_text(given)
    assert "\n" not in str(caught.value)


# --- what they do


def test_the_first_of_several_stop_strings_ends_the_answer(tiny: str) -> None:
    whole = run(tiny, "你好", "--temp", "0", "-q").stdout.strip()
    early, late = whole[2:4], whole[5:7]
    assert whole.index(early) < whole.index(late)
    stopped = run(tiny, "你好", "--temp", "0", "-q", "--stop", late, "--stop", early).stdout
    assert stopped == whole[: whole.index(early)] + "\n"


def test_a_seed_gives_the_same_answer_again(tiny: str) -> None:
    one, two, other = (run(tiny, "你好", "--temp", "2", "--seed", seed, "-q").stdout for seed in (1, 1, 2))
    assert one == two != other


@pytest.mark.skipif(sys.platform == "win32", reason="no limits there")
def test_memory_that_may_not_be_locked_is_no_failure(tiny: str) -> None:
    """For root the limit does not count: then it is locked."""
    limited = (
        "import resource; resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0)); from edge.cli.main import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", limited, "run", tiny, "hi", "--mlock", "-q", "-n", "2"],
        capture_output=True,
        env={**os.environ, "PYTHONUTF8": "1"},
    )
    assert (done.returncode, done.stderr) == (0, b"") and done.stdout.strip()
