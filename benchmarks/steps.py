"""What the engine's thread does in each step: time inside llama.cpp, and between its calls."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any
from unittest import mock

from edge.llama.model import Model


@dataclass
class Step:
    """One call of llama_decode, of ``rows`` tokens; seconds. ``sampling`` is the time in the samplers after it."""

    rows: int
    started: float
    decoding: float = 0.0
    sampling: float = 0.0


@contextmanager
def recorded(model: Model, *, sampled: bool) -> Iterator[list[Step]]:
    """The steps that an engine on ``model`` takes meanwhile.

    Without ``sampled`` the next token is random, as with llama-bench: logits are computed and waited for, and not
    looked at.
    """
    lib, steps, dice = model.lib, [], random.Random(1)
    decode, sample = lib.llama_decode, lib.llama_sampler_sample

    def timed_decode(context: Any, batch: Any) -> int:
        step = Step(batch.n_tokens, time.perf_counter())
        steps.append(step)
        code = decode(context, batch)
        step.decoding = time.perf_counter() - step.started
        return code

    def timed_sample(chain: Any, context: Any, row: int) -> int:
        started = time.perf_counter()
        if sampled:
            token = sample(chain, context, row)
        else:
            lib.llama_synchronize(context)
            token = dice.randrange(model.n_vocab)
        steps[-1].sampling += time.perf_counter() - started
        return token

    with mock.patch.multiple(lib, llama_decode=timed_decode, llama_sampler_sample=timed_sample):
        yield steps


def rate(steps: list[Step], width: int) -> float:
    """Tokens/s of the steps of ``width`` rows, from the start of the first to the start of the last."""
    lengths = [after.started - step.started for step, after in pairs(steps, width)]
    return width * len(lengths) / sum(lengths)


def python_seconds(steps: list[Step], width: int) -> list[float]:
    """Of each step of ``width`` rows, what it spent outside llama.cpp until the next one began."""
    return [after.started - step.started - step.decoding - step.sampling for step, after in pairs(steps, width)]


def pairs(steps: list[Step], width: int) -> list[tuple[Step, Step]]:
    return [pair for pair in pairwise(steps) if pair[0].rows == pair[1].rows == width]
