from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest

from convert.pipeline import convert
from edge.engine.types import TokenLogprob
from edge.errors import PackError
from edge.kiosk import golden


def gaps(*nats: float) -> list[TokenLogprob]:
    return [TokenLogprob(-0.1, ((1, -0.1), (2, -0.1 - gap))) for gap in nats]


def test_the_prefix_ends_before_the_first_token_that_was_a_close_call() -> None:
    assert golden.sure_tokens(gaps(5, 2, 0.4, 9)) == 2
    assert golden.sure_tokens(gaps(0.9, 9)) == 0
    assert golden.sure_tokens(gaps(3, 3)) == 2


def test_what_the_parser_takes_away_does_not_count() -> None:
    assert golden.common_prefix("\n\nParis is", "Paris is the capital") == "Paris is"
    assert golden.common_prefix(" thoughts</think>Paris", "thoughts") == "thoughts"
    assert golden.common_prefix("", "Paris") == ""


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("golden") / "tiny-qwen-Q8_0.gguf"
    convert(Path(str(files("edge.models") / "tiny-qwen")), {"Q8_0": path})
    return path


def test_a_question_the_model_knows_gives_the_beginning_of_its_answer(gguf: Path) -> None:
    question, prefix = golden.ask(gguf, ["hello"], ctx=256)
    assert question == "hello"
    assert prefix.startswith("Hello!")


def test_of_several_questions_the_first_sure_one_is_taken(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = iter((0, 3))
    monkeypatch.setattr(golden, "sure_tokens", lambda logprobs: next(counts))
    assert golden.ask(gguf, ["When do you open?", "hello"], ctx=256)[0] == "hello"


def test_a_question_without_a_sure_answer_is_refused(gguf: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another CPU might begin otherwise, and a sound installation would be refused."""
    monkeypatch.setattr(golden, "SURE", 1e9)
    with pytest.raises(PackError, match="choose a question"):
        golden.ask(gguf, ["hello"], ctx=256)
