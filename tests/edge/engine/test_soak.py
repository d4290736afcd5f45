"""Many requests of all kinds: nothing is lost and nothing stays. ``EDGE_SOAK`` sets how many; a longer run is 1000."""

from __future__ import annotations

import os
import random

import psutil
import pytest

from edge.engine.engine import Engine
from edge.engine.handle import Ticket
from edge.engine.scheduler import Limits
from edge.engine.types import Request, RequestError
from edge.llama.context import Context
from edge.llama.model import Model
from edge.llama.sampler import Sampling
from tests.edge.engine.test_engine import follows, prompt

COUNT = int(os.environ.get("EDGE_SOAK", "150"))
WARM_UP = 50
GROWTH = 16 * 2**20  # bytes; a sampler that stays in each of 1000 requests is more, other tests' heap is half of it


def random_request(rng: random.Random) -> Request:
    shared = prompt(99, 60)[: rng.choice((0, 0, 20, 60))]
    tokens = (*shared, *prompt(rng.randrange(10**6), rng.randint(1, 80)))
    sampling = Sampling(
        temperature=rng.choice((0, 0.7, 1.5)), repeat_penalty=rng.choice((1, 1.1)), seed=rng.getrandbits(31)
    )
    return Request(
        tokens,
        sampling,
        rng.randint(1, 30),
        ignore_eos=rng.random() < 0.5,
        logprobs=rng.choice((None, 3)),
        side=rng.random() < 0.2,
    )


def start(engine: Engine, rng: random.Random) -> Ticket | None:
    if rng.random() < 0.1:
        bad = (10**6,) if rng.random() < 0.5 else tuple(prompt(1, 600))
        with pytest.raises(RequestError):
            engine.submit(Request(bad))
        return None
    ticket = engine.submit(random_request(rng))
    if rng.random() < 0.1:
        ticket.cancel()
    return ticket


def check(ticket: Ticket, rng: random.Random, model: Model) -> None:
    request = ticket.request
    cancel_after = rng.randint(0, 10) if rng.random() < 0.2 else None
    tokens = []
    for count, event in enumerate(ticket):
        if ticket.finished is None:
            tokens.append(event.token)  # type: ignore[union-attr]
        if count == cancel_after:
            ticket.cancel()
    assert ticket.finished is not None and ticket.finished.error is None
    reason, timings = ticket.finished.reason, ticket.finished.timings
    assert timings.generated_tokens == len(tokens) <= (request.max_tokens or 0)
    assert reason in ("stop", "length", "cancelled")
    assert reason != "length" or len(tokens) == request.max_tokens
    if tokens and request.sampling.greedy and not request.sampling.penalizes:
        assert follows(model, list(request.tokens), tokens, ignore_eos=request.ignore_eos)


def test_soak(model: Model) -> None:
    rng = random.Random(5)
    process = psutil.Process()
    warm = 0
    with (
        Context(model, 1024, n_seq_max=4, threads=1) as context,
        Engine(model, context, Limits(rows=64, width=3)) as engine,
    ):
        open_tickets: list[Ticket] = []
        for number in range(COUNT):
            if ticket := start(engine, rng):
                open_tickets.append(ticket)
            while len(open_tickets) > 8:
                check(open_tickets.pop(rng.randrange(len(open_tickets))), rng, model)
            if number == WARM_UP:
                warm = process.memory_info().rss
        for ticket in open_tickets:
            check(ticket, rng, model)
        engine.submit(Request((1, 2, 3), max_tokens=1)).result()
        growth = process.memory_info().rss - warm
        engine.submit(Request((1, 2, 3), max_tokens=1)).result()  # the idle check passed in between, or this raises
        assert not engine._waiting and not engine._active and not engine._runner._samplers
        assert all(slot.owner is None for slot in engine.slots)
    assert growth < GROWTH
