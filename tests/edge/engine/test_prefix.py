"""A prefix that is kept beside the cache: computed once, put back by wipes and for who finds no slot with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from convert.pipeline import convert
from edge.engine.engine import Engine
from edge.engine.scheduler import Limits
from edge.engine.types import EngineError, RequestError
from edge.llama.context import ContextError
from edge.llama.model import Model
from tests.checkpoints import build
from tests.edge.engine.conftest import Load
from tests.edge.engine.test_engine import Gate, alone, engine_of, greedy, ids, prompt

PATIENCE = 30  # seconds


@pytest.fixture(scope="module", params=["tiny-qwen", "qwen35"])
def any_model(request: pytest.FixtureRequest, load: Load, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Model]:
    """One that forgets what it is told to, and one that forgets all or nothing."""
    if request.param == "tiny-qwen":
        yield load("tiny-qwen", "Q8_0")
        return
    folder = tmp_path_factory.mktemp("hybrid")
    convert(build(folder / "checkpoint", family=request.param), {"F32": folder / "model.gguf"}, threads=1)
    with Model(folder / "model.gguf") as one:
        yield one


def tokens_of(model: Model, seed: int, count: int) -> list[int]:
    return [token % (model.n_vocab // 2) for token in prompt(seed, count)]


def asked(engine: Engine, tokens: list[int], most: int = 6) -> tuple[list[int], int]:
    """The answer, and how many tokens of the prompt were there."""
    answer, finished = engine.submit(greedy(tokens, most)).result()
    return [token.token for token in answer], finished.timings.cached_tokens


def test_every_conversation_begins_with_it(any_model: Model) -> None:
    """Bug: a model that cannot forget the end of a conversation computed its beginning anew for every next visitor."""
    prefix = tokens_of(any_model, 1, 40)
    with engine_of(any_model, slots=2) as (engine, steps):
        state = engine.compute_prefix(prefix).result(PATIENCE)
        assert steps.total == 40
        for seed in range(2, 7):
            question = [*prefix, *tokens_of(any_model, seed, 5)]
            answer, cached = asked(engine, question)
            assert cached == 40 and answer == alone(any_model, question, 6)
        other = tokens_of(any_model, 8, 30)
        assert asked(engine, other) == (alone(any_model, other, 6), 0)
    with engine_of(any_model, slots=2) as (engine, steps):
        engine.restore_prefix(prefix, state).result(PATIENCE)
        assert engine.slots[0].tokens == prefix and steps.total == 0
        question = [*prefix, *tokens_of(any_model, 2, 5)]
        assert asked(engine, question) == (alone(any_model, question, 6), 40)


def test_a_prompt_that_is_only_the_prefix(any_model: Model) -> None:
    prefix = tokens_of(any_model, 1, 40)
    with engine_of(any_model) as (engine, _):
        engine.compute_prefix(prefix).result(PATIENCE)
        answer, cached = asked(engine, prefix)
        assert answer == alone(any_model, prefix, 6) and cached == (39 if any_model.can_cut else 0)


def test_a_wipe(any_model: Model) -> None:
    prefix, question = tokens_of(any_model, 1, 40), tokens_of(any_model, 2, 20)
    with engine_of(any_model) as (engine, _):
        engine.wipe().result(PATIENCE)
        asked(engine, question)
        engine.wipe().result(PATIENCE)
        assert [slot.tokens for slot in engine.slots] == [[]] * 4, "there is no prefix"
        assert [engine.context.memory_last(index) for index in range(4)] == [-1] * 4
        assert asked(engine, question)[1] == 0
        engine.compute_prefix(prefix).result(PATIENCE)
        asked(engine, [*prefix, *question])
        engine.wipe().result(PATIENCE)
        assert [slot.tokens for slot in engine.slots] == [prefix, [], [], []]
        on = [*prefix, *question]
        assert asked(engine, on) == (alone(any_model, on, 6), 40)


def test_a_wipe_while_somebody_is_answered(model: Model) -> None:
    """Their answer goes on; what they said is gone with the rest once they are done."""
    prefix, first, second = tokens_of(model, 1, 40), tokens_of(model, 2, 20), tokens_of(model, 3, 20)
    with engine_of(model) as (engine, steps):
        engine.compute_prefix(prefix).result(PATIENCE)
        asked(engine, second)
        steps.before = gate = Gate(after=3)
        ticket = engine.submit(greedy([*prefix, *first], 8))
        gate.wait()
        wiped = engine.wipe()
        gate.open()
        wiped.result(PATIENCE)
        assert ids(ticket) == alone(model, [*prefix, *first], 8)
        assert asked(engine, [*prefix, *first])[1] == 40, "and nothing more"
        assert asked(engine, second)[1] == 0


def test_a_wipe_when_the_last_one_is_cancelled(model: Model) -> None:
    """Bug: it was done at the end of a step, and there was none any more."""
    with engine_of(model) as (engine, steps):
        steps.before = gate = Gate(after=3)
        ticket = engine.submit(greedy(tokens_of(model, 2, 20), 500, ignore_eos=True))
        gate.wait()
        wiped = engine.wipe()
        ticket.cancel()
        gate.open()
        wiped.result(PATIENCE)
        assert ticket.result()[1].reason == "cancelled"
        assert engine.call(lambda: [slot.tokens for slot in engine.slots]).result(PATIENCE) == [[]] * 4
        assert engine.context.memory_last(0) == -1


def test_slots_of_others_do_not_displace_it(model: Model) -> None:
    prefix = tokens_of(model, 1, 40)
    with engine_of(model, slots=2) as (engine, _):
        engine.compute_prefix(prefix).result(PATIENCE)
        for seed in range(10, 14):
            asked(engine, tokens_of(model, seed, 20))
        assert not any(slot.tokens[:40] == prefix for slot in engine.slots)
        assert asked(engine, [*prefix, 5, 6])[1] == 40


def test_who_asks_meanwhile_computes_nothing_twice(model: Model) -> None:
    prefix = tokens_of(model, 1, 200)
    with engine_of(model) as (engine, steps):
        steps.before = gate = Gate()
        state = engine.compute_prefix(prefix)
        gate.wait()
        ticket = engine.submit(greedy([*prefix, 5, 6], 1))
        gate.open()
        answer = ids(ticket)
        assert len(state.result(PATIENCE)) > 0 and steps.total < 210
        assert answer == alone(model, [*prefix, 5, 6], 1)


def test_states_that_do_not_fit(model: Model) -> None:
    prefix = tokens_of(model, 1, 40)
    with engine_of(model) as (engine, _):
        state = engine.compute_prefix(prefix).result(PATIENCE)
    with engine_of(model) as (engine, _):
        for tokens, wrong in ((prefix[:-1], state), (prefix, state[:-1])):
            with pytest.raises(ContextError):
                engine.restore_prefix(tokens, bytearray(wrong)).result(PATIENCE)
            assert [slot.tokens for slot in engine.slots] == [[]] * 4
        assert asked(engine, [*prefix, 5])[1] == 0, "nothing was kept, and the engine goes on"


def test_no_prefix_where_no_answer_may_depend_on_another(model: Model) -> None:
    prefix = tokens_of(model, 1, 64)
    with engine_of(model, limits=Limits(rows=64, width=4, chunk=64)) as (engine, _):
        engine.compute_prefix(prefix).result(PATIENCE)
        assert asked(engine, [*prefix, 5, 6])[1] == 0


def test_what_cannot_be_computed(model: Model) -> None:
    with engine_of(model, n_ctx=256) as (engine, steps):
        with pytest.raises(RequestError, match="300 tokens"):
            engine.compute_prefix(tokens_of(model, 1, 300))
        steps.before = gate = Gate()
        state = engine.compute_prefix(tokens_of(model, 1, 100))
        gate.wait()
        gate.open()
        engine.close()
        assert state.done() and isinstance(state.exception(), EngineError | None)
