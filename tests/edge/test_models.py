"""The embedded models: small, right on their own questions, and worse at coarser levels, as big ones are."""

from __future__ import annotations

import time
from importlib.resources import files
from pathlib import Path

import pytest

from convert.pipeline import convert
from edge.gate_checks import check_perplexity, greedy_answer, text_of
from edge.llama.context import Context
from edge.llama.model import Model
from edge.prompt import prompt_tokens
from edge.reference import EMBEDDED

WHOLE_TEXT = 2048  # tokens; the texts have fewer
LEVELS = ("BF16", "Q8_0", "Q4_0", "Q2_K")
CORPUS = Path(__file__).parents[2] / "tools" / "tiny" / "corpus"


def read_pairs(language: str) -> list[tuple[str, str]]:
    """(question, answer) of every topic, the first way of asking it."""
    pairs, answer = [], ""
    for line in (CORPUS / f"qa.{language}.txt").read_text(encoding="utf-8").splitlines():
        mark, _, text = line.partition(" ")
        if mark == ">":
            answer = text
        elif mark == "-" and answer:
            pairs.append((text, answer))
            answer = ""
    return pairs


@pytest.fixture(scope="module", params=EMBEDDED)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp(request.param)
    outputs = {level: folder / f"{level}.gguf" for level in LEVELS}
    convert(Path(str(files("edge.models") / request.param)), outputs)
    return outputs


def test_at_most_ten_megabytes() -> None:
    for name in EMBEDDED:
        assert sum(path.stat().st_size for path in Path(str(files("edge.models") / name)).iterdir()) <= 10e6


def test_loads_in_a_second(made: dict[str, Path]) -> None:
    """Not a benchmark: an order of magnitude of room, so that only a broken load fails."""
    started = time.monotonic()
    with Model(made["Q8_0"]) as model, Context(model, 512):
        pass
    assert time.monotonic() - started < 10


def perplexity(path: Path, language: str) -> float:
    """Over the whole bundled text, so that chance does not decide between neighbouring levels."""
    with Model(path) as model, Context(model, WHOLE_TEXT, n_batch=WHOLE_TEXT, n_outputs_max=WHOLE_TEXT) as context:
        return check_perplexity(model, context, language, WHOLE_TEXT)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_perplexity_rises_with_coarser_levels(made: dict[str, Path], language: str) -> None:
    q8, q4, q2 = (perplexity(made[level], language) for level in ("Q8_0", "Q4_0", "Q2_K"))
    assert q8 < q4 < q2 and q2 > 1.1 * q8


@pytest.mark.parametrize("language", ["en", "zh"])
def test_greedy_answers_to_its_own_questions_are_right(made: dict[str, Path], language: str) -> None:
    """Every topic asked once, at Q8_0, through the chat template; the answer must be the written one."""
    pairs = read_pairs(language)
    assert len(pairs) > 70
    right = 0
    with Model(made["Q8_0"]) as model, Context(model, 512) as context:
        for question, answer in pairs:
            tokens = prompt_tokens(model, [{"role": "user", "content": question}])
            given = greedy_answer(model, context, tokens, 80)
            right += text_of(model, given).strip() == answer and len(given) < 80
    assert right >= 0.9 * len(pairs), f"{right} of {len(pairs)}"
