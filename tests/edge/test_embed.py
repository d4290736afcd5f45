"""Vectors of texts, on the embedded tiny models."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from convert.errors import EdgeError
from convert.pipeline import convert
from edge.api import Engine
from edge.embed import LAST_TOKEN, Embedder
from edge.engine.types import ContextLengthError, RequestError
from edge.llama.batch import Batch
from edge.llama.context import Context
from tests.edge import tiny_gguf

TEXT = "Where is the lift? 电梯在哪里？ " * 8


@pytest.fixture(scope="module", params=["tiny-qwen", "tiny-glm"])
def llm(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path = tmp_path_factory.mktemp("embed") / f"{request.param}.gguf"
    convert(Path(str(files("edge.models") / request.param)), {"Q8_0": path})
    with Engine(path, slots=1) as engine:
        yield engine


def vector(embedder: Embedder, tokens: list[int]) -> np.ndarray:
    return asyncio.run(embedder.vector(tokens))


def states(engine: Engine, tokens: list[int]) -> np.ndarray:
    """All hidden states, computed in one go."""
    with Context(engine.model, 512, n_batch=512, n_ubatch=512, n_outputs_max=512, embeddings=True) as context:
        batch = Batch(512)
        for position, token in enumerate(tokens):
            batch.add(token, position, 0, True)
        context.decode(batch)
        found = np.stack([context.embedding(row) for row in range(len(tokens))]).astype(np.float64)
        batch.close()
    return found


def of_length_one(values: np.ndarray) -> np.ndarray:
    return values / np.linalg.norm(values)


def alike(one: np.ndarray, two: np.ndarray) -> bool:
    return float(one @ two) > 0.999


def test_a_vector_is_the_mean_of_the_states(llm: Engine) -> None:
    tokens = llm.model.tokenize(TEXT)
    assert 50 < len(tokens) < 512
    found = vector(Embedder(llm), tokens)
    expected = of_length_one(states(llm, tokens).mean(axis=0))
    assert found.dtype == np.float32 and found.shape == (llm.model.n_embd,)
    assert np.linalg.norm(found) == pytest.approx(1, abs=1e-5) and alike(found, expected)
    assert not alike(found, of_length_one(states(llm, tokens[:5]).mean(axis=0))), "of all of them"


@pytest.mark.parametrize("rows", [4, 7, 128])
def test_how_it_is_cut_does_not_matter(llm: Engine, rows: int) -> None:
    tokens = llm.model.tokenize(TEXT)
    embedder = Embedder(llm)
    embedder._rows = rows
    assert vector(embedder, tokens) == pytest.approx(vector(Embedder(llm), tokens), abs=5e-3)


def test_texts_do_not_mix(llm: Engine) -> None:
    texts = [llm.model.tokenize(text) for text in (TEXT, "hello", "你好", TEXT[::-1])]
    embedder = Embedder(llm)

    async def together() -> list[np.ndarray]:
        return await asyncio.gather(*(embedder.vector(tokens) for tokens in texts))

    for found, tokens in zip(asyncio.run(together()), texts, strict=True):
        assert alike(found, vector(Embedder(llm), tokens))


def test_a_text_that_was_given_up_leaves_nothing(llm: Engine) -> None:
    tokens = llm.model.tokenize("hello")
    embedder = Embedder(llm)
    embedder._rows = 4

    async def given_up() -> np.ndarray:
        task = asyncio.create_task(embedder.vector(llm.model.tokenize(TEXT)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await embedder.vector(tokens)

    assert alike(asyncio.run(given_up()), vector(Embedder(llm), tokens))


def test_it_learns_how_many_rows_are_quick(llm: Engine) -> None:
    embedder = Embedder(llm)
    before = embedder._rows
    vector(embedder, llm.model.tokenize(TEXT))
    assert embedder._rows > before


def test_the_last_token_where_the_file_says_so(tmp_path: Path) -> None:
    path = tiny_gguf.write(tmp_path / "last.gguf", {"qwen2.pooling_type": LAST_TOKEN})
    with Engine(path, slots=1) as engine:
        tokens = list(range(65, 100))
        last = of_length_one(states(engine, tokens)[-1])
        assert alike(vector(Embedder(engine), tokens), last)


@pytest.mark.parametrize(
    ("tokens", "error", "told"),
    [
        ([], RequestError, "nothing to embed"),
        ([10**6], RequestError, "another tokenizer's: send the text"),
        ([5, -1], RequestError, "another tokenizer's: send the text"),
        ([5] * 10_000, ContextLengthError, "10000"),
    ],
)
def test_what_cannot_be(llm: Engine, tokens: list[int], error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        vector(Embedder(llm), tokens)


def test_its_end_and_the_engines(tmp_path: Path) -> None:
    engine = Engine(tiny_gguf.write(tmp_path / "tiny.gguf"), slots=1)
    embedder = Embedder(engine)
    embedder.close()  # nothing was made
    first = vector(embedder, [65, 66])
    embedder.close()
    embedder.close()
    assert vector(embedder, [65, 66]) == pytest.approx(first), "made again"
    engine.close()
    with pytest.raises(EdgeError, match="closed"):
        vector(embedder, [65, 66])
    embedder.close()
