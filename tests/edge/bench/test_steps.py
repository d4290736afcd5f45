"""What is timed, and that a context is afterwards as it was before."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.bench.steps import Steps
from edge.llama.batch import Batch
from edge.llama.context import Context
from edge.llama.model import Model
from tests.edge.bench.conftest import Hybrid

KINDS = ("plain", "qwen35", "qwen3next")
Rows = list[list[tuple[int, int, bool]]]


@pytest.fixture(scope="module", params=KINDS)
def model(request: pytest.FixtureRequest, tiny: Mapping[str, Path], hybrid: Hybrid) -> Iterator[Model]:
    with Model(tiny["Q8_0"] if request.param == "plain" else hybrid(request.param)) as model:
        assert model.can_cut == (request.param == "plain")
        yield model


@contextmanager
def steps_on(model: Model, width: int = 1, n_batch: int = 512) -> Iterator[tuple[Steps, Rows]]:
    """With the rows of every decode: sequence, position, and whether its logits were wanted."""
    rows: Rows = []
    with (
        Context(model, 1024 * width, n_seq_max=width, n_batch=n_batch, n_ubatch=n_batch, threads=1) as context,
        Steps(context) as steps,
    ):
        decode = context.decode

        def spied(batch: Batch) -> None:
            decode(batch)
            raw = batch.raw
            rows.append([(raw.seq_id[i][0], raw.pos[i], bool(raw.logits[i])) for i in range(len(batch))])

        context.decode = spied  # type: ignore[method-assign]
        yield steps, rows


def logits_after(context: Context, token: int, position: int, sequence: int = 0) -> np.ndarray:
    with Batch(1) as batch:
        batch.add(token, position, sequence, True)
        context.decode(batch)
        return context.logits(0).copy()


def lasts(context: Context) -> list[int]:
    return [context.memory_last(sequence) for sequence in range(context.n_seq_max)]


def test_a_prompt_in_one_piece_or_several(model: Model) -> None:
    with steps_on(model) as (steps, rows):
        for depth, most, sizes in ((0, None, [300]), (0, 128, [128, 128, 44]), (20, 10_000, [300])):
            steps.fill(depth)
            rows.clear()
            assert steps.prefill(300, most) > 0
            assert [len(step) for step in rows] == sizes
            flat = [row for step in rows for row in step]
            assert [position for _, position, _ in flat] == list(range(depth, depth + 300))
            assert [wanted for _, _, wanted in flat] == [False] * 299 + [True], "the last one's logits alone"
            assert lasts(steps.context) == [depth - 1]


def test_a_batch_smaller_than_the_prompt(model: Model) -> None:
    with steps_on(model, n_batch=64) as (steps, rows):
        steps.prefill(100)
        assert [len(step) for step in rows] == [64, 36]


@pytest.mark.parametrize("depth", [0, 30])
def test_each_step_has_a_token_of_each_sequence(model: Model, depth: int) -> None:
    with steps_on(model, 3) as (steps, rows):
        steps.fill(depth, 3)
        assert lasts(steps.context) == [depth - 1] * 3
        for width in (1, 3, 2):
            rows.clear()
            assert steps.decode(5, width) > 0
            assert rows == [[(sequence, depth + i, True) for sequence in range(width)] for i in range(5)]
            assert lasts(steps.context) == [depth - 1] * 3


def test_the_prefix_is_as_it_was(model: Model) -> None:
    """In every sequence, whatever was decoded behind it."""
    with steps_on(model, 3) as (steps, _):
        steps.fill(30, 3)
        steps.prefill(70)
        steps.decode(4, 3)
        steps.prefill(50, 16)
        steps.decode(2, 2)
        prefix = list(steps.prefix)
        got = [logits_after(steps.context, 7, 30, sequence) for sequence in range(3)]
    assert len(prefix) == 30
    with Context(model, 1024, threads=1) as context, Batch(64) as batch:
        for position, token in enumerate([*prefix, 7]):
            batch.add(token, position, 0, position == 30)
        context.decode(batch)
        want = context.logits(30)
        for logits in got:
            np.testing.assert_allclose(logits, want, atol=0.02 * np.abs(want).max())


def test_filling_again(model: Model) -> None:
    with steps_on(model, 2) as (steps, _):
        for depth in (40, 10, 0, 20):
            steps.fill(depth, 2)
            steps.decode(3, 2)
            assert steps.depth == depth and lasts(steps.context) == [depth - 1] * 2
            steps.prefill(9)
            assert lasts(steps.context) == [depth - 1] * 2


def test_tokens_are_the_same_each_time(model: Model) -> None:
    with steps_on(model) as (one, _), steps_on(model) as (other, _):
        tokens = one.tokens(500)
        assert tokens == other.tokens(500) != one.tokens(500)
        assert all(0 <= token < model.n_vocab for token in tokens) and len(set(tokens)) > 100


@pytest.mark.parametrize("work", ["prefill", "decode"])
def test_where_the_clock_starts_and_stops(model: Model, work: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Around the decodes until they are done: neither choosing tokens counts nor forgetting what was computed."""
    events: list[str] = []

    def noted(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        def call(*arguments: Any) -> Any:
            events.append(name)
            return real(*arguments)

        monkeypatch.setattr(owner, name, call)

    with steps_on(model) as (steps, _):
        steps.fill(10)
        for name in ("decode", "synchronize", "memory_rm"):
            noted(steps.context, name)
        noted(steps, "tokens")
        noted(time, "perf_counter")
        if work == "prefill":
            steps.prefill(20, 10)
            timed = ["decode", "decode", "synchronize"]
        else:
            steps.decode(2)
            timed = ["decode", "synchronize"] * 2
    assert events == ["tokens", "perf_counter", *timed, "perf_counter", "memory_rm"]
