"""The engine on models whose layers of linear attention keep only their last state (Qwen3.5, Qwen3-Next)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from convert.pipeline import convert
from edge.engine.engine import Engine
from edge.llama.context import Context
from edge.llama.model import Model
from tests.checkpoints import build
from tests.edge.engine.test_engine import alone, computed, engine_of, follows, greedy, ids, prompt, submit_together


@pytest.fixture(scope="module", params=["qwen35", "qwen3next"])
def hybrid(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    folder = tmp_path_factory.mktemp("hybrid")
    convert(build(folder / "checkpoint", family=request.param), {"F32": folder / "model.gguf"}, threads=1)
    with Model(folder / "model.gguf") as model:
        yield model


def small(seed: int, n: int, model: Model) -> list[int]:
    return [token % (model.n_vocab // 2) for token in prompt(seed, n)]


def test_memories_that_cannot_be_cut(hybrid: Model) -> None:
    """Among others of other lengths, beside slots that fall idle, each gets what it gets alone."""
    assert not hybrid.can_cut
    prompts = [small(seed, 8 + 5 * seed, hybrid) for seed in range(6)]
    lengths = [20, 3, 12, 30, 7, 16]
    with engine_of(hybrid) as (engine, steps):
        requests = [greedy(tokens, n, ignore_eos=True) for tokens, n in zip(prompts, lengths, strict=True)]
        tickets = submit_together(engine, steps, requests)
        answers = [ids(ticket) for ticket in tickets]
    assert [len(answer) for answer in answers] == lengths
    assert all(follows(hybrid, *both, ignore_eos=True) for both in zip(prompts, answers, strict=True))


def test_a_conversation_goes_on_and_a_branch_begins_anew(hybrid: Model) -> None:
    first = small(9, 40, hybrid)
    with engine_of(hybrid) as (engine, _):
        answer = ids(engine.submit(greedy(first, 6, ignore_eos=True)))
        on = [*first, *answer, 3, 4]
        tokens, went_on = engine.submit(greedy(on, 5)).result()
        assert [token.token for token in tokens] == alone(hybrid, on, 5)
        branch = [*first[:30], 5, 6]
        tokens, branched = engine.submit(greedy(branch, 5)).result()
        assert [token.token for token in tokens] == alone(hybrid, branch, 5)
    assert (went_on.timings.cached_tokens, branched.timings.cached_tokens) == (45, 0)


def test_an_engine_begins_with_what_its_context_holds(hybrid: Model) -> None:
    """All that a sequence holds, or nothing of it."""
    held = small(10, 40, hybrid)
    for question, cached in (([*held, 5, 6], 40), ([*held[:30], 5, 6], 0), (held, 0)):
        with Context(hybrid, 2 * 512, n_seq_max=2, threads=1) as context:
            computed(context, held, 1)
            with Engine(hybrid, context, resident=[[], held]) as engine:
                answer, finished = engine.submit(greedy(question, 5)).result()
        assert finished.timings.cached_tokens == cached
        assert [token.token for token in answer] == alone(hybrid, question, 5)
