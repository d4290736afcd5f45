"""Separate prompts, decoding one by one: what a request gets depends on its seed alone."""

from __future__ import annotations

import pytest

from edge.engine.engine import Engine
from edge.engine.scheduler import Limits
from edge.engine.types import Request
from edge.llama.context import Context
from edge.llama.model import Model
from edge.llama.sampler import Sampling
from tests.edge.engine.conftest import Load
from tests.edge.engine.test_engine import prompt

LENGTHS = (20, 64, 130, 505, 5, 33, 520, 40)  # around 512 tokens llama.cpp's attention takes another path


def answers(model: Model, requests: list[list[Request]]) -> list[list[int]]:
    """Of the requests of each list together, list after list."""
    found = []
    with (
        Context(model, 8 * 768, n_seq_max=8, threads=2) as context,
        Engine(model, context, Limits(rows=512, width=8, chunk=64)) as engine,
    ):
        for together in requests:
            tickets = [engine.submit(request) for request in together]
            found += [[token.token for token in ticket.result()[0]] for ticket in tickets]
    return found


@pytest.mark.parametrize("level", ["BF16", "Q8_0", "Q4_0"])
def test_alone_or_among_eight(load: Load, level: str) -> None:
    """Decoding together parted them: with one row in a step llama.cpp's attention splits a cache of 512 tokens among
    the threads, with several it does not, and repacked matrices have other products for rows in fours."""
    model = load("tiny-qwen", level)
    requests = [
        Request(tuple(prompt(60 + seed, length)), Sampling(1.0, seed=seed), 12, ignore_eos=True)
        for seed, length in enumerate(LENGTHS)
    ]
    assert answers(model, [requests]) == answers(model, [[request] for request in requests])
