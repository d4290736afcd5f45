"""``edge run`` and ``Engine.chat`` where the model or the engine fails, and whether a model thinks."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result

from convert.errors import EdgeError
from convert.pipeline import convert
from edge.api import Engine
from edge.cli.answering import thinking
from edge.cli.main import cli
from edge.engine.types import EngineError
from edge.llama.batch import Batch
from edge.llama.context import Context, DecodeFailed
from edge.llama.library import load
from tests.edge import tiny_gguf

HELLO = [{"role": "user", "content": "hello"}]
CHOICE = "{% if enable_thinking is defined %}{{ enable_thinking }}{% endif %}"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny-qwen.gguf"
    convert(Path(str(files("edge.models") / "tiny-qwen")), {"Q8_0": path})
    return path


def endless(path: Path, template: str = tiny_gguf.TEMPLATE) -> Path:
    """A model whose greedy answer neither ends nor thinks by itself."""
    weights = tiny_gguf.tensors()
    never = [tiny_gguf.END_OF_TEXT, tiny_gguf.IM_END, tiny_gguf.THINK, tiny_gguf.END_THINK]
    weights["token_embd.weight"][never] = 0  # so are their logits, of which others are larger
    return tiny_gguf.write(path, {"tokenizer.chat_template": template}, weights)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["run", *map(str, arguments)])


def chat(*arguments: object, text: str = "hello\n") -> Result:
    return CliRunner().invoke(cli, ["chat", *map(str, arguments)], input=text.encode())


def error_of(asked: Result) -> str:
    """The one line that a person sees."""
    assert asked.exit_code == 1 and isinstance(asked.exception, SystemExit), asked.exception
    assert asked.stderr.startswith("error: ") and asked.stderr.count("\n") == 1
    return asked.stderr.removeprefix("error: ").rstrip()


# --- a broken model


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    weights = tiny_gguf.tensors()
    weights["output_norm.weight"][:] = np.nan
    return tiny_gguf.write(tmp_path / "nan.gguf", weights=weights)


@pytest.mark.parametrize("options", [(), ("--temp", "0"), ("--json",), ("--json-schema", "{}"), ("--deterministic",)])
def test_a_model_whose_numbers_are_none(broken: Path, options: tuple[str, ...]) -> None:
    asked = run(broken, "hello", *options)
    assert asked.stdout == ""
    assert error_of(asked) == (
        "nan.gguf is broken: it computes values that are not numbers; convert or download it again"
    )
    assert error_of(chat(broken, *(option for option in options if option != "--json"))) == error_of(asked)


def test_each_request_to_a_broken_model_is_refused(broken: Path) -> None:
    with Engine(broken) as llm:
        for _ in range(2):
            with pytest.raises(EngineError, match=r"broken.*; convert or download"):
                _ = llm.chat(HELLO).result
        with pytest.raises(EngineError, match=r"broken.*; convert or download"):
            llm.generate(["a", "b"])


# --- an engine that fails


Failing = tuple[Callable[[int], None], type[EdgeError], str]


@pytest.fixture(params=["llama.cpp", "Python"])
def failing(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Failing:
    """What lets all steps fail after so many, the error that it gives, and its text."""
    c, llama_decode, decode = load(), load().llama_decode, Context.decode

    def let_llama_fail(after: int) -> None:
        steps = itertools.count()
        monkeypatch.setattr(c, "llama_decode", lambda *given: llama_decode(*given) if next(steps) < after else -3)

    def let_python_fail(after: int) -> None:
        steps = itertools.count()

        def failing_decode(context: Context, batch: Batch) -> None:
            if next(steps) >= after:
                raise ZeroDivisionError("two\nlines")
            decode(context, batch)

        monkeypatch.setattr(Context, "decode", failing_decode)

    if request.param == "llama.cpp":
        return let_llama_fail, DecodeFailed, "the decode failed: no reason given (-3); load the model again"
    what = "the engine failed: ZeroDivisionError('two\\nlines')"
    return let_python_fail, EngineError, f"{what}; load the model again; if that fails too, report it"


def test_a_failing_step_is_one_line(tmp_path: Path, failing: Failing) -> None:
    let_fail, _, says = failing
    let_fail(0)
    asked = run(endless(tmp_path / "x.gguf"), "hello", "--temp", "0")
    assert error_of(asked) == says and asked.stdout == ""


def test_an_answer_that_breaks_off_ends_its_line(tmp_path: Path, failing: Failing) -> None:
    """The error came behind the last word, on the same line of a terminal."""
    let_fail, _, says = failing
    path = endless(tmp_path / "x.gguf")
    whole = run(path, "hello", "--temp", "0", "-n", "40", "-q").stdout
    let_fail(30)
    asked = run(path, "hello", "--temp", "0")
    assert error_of(asked) == says
    assert asked.stdout.endswith("\n") and len(asked.stdout) > 5 and whole.startswith(asked.stdout.rstrip("\n"))


def test_a_failing_chat_says_so_for_each_question(tmp_path: Path, failing: Failing) -> None:
    let_fail, _, says = failing
    let_fail(0)
    asked = chat(endless(tmp_path / "x.gguf"), text="hello\nhello\n")
    assert asked.exit_code == 1 and asked.stdout == ""
    assert asked.stderr == f"error: {says}\n" * 2


def test_the_engine_raises_what_ended_it(tmp_path: Path, failing: Failing) -> None:
    let_fail, error, says = failing
    let_fail(5)
    with Engine(endless(tmp_path / "x.gguf")) as llm:
        stream = llm.chat(HELLO, temperature=0)
        with pytest.raises(error) as caught:
            _ = stream.result
        assert str(caught.value) == says
        assert (caught.value.__cause__ is None) == (error is DecodeFailed)
        with pytest.raises(error):
            llm.chat(HELLO)
        with pytest.raises(error):
            llm.generate(["a", "b"])


def test_a_traceback_names_the_cause_with_debug(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def decode_of_this_test(_context: Context, _batch: Batch) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Context, "decode", decode_of_this_test)
    asked = run(endless(tmp_path / "x.gguf"), "hello", "--debug")
    assert "in decode_of_this_test" in asked.stderr and asked.exit_code == 1
    assert asked.stderr.splitlines()[-1].startswith("error: the engine failed: ZeroDivisionError")


# --- whether it thinks


@pytest.mark.parametrize(
    ("template", "choice", "variables", "budget"),
    [
        ("{{ enable_thinking }}", "on", {"enable_thinking": True}, None),
        ("{{ enable_thinking }}", "off", {"enable_thinking": False}, None),
        ("{{ enable_thinking }}<think>", "200", {"enable_thinking": True}, 200),
        ("{{ enable_thinking }}<think>", "0", {"enable_thinking": True}, 0),
        ("<think>", "200", {}, 200),
        ("<think>", "on", {}, None),
    ],
)
def test_thinking(template: str, choice: str, variables: dict[str, bool], budget: int | None) -> None:
    assert thinking(template, choice) == (variables, budget)


@pytest.mark.parametrize(
    ("template", "choice", "says"),
    [
        ("<think>", "off", "does not let one choose"),
        ("", "on", "does not let one choose"),
        (None, "off", "does not let one choose"),
        (None, "200", "does not think"),
        ("{{ enable_thinking }}", "200", "does not think"),
        ("<think>", "", "on, off, or the most tokens"),
        ("<think>", "-1", "on, off, or the most tokens"),
        ("<think>", "1.5", "on, off, or the most tokens"),
        ("<think>", "²", "on, off, or the most tokens"),
        ("<think>", "9" * 5000, "on, off, or the most tokens"),
    ],
)
def test_thinking_that_is_not_offered(template: str | None, choice: str, says: str) -> None:
    with pytest.raises(EdgeError, match=says):
        thinking(template, choice)


def test_a_model_that_cannot_choose_says_so(tiny: Path) -> None:
    for ask in (run, chat):
        more = ("hello",) if ask is run else ()
        assert "does not let one choose" in error_of(ask(tiny, *more, "--think", "off"))
        assert error_of(ask(tiny, *more, "--think", "20")) == "this model does not think"


def test_think_reaches_the_template(tmp_path: Path) -> None:
    path = endless(tmp_path / "x.gguf", "{{ messages[-1].content }}" + CHOICE)
    lengths = {(): 2, ("--think", "on"): 6, ("--think", "off"): 7}  # hi, hiTrue, hiFalse: a token a byte
    for options, tokens in lengths.items():
        asked = run(path, "hi", "--temp", "0", "-n", "1", "--json", *options)
        assert json.loads(asked.stdout)["prompt_tokens"] == tokens


def test_think_limits_the_thoughts(tmp_path: Path) -> None:
    """By itself this model thinks for ever."""
    path = endless(tmp_path / "x.gguf", tiny_gguf.TEMPLATE + "<think>\n")
    answers = {
        choice: json.loads(run(path, "hello", "--temp", "0", "-n", "30", "--json", "--think", choice).stdout)
        for choice in ("on", "3", "20", "200")
    }
    assert answers["on"]["answer"] == answers["200"]["answer"] == ""
    assert len(answers["3"]["answer"]) > len(answers["20"]["answer"]) > 0
    assert chat(path, "--temp", "0", "-n", "30", "--think", "3").stdout.strip() == answers["3"]["answer"].strip()
