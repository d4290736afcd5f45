from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from edge.llama.batch import Batch
from edge.llama.context import Context
from edge.llama.model import Model
from edge.llama.sampler import Sampler, Sampling, SamplingError


@pytest.fixture
def ready(context: Context) -> Iterator[Context]:
    """A context whose row 0 has logits to write over."""
    with Batch(1) as batch:
        batch.add(1, 0, want_logits=True)
        context.decode(batch)
    yield context


def draw(context: Context, model: Model, s: Sampling, logits: dict[int, float], n: int = 1, prompt: Sequence[int] = ()):
    """Draw n times from logits that are -20 but for the given ones."""
    drawn = []
    with Sampler(model, s, prompt) as sampler:
        for _ in range(n):
            row = context.logits(0)
            row[:] = -20
            for token, value in logits.items():
                row[token] = value
            drawn.append(sampler.sample(context, 0))
    return drawn


def test_greedy_takes_the_best(ready: Context, model: Model) -> None:
    assert draw(ready, model, Sampling(temperature=0), {5: 1.0, 9: 1.1, 7: 0.9}, 3) == [9, 9, 9]


def test_a_seed_repeats_itself(ready: Context, model: Model) -> None:
    logits = {token: 1.0 for token in range(100)}
    once = draw(ready, model, Sampling(temperature=1, top_k=0, top_p=1, seed=3), logits, 20)
    assert once == draw(ready, model, Sampling(temperature=1, top_k=0, top_p=1, seed=3), logits, 20)
    assert once != draw(ready, model, Sampling(temperature=1, top_k=0, top_p=1, seed=4), logits, 20)
    assert len(set(once)) > 5


def test_probabilities_are_the_softmax(ready: Context, model: Model) -> None:
    counts = Counter(draw(ready, model, Sampling(temperature=2, top_k=0, top_p=1, seed=1), {3: 2.0, 4: 0.0}, 4000))
    assert counts[3] / 4000 == pytest.approx(np.e / (1 + np.e), abs=0.03)


@pytest.mark.parametrize(
    ("cut", "allowed"),
    [({"top_k": 2}, {1, 2}), ({"top_p": 0.7}, {1, 2}), ({"min_p": 0.5}, {1, 2}), ({}, {1, 2, 3})],
)
def test_cuts(ready: Context, model: Model, cut: dict[str, Any], allowed: set[int]) -> None:
    s = Sampling(**{"temperature": 1, "top_k": 0, "top_p": 1, "seed": 5} | cut)
    assert set(draw(ready, model, s, {1: 2.0, 2: 1.8, 3: 1.0}, 300)) == allowed


def test_temperature_comes_before_the_cuts(ready: Context, model: Model) -> None:
    """As in the reference library: a low temperature leaves top-p fewer tokens."""
    s = Sampling(temperature=0.2, top_k=0, top_p=0.9, seed=5)
    assert set(draw(ready, model, s, {1: 2.0, 2: 1.0}, 200)) == {1}


def test_penalties(ready: Context, model: Model) -> None:
    logits = {1: 2.0, 2: 1.9, 3: 1.8}
    greedy = {"temperature": 0}
    assert draw(ready, model, Sampling(**greedy, repeat_penalty=1.5), logits, 3) == [1, 2, 3]
    assert draw(ready, model, Sampling(**greedy, presence_penalty=0.15), logits, 3) == [1, 2, 1]
    assert draw(ready, model, Sampling(**greedy, frequency_penalty=0.15), logits, 4) == [1, 2, 1, 3]
    assert draw(ready, model, Sampling(**greedy, repeat_penalty=1.5), logits, prompt=[1, 2]) == [3]
    assert draw(ready, model, Sampling(**greedy, presence_penalty=0.5), logits, prompt=[1, 2]) == [1]
    assert draw(ready, model, Sampling(**greedy, repeat_penalty=1.5, penalty_last_n=1), logits, 3) == [1, 2, 1]


def test_logits_that_are_not_numbers_do_not_end_the_process(ready: Context, model: Model) -> None:
    for s in (Sampling(temperature=0), Sampling(temperature=1, min_p=0.1, repeat_penalty=1.1, seed=1)):
        (token,) = draw(ready, model, s, dict.fromkeys(range(300), float("nan")))
        assert 0 <= token < 300


def test_rows_without_logits(ready: Context, model: Model) -> None:
    with Sampler(model, Sampling()) as sampler, pytest.raises(ValueError, match="no logits"):
        sampler.sample(ready, 1)
    with pytest.raises(ValueError, match="closed"):
        sampler.sample(ready, 0)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 1.1},
        {"min_p": "much"},
        {"repeat_penalty": 0},
        {"presence_penalty": 3},
        {"seed": 1.5},
        {"top_k": 1.5},
        {"top_k": True},
    ],
)
def test_a_setting_outside_its_range_is_named(bad: dict[str, Any]) -> None:
    with pytest.raises(SamplingError, match=next(iter(bad))):
        Sampling(**bad)


def test_the_makers_advice() -> None:
    advice = {
        "general.sampling.temp": 0.6,
        "general.sampling.top_k": 20,
        "general.sampling.top_p": 7.0,
        "general.sampling.min_p": np.zeros(3),
        "general.sampling.penalty_repeat": 1.05,
    }
    assert Sampling.from_metadata(advice) == Sampling(temperature=0.6, top_k=20, repeat_penalty=1.05)
    assert Sampling.from_metadata({}) == Sampling()
