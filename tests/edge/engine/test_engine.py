"""The engine on the embedded tiny models. Greedy texts are compared with the gate's plain loop."""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from edge.engine.engine import Engine
from edge.engine.handle import Progress, Ticket
from edge.engine.scheduler import WORTH_WAITING, Limits
from edge.engine.types import EngineError, Event, Finished, Request, RequestError, Token
from edge.gate_checks import greedy_answer
from edge.llama.batch import Batch
from edge.llama.context import Context, DecodeAborted, DecodeFailed
from edge.llama.model import Model
from edge.llama.sampler import Sampling
from tests.edge import tiny_gguf
from tests.edge.engine.conftest import Load

GREEDY = Sampling(temperature=0)
TEXTS = ("你好", "Where are the toilets?", "The sun", "Once upon a time there was", "1 2 3 4", "今天天气")


@dataclass
class Steps:
    """What a context decoded: for each step its rows as (sequence, position). A test may hold steps back."""

    rows: list[list[tuple[int, int]]] = field(default_factory=list)
    before: Callable[[], None] = lambda: None

    @property
    def total(self) -> int:
        return sum(len(step) for step in self.rows)


@contextmanager
def engine_of(
    model: Model, n_ctx: int = 1024, slots: int = 4, limits: Limits | None = None
) -> Iterator[tuple[Engine, Steps]]:
    """``n_ctx``: of each slot."""
    steps = Steps()
    with Context(model, n_ctx * slots, n_seq_max=slots, threads=1) as context:
        decode = context.decode

        def spied(batch: Batch) -> None:
            steps.before()
            decode(batch)
            raw = batch.raw
            steps.rows.append([(raw.seq_id[row][0], raw.pos[row]) for row in range(len(batch))])

        context.decode = spied  # type: ignore[method-assign]
        with Engine(model, context, limits) as engine:
            yield engine, steps


class Gate:
    """Holds the engine's thread before its ``after``-th step until it is opened, so that what comes next is known."""

    def __init__(self, after: int = 0) -> None:
        self.left, self.reached, self.opened = after, threading.Event(), threading.Event()

    def __call__(self) -> None:
        if self.left == 0:
            self.reached.set()
            assert self.opened.wait(30)
        self.left -= 1

    def wait(self) -> None:
        assert self.reached.wait(30)

    def open(self) -> None:
        self.opened.set()


def greedy(tokens: list[int] | tuple[int, ...], n: int | None = 16, **more: object) -> Request:
    return Request(tuple(tokens), GREEDY, max_tokens=n, **more)  # type: ignore[arg-type]


def ids(ticket: Ticket) -> list[int]:
    return [token.token for token in ticket.result()[0]]


def alone(model: Model, tokens: list[int] | tuple[int, ...], n: int | None = 16, n_ctx: int = 1024) -> list[int]:
    with Context(model, n_ctx, threads=1) as context:
        return greedy_answer(model, context, tokens, n_ctx if n is None else n)


def follows(model: Model, tokens: list[int], answer: list[int], *, ignore_eos: bool = False) -> bool:
    """Whether each token of a greedy answer is the likeliest, or as good as that: rounding parts what is close."""
    forbidden = list(model.end_tokens) if ignore_eos else []
    with Context(model, 1024, n_outputs_max=len(answer), threads=1) as context, Batch(512) as batch:
        for position, token in enumerate([*tokens, *answer[:-1]]):
            batch.add(token, position, 0, position >= len(tokens) - 1)
        context.decode(batch)
        logits = [context.logits(row).copy() for row in batch.outputs]
        for row in logits:
            row[forbidden] = -np.inf
        return bool(answer) and all(row.max() - row[token] < 0.5 for row, token in zip(logits, answer, strict=True))


def prompt(seed: int, n: int) -> list[int]:
    return [int(token) for token in np.random.default_rng(seed).integers(100, 2300, n)]


def submit_together(engine: Engine, steps: Steps, requests: list[Request]) -> list[Ticket]:
    """All of them are there before any is admitted: the thread is held in a step of another request meanwhile."""
    gate = steps.before = Gate()
    first = engine.submit(greedy([5, 6, 7], 1))
    gate.wait()
    tickets = [engine.submit(request) for request in requests]
    gate.open()
    first.result()
    return tickets


# --- the same as alone


@pytest.mark.parametrize("name", ["tiny-qwen", "tiny-glm"])
def test_a_batch_gives_everyone_what_they_get_alone(load: Load, name: str) -> None:
    model = load(name, "BF16")
    prompts = [model.tokenize(text) for text in TEXTS]
    with engine_of(model) as (engine, steps):
        tickets = submit_together(engine, steps, [greedy(tokens) for tokens in prompts])
        assert [ids(ticket) for ticket in tickets] == [alone(model, tokens) for tokens in prompts]
        assert max(len(step) for step in steps.rows) >= 4, "they were computed together"
        assert all(ticket.finished and ticket.finished.reason in ("stop", "length") for ticket in tickets)


def test_a_prompt_in_small_chunks_among_decoding_ones(model: Model) -> None:
    long, short = prompt(1, 300), model.tokenize(TEXTS[0])
    with engine_of(model, limits=Limits(rows=16, width=4)) as (engine, steps):
        tickets = submit_together(engine, steps, [greedy(short, 40), greedy(long, 10)])
        assert ids(tickets[1]) == alone(model, long, 10)
        assert ids(tickets[0]) == alone(model, short, 40)
    assert max(len(step) for step in steps.rows) <= 16
    lengths = [len(step) for step in steps.rows]
    assert all(sum(pair) <= 16 and 1 in pair for pair in itertools.pairwise(lengths[2:30])), "one goes on between"


def test_more_slots_than_width(model: Model) -> None:
    prompts = [prompt(seed, 10) for seed in range(6)]
    with engine_of(model, slots=6, limits=Limits(rows=64, width=2)) as (engine, steps):
        tickets = submit_together(engine, steps, [greedy(tokens, 12) for tokens in prompts])
        assert [ids(ticket) for ticket in tickets] == [alone(model, tokens, 12) for tokens in prompts]


def test_slots_between_are_taken_along(model: Model) -> None:
    """llama.cpp computes neighbours together only: with an idle slot between them a step cost two passes."""
    prompts = [prompt(60 + seed, 10) for seed in range(4)]
    with engine_of(model) as (engine, steps):
        requests = [greedy(tokens, 3 if i == 1 else 30, ignore_eos=True) for i, tokens in enumerate(prompts)]
        tickets = submit_together(engine, steps, requests)
        answers = [ids(ticket) for ticket in tickets]
        assert all(follows(model, *both, ignore_eos=True) for both in zip(prompts, answers, strict=True))
        decodes = [[sequence for sequence, _ in step] for step in steps.rows if len(dict(step)) == len(step)]
        assert all(rows == list(range(rows[0], rows[-1] + 1)) for rows in decodes)
        assert decodes.count([0, 1, 2, 3]) >= 25, "also when the second had ended"
        _, finished = engine.submit(greedy([*prompts[1], *answers[1], 5], 1)).result()
        assert finished.timings.cached_tokens == 12, "what it held is as it was"


# --- what is reused


def test_a_conversation_goes_on_from_what_is_cached(model: Model) -> None:
    first = prompt(2, 50)
    with engine_of(model) as (engine, steps):
        answer = ids(engine.submit(greedy(first, 8)))
        before = steps.total
        second = [*first, *answer, *prompt(3, 5)]
        tokens, finished = engine.submit(greedy(second, 1)).result()
        assert finished.timings.cached_tokens == 57, "all but the last token drawn, which was never computed"
        assert steps.total - before == len(second) - 57
        assert finished.timings.prompt_tokens == len(second)
        assert [token.token for token in tokens] == alone(model, second, 1)


def test_the_same_prompt_again_computes_one_token(model: Model) -> None:
    tokens = prompt(4, 60)
    with engine_of(model) as (engine, steps):
        first = ids(engine.submit(greedy(tokens, 1)))
        before = steps.total
        again, finished = engine.submit(greedy(tokens, 1)).result()
        assert [token.token for token in again] == first
        assert finished.timings.cached_tokens == 59 and steps.total - before == 1


def test_a_common_prefix_is_computed_once(model: Model) -> None:
    prefix = prompt(5, 200)
    prompts = [[*prefix, *prompt(seed, 6)] for seed in range(10, 14)]
    with engine_of(model, limits=Limits(rows=64, width=4)) as (engine, steps):
        tickets = submit_together(engine, steps, [greedy(tokens, 8) for tokens in prompts])
        answers = [ids(ticket) for ticket in tickets]
    assert all(follows(model, tokens, answer) for tokens, answer in zip(prompts, answers, strict=True))
    prefix_rows = sum(position < 200 for step in steps.rows for _, position in step)
    near = 3 * WORTH_WAITING  # the end of the prefix is not waited for
    assert prefix_rows - 3 < 200 + near, "three tokens are another request's"
    cached = [ticket.finished.timings.cached_tokens for ticket in tickets if ticket.finished]
    assert sorted(cached)[0] == 0 and all(200 - WORTH_WAITING < one <= 200 for one in sorted(cached)[1:])


def test_a_branch(model: Model) -> None:
    """Part of a sequence cannot be copied; the attempt ended the engine's thread."""
    first = prompt(50, 50)
    second = [*first[:40], 7, 8]
    with engine_of(model) as (engine, _):
        engine.submit(greedy(first, 4)).result()
        answer, finished = engine.submit(greedy(second, 4)).result()
    assert finished.timings.cached_tokens == 40
    assert follows(model, second, [token.token for token in answer])


def test_a_side_request_leaves_conversations_alone(model: Model) -> None:
    talk = prompt(6, 40)
    with engine_of(model, slots=2) as (engine, _):
        answer = ids(engine.submit(greedy(talk, 4)))
        for seed in range(3):
            engine.submit(greedy(prompt(20 + seed, 30), 2, side=True)).result()
        _, aside = engine.submit(greedy([*talk, *answer[:2], 9, 10], 2, side=True)).result()
        _, finished = engine.submit(greedy([*talk, *answer, 7, 8], 2)).result()
    assert (aside.timings.cached_tokens, finished.timings.cached_tokens) == (42, 43)


def test_conversations_go_before_side_requests(model: Model) -> None:
    with engine_of(model, slots=1) as (engine, steps):
        side, talk = submit_together(engine, steps, [greedy(prompt(7, 9), 3, side=True), greedy(prompt(8, 9), 3)])
        _, second = side.result()
        _, first = talk.result()
        assert first.timings.queue < second.timings.queue


def test_a_memory_that_cannot_be_cut(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hybrid model refuses to forget the end of a sequence; what was reused then is computed."""
    tokens = prompt(9, 40)
    other = [*tokens[:30], *prompt(10, 10)]
    with engine_of(model, slots=1) as (engine, _):
        remove = engine.context.memory_rm
        whole = lambda seq_id, start=0, end=-1: start == 0 and remove(seq_id)  # noqa: E731
        monkeypatch.setattr(engine.context, "memory_rm", whole)
        engine.submit(greedy(tokens, 2)).result()
        ticket = engine.submit(greedy(other, 6))
        assert ids(ticket) == alone(model, other, 6)
        assert ticket.finished and ticket.finished.timings.cached_tokens == 0


# --- what the context holds already


def computed(context: Context, tokens: list[int], sequence: int = 0) -> None:
    """Let a sequence hold tokens, before there is an engine."""
    with Batch(len(tokens)) as batch:
        for position, token in enumerate(tokens):
            batch.add(token, position, sequence, position == len(tokens) - 1)
        context.decode(batch)


def test_an_engine_begins_with_what_its_context_holds(model: Model) -> None:
    held = [prompt(70, 50), prompt(71, 30)]
    with Context(model, 3 * 512, n_seq_max=3, threads=1) as context:
        for sequence, tokens in enumerate(held):
            computed(context, tokens, sequence)
        with Engine(model, context, resident=held) as engine:
            for tokens in held:
                question = [*tokens, *prompt(72, 6)]
                answer, finished = engine.submit(greedy(question, 5)).result()
                assert finished.timings.cached_tokens == len(tokens)
                assert [token.token for token in answer] == alone(model, question, 5)
            _, finished = engine.submit(greedy(prompt(73, 9), 2)).result()
            assert finished.timings.cached_tokens == 0
            assert [context.memory_last(slot.index) for slot in engine.slots] == [
                len(slot.tokens) - 1 for slot in engine.slots
            ]
        assert held == [prompt(70, 50), prompt(71, 30)], "the caller's lists are not the slots'"


def test_part_of_what_the_context_holds(model: Model) -> None:
    held = prompt(74, 50)
    with Context(model, 512, threads=1) as context:
        computed(context, held)
        with Engine(model, context, resident=[held]) as engine:
            for question, cached in (([*held[:20], 5, 6], 20), (held[:20], 19), (prompt(75, 9), 0)):
                answer, finished = engine.submit(greedy(question, 4)).result()
                assert finished.timings.cached_tokens == cached
                assert [token.token for token in answer] == alone(model, question, 4)


def test_a_context_that_holds_less_than_was_said(model: Model) -> None:
    """Everything is computed then."""
    said = prompt(76, 50)
    question = [*said, 5, 6]
    with Context(model, 512, threads=1) as context:
        computed(context, said[:30])
        with Engine(model, context, resident=[said]) as engine:
            answer, finished = engine.submit(greedy(question, 4)).result()
    assert finished.timings.cached_tokens == 0
    assert [token.token for token in answer] == alone(model, question, 4)


def test_clients_take_turns(model: Model) -> None:
    """Whoever sent ten requests first had all ten answered before anybody else's only one."""
    ended: queue.SimpleQueue[str] = queue.SimpleQueue()

    def ask(engine: Engine, seed: int, client: str) -> None:
        name = f"{client} {seed}"
        request = greedy(prompt(seed, 9), 2, client=client)
        engine.start(request, lambda event: ended.put(name) if isinstance(event, Finished) else None)

    with engine_of(model, slots=1) as (engine, steps):
        gate = steps.before = Gate(1)
        ask(engine, 60, "many")
        gate.wait()
        for seed, client in ((61, "many"), (62, "many"), (63, "one")):
            ask(engine, seed, client)
        gate.open()
        assert [ended.get(timeout=30) for _ in range(4)] == ["many 60", "one 63", "many 61", "many 62"]


# --- other work on the engine's thread


def test_a_call_runs_between_two_steps(model: Model) -> None:
    with engine_of(model) as (engine, steps):
        gate = steps.before = Gate(3)
        ticket = engine.submit(greedy(prompt(80, 20), 10))
        gate.wait()
        called = engine.call(lambda: (threading.current_thread().name, len(steps.rows)))
        failed = engine.call(lambda: 1 // 0)
        forgotten = engine.call(lambda: pytest.fail("it was cancelled"))
        assert forgotten.cancel()
        gate.open()
        name, at = called.result(30)
        assert name == "edge-engine" and at == 4
        with pytest.raises(ZeroDivisionError):
            failed.result(30)
        assert ids(ticket) == alone(model, prompt(80, 20), 10)
    with pytest.raises(EngineError, match="closed"):
        engine.call(lambda: None)


def test_progress(model: Model) -> None:
    with engine_of(model, slots=1, limits=Limits(rows=16, width=1)) as (engine, steps):
        gate = steps.before = Gate(2)
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        handles = [engine.start(greedy(prompt(81 + index, 50), 1), events.put) for index in range(3)]
        gate.wait()
        first = handles[0].progress()
        assert (first.ahead, first.total) == (0, 50) and 0 < first.done < 50
        gate.open()
        while (ahead := [handle.progress().ahead for handle in handles]) != [0, 0, 0]:
            assert ahead == [0, 0, 1]  # two wait
        for _ in handles:
            while not isinstance(events.get(timeout=30), Finished):
                pass
        assert handles[0].progress() == Progress(0, 50, 50)


def test_those_who_come_together_begin_together(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Four clients at once: the first one's prompt alone took as long as all of them, and then its answer kept the
    others' prompts in small pieces. A step that has just begun is stopped and begins again with all."""
    with engine_of(model, slots=3) as (engine, steps):
        decode, stopping = engine.context.decode, threading.Event()

        def decode_or_stop(batch: Batch) -> None:
            decode(batch)
            if stopping.is_set():
                stopping.clear()
                steps.rows.pop()
                raise DecodeAborted("stopped")

        monkeypatch.setattr(engine.context, "decode", decode_or_stop)
        monkeypatch.setattr(engine.context, "interrupt", stopping.set)
        monkeypatch.setattr("edge.engine.engine.TOGETHER", 30)
        gate = steps.before = Gate()
        first = engine.submit(greedy(prompt(93, 40), 3))
        gate.wait()
        same = engine.submit(greedy([*prompt(93, 40), *prompt(94, 40)], 3))
        assert not stopping.is_set(), "it waits for what they have in common"
        same.cancel()
        second = engine.submit(greedy(prompt(95, 20), 3))
        assert stopping.is_set()
        gate.open()
        assert [ids(first), ids(second)] == [alone(model, prompt(93, 40), 3), alone(model, prompt(95, 20), 3)]
        assert len(steps.rows[0]) == 60


# --- cancelling


def test_cancelling_one_that_waits(model: Model) -> None:
    with engine_of(model, slots=1) as (engine, steps):
        gate = steps.before = Gate(3)
        working = engine.submit(greedy(prompt(11, 20), 10))
        waiting = engine.submit(greedy(prompt(12, 20), 10))
        gate.wait()
        waiting.cancel()
        gate.open()
        assert ids(working) == alone(model, prompt(11, 20), 10)
        tokens, finished = waiting.result()
        assert not tokens and finished.reason == "cancelled" and finished.timings.generated_tokens == 0


def test_cancelling_in_a_half_done_prefill(model: Model) -> None:
    with engine_of(model, limits=Limits(rows=16, width=4)) as (engine, steps):
        gate = steps.before = Gate(1)
        other = engine.submit(greedy(prompt(13, 8), 60))
        gate.wait()
        next(iter(other))
        long = engine.submit(greedy(prompt(14, 300), 10))
        halfway = Gate(4)
        steps.before = halfway
        gate.open()
        halfway.wait()
        long.cancel()
        halfway.open()
        tokens, finished = long.result()
        assert not tokens and finished.reason == "cancelled"
        rest = [event.token for event in other if isinstance(event, Token)]
        assert rest == alone(model, prompt(13, 8), 60)[1:]
        reached = max(position for step in steps.rows for _, position in step)
        assert reached < 100, "the prefill went no further"
        # What was computed is of use to the next one.
        _, finished = engine.submit(greedy(prompt(14, 300), 1)).result()
        assert 0 < finished.timings.cached_tokens < 100


def test_cancelling_stops_the_step_that_reads_the_prompt(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps that nobody waits for may take seconds; a client that has gone ends them. Who shared one begins again."""
    with engine_of(model, slots=3) as (engine, steps):
        decode, stopping = engine.context.decode, threading.Event()

        def decode_or_stop(batch: Batch) -> None:
            decode(batch)  # all of it is in the cache, which is more than a stopped step leaves
            if stopping.is_set():
                stopping.clear()
                raise DecodeAborted("stopped")

        monkeypatch.setattr(engine.context, "decode", decode_or_stop)
        monkeypatch.setattr(engine.context, "interrupt", stopping.set)
        before = steps.before = Gate()
        engine.submit(greedy([5, 6, 7], 1))
        before.wait()
        gone, other = engine.submit(greedy(prompt(91, 60), 5)), engine.submit(greedy(prompt(92, 40), 5))
        within = steps.before = Gate()
        before.open()
        within.wait()
        gone.cancel()
        assert stopping.is_set()
        within.open()
        assert gone.result()[1].reason == "cancelled"
        assert ids(other) == alone(model, prompt(92, 40), 5)
        assert not stopping.is_set()


def test_cancelling_one_that_decodes(model: Model) -> None:
    with engine_of(model) as (engine, _):
        kept = engine.submit(greedy(prompt(15, 20), 80))
        ended = engine.submit(greedy(prompt(16, 20), 500, ignore_eos=True))
        events = iter(ended)
        got = [next(events) for _ in range(5)]
        ended.cancel()
        *more, last = events
        assert isinstance(last, Finished) and last.reason == "cancelled"
        assert last.timings.generated_tokens == len(got) + len(more) < 500
        assert ids(kept) == alone(model, prompt(15, 20), 80)
        ended.cancel()  # harmless
        assert ids(engine.submit(greedy(prompt(15, 20), 5))) == alone(model, prompt(15, 20), 5)


def test_cancelling_needs_no_lock(model: Model) -> None:
    """Forgotten streams are cancelled by the garbage collector, also in a thread that is submitting: it never ended."""
    with engine_of(model) as (engine, _):
        ticket = engine.submit(greedy(prompt(15, 20), 500, ignore_eos=True))
        with engine._sending:
            thread = threading.Thread(target=ticket.cancel, daemon=True)
            thread.start()
            thread.join(30)
            assert not thread.is_alive()
        assert ticket.result()[1].reason == "cancelled"


# --- how a request ends


def test_the_context_is_full(model: Model) -> None:
    with engine_of(model, 256, slots=1) as (engine, _):
        tokens, finished = engine.submit(greedy(prompt(17, 240), None, ignore_eos=True)).result()
        assert finished.reason == "length" and len(tokens) == 256 - 240
        longest = greedy(prompt(18, 255), None)
        assert len(engine.submit(longest).result()[0]) == 1


def test_a_prompt_that_does_not_fit(model: Model) -> None:
    with engine_of(model, 256, slots=1) as (engine, steps):
        with pytest.raises(RequestError, match="256 tokens, the context 256"):
            engine.submit(greedy(prompt(19, 256)))
        assert not steps.rows
    with pytest.raises(RequestError, match="empty"):
        Request(())
    with pytest.raises(RequestError, match="got 0"):
        Request((1,), max_tokens=0)


def test_stop_tokens_and_the_limit(model: Model) -> None:
    tokens = prompt(20, 12)
    want = alone(model, tokens, 10)
    stop = next(token for token in want if want.index(token) >= 3)
    with engine_of(model) as (engine, _):
        ticket = engine.submit(greedy(tokens, 10, stop_tokens=frozenset({stop})))
        assert ids(ticket) == want[: want.index(stop)]
        assert ticket.finished and ticket.finished.reason == "stop"
        ticket = engine.submit(greedy(tokens, 7))
        assert ids(ticket) == want[:7]
        assert ticket.finished and ticket.finished.reason == "length"


def ending(model: Model) -> tuple[list[int], int]:
    """A prompt whose greedy answer the model ends by itself, and the answer's length."""
    for text in TEXTS:
        tokens = model.tokenize(f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n", parse_special=True)
        if len(answer := alone(model, tokens, 400)) < 400:
            return tokens, len(answer)
    raise AssertionError("the tiny model never ends")


def test_the_end_token(model: Model) -> None:
    tokens, length = ending(model)
    with engine_of(model) as (engine, _):
        answer, finished = engine.submit(greedy(tokens, 400)).result()
        assert len(answer) == finished.timings.generated_tokens == length and finished.reason == "stop"
        assert all(token.token not in model.end_tokens for token in answer)
        longer, finished = engine.submit(greedy(tokens, length + 20, ignore_eos=True)).result()
        assert len(longer) == length + 20 and finished.reason == "length"
        assert longer[:length] == answer and all(token.token not in model.end_tokens for token in longer)


# --- sampling


def test_logit_bias(model: Model) -> None:
    tokens = prompt(21, 12)
    first = alone(model, tokens, 1)[0]
    with engine_of(model) as (engine, _):
        forbidden = ids(engine.submit(greedy(tokens, 5, logit_bias={first: float("-inf")})))
        assert first not in forbidden
        assert ids(engine.submit(greedy(tokens, 5, logit_bias={777: 1000.0}))) == [777] * 5


def test_logprobs_are_the_log_softmax_of_the_raw_logits(model: Model) -> None:
    """Neither temperature nor a bias changes them."""
    tokens = prompt(22, 12)
    with Context(model, 1024, threads=1) as context, Batch(12) as batch:
        for position, token in enumerate(tokens):
            row = batch.add(token, position, 0, position == 11)
        context.decode(batch)
        logits = context.logits(row).astype(np.float64)
    want = logits - np.log(np.exp(logits - logits.max()).sum()) - logits.max()
    request = Request(tuple(tokens), Sampling(temperature=2, seed=3), 3, logprobs=5, logit_bias={777: 50.0})
    with engine_of(model) as (engine, _):
        drawn, _ = engine.submit(request).result()
        everything = engine.submit(Request(tuple(tokens), GREEDY, 1, logprobs=model.n_vocab)).result()[0]
        none = engine.submit(Request(tuple(tokens), GREEDY, 1, logprobs=0)).result()[0][0].logprob
        without = engine.submit(Request(tuple(tokens), GREEDY, 1)).result()[0][0].logprob
    assert without is None and none is not None and none.top == ()
    first = drawn[0].logprob
    assert first is not None and drawn[0].token == 777
    assert first.logprob == pytest.approx(want[777], abs=1e-3)
    best = np.argsort(-want)[:5]
    assert [token for token, _ in first.top] == best.tolist()
    assert [value for _, value in first.top] == pytest.approx(want[best].tolist(), abs=1e-3)
    whole = everything[0].logprob
    assert whole is not None and len(whole.top) == model.n_vocab
    assert sum(np.exp(value) for _, value in whole.top) == pytest.approx(1)


def test_a_seed_repeats(model: Model) -> None:
    def drawn(engine: Engine, seed: int | None) -> list[int]:
        return ids(engine.submit(Request(tuple(prompt(23, 9)), Sampling(temperature=1.5, seed=seed), 20)))

    with engine_of(model, slots=1) as (engine, _):
        assert drawn(engine, 1) == drawn(engine, 1) != drawn(engine, 2)
        assert drawn(engine, None) != drawn(engine, None)


def test_end_tokens_are_not_ordinary_text(tmp_path: Path) -> None:
    """llama.cpp takes ``</s>`` for an end, which is a tag of HTML in Qwen's vocabulary."""
    described = tiny_gguf.metadata()
    tokens, types = (list(described[f"tokenizer.ggml.{key}"]) for key in ("tokens", "token_type"))
    tag = next(token for token in range(200, len(tokens)) if types[token] == 1)
    tokens[tag] = "</s>"
    with Model(tiny_gguf.write(tmp_path / "tag.gguf", {"tokenizer.ggml.tokens": tokens})) as model:
        assert model.is_eog(tag)
        assert tag not in model.end_tokens and model.eos in model.end_tokens
        with engine_of(model, 64) as (engine, _):
            request = greedy([100, 120], 3, logit_bias={tag: 1000.0})
            assert ids(engine.submit(request)) == [tag] * 3


# --- trouble


def test_a_closed_engine(model: Model) -> None:
    with engine_of(model, slots=1) as (engine, steps):
        gate = steps.before = Gate(2)
        tickets = [engine.submit(greedy(prompt(seed, 20), 50)) for seed in (40, 41, 42)]
        gate.wait()
        closing = threading.Thread(target=engine.close)
        closing.start()
        gate.open()
        closing.join(30)
        assert [ticket.result()[1].reason for ticket in tickets] == ["cancelled"] * 3
        with pytest.raises(EngineError, match="closed"):
            engine.submit(greedy([1, 2, 3]))
        tickets[0].cancel()
        engine.close()


def test_who_closes_second_waits_as_well(model: Model) -> None:
    """They came back at once and freed the model under the engine's thread, as after Ctrl-C in the first ``close``."""
    with engine_of(model, slots=1) as (engine, steps):
        gate = steps.before = Gate()
        engine.submit(greedy(prompt(40, 20), 50))
        gate.wait()
        closing = [threading.Thread(target=engine.close) for _ in range(2)]
        for thread in closing:
            thread.start()
        closing[1].join(0.2)
        assert all(thread.is_alive() for thread in closing)
        gate.open()
        for thread in closing:
            thread.join(30)
            assert not thread.is_alive()


def test_a_failing_step_ends_everyone(model: Model) -> None:
    with engine_of(model, slots=2) as (engine, steps):
        gate = steps.before = Gate(2)
        tickets = [engine.submit(greedy(prompt(seed, 20), 50)) for seed in (43, 44, 45)]
        gate.wait()

        def fail() -> None:
            raise DecodeFailed("the decode failed: no reason", "load the model again")

        steps.before = fail
        gate.open()
        for ticket in tickets:
            with pytest.raises(DecodeFailed):
                ticket.result()
            assert ticket.finished and ticket.finished.reason == "error"
        with pytest.raises(DecodeFailed):
            engine.submit(greedy([1, 2, 3]))


def test_a_failure_that_nobody_foresaw(model: Model) -> None:
    with engine_of(model) as (engine, steps):

        def fail() -> None:
            raise ZeroDivisionError("oh")

        steps.before = fail
        with pytest.raises(EngineError, match="oh"):
            engine.submit(greedy([1, 2, 3])).result()


def test_a_model_whose_numbers_are_none(tmp_path: Path) -> None:
    weights = tiny_gguf.tensors()
    weights["output_norm.weight"][:] = np.nan
    path = tiny_gguf.write(tmp_path / "nan.gguf", weights=weights)
    with Model(path) as model, engine_of(model, 64) as (engine, _):
        ticket = engine.submit(greedy([100, 120], 3))
        with pytest.raises(
            EngineError, match=r"nan.gguf is broken: it computes values that are not numbers; convert or"
        ):
            ticket.result()


def test_a_slot_out_of_step_with_the_cache(model: Model) -> None:
    with engine_of(model) as (engine, _):
        engine.submit(greedy(prompt(46, 20), 2)).result()
        engine.submit(greedy(prompt(47, 20), 2)).result()
        engine.slots[0].tokens.append(1)
        with pytest.raises(EngineError, match="slot 0"):
            for seed in range(3):
                engine.submit(greedy(prompt(48 + seed, 20), 2)).result()


@pytest.mark.parametrize(
    "request_",
    [
        Request((10**6,), GREEDY, 2),
        Request((-1,), GREEDY, 2),
        Request((1, 2), GREEDY, 2, logit_bias={10**6: 1.0}),
    ],
)
def test_one_bad_request_does_not_end_the_others(model: Model, request_: Request) -> None:
    """A token outside the vocabulary in one request ended the engine's thread, and so everyone else's answer."""
    with engine_of(model) as (engine, _):
        good = engine.submit(greedy(prompt(49, 10), 30))
        with pytest.raises(RequestError):
            engine.submit(request_).result()
        assert ids(good) == alone(model, prompt(49, 10), 30)


@pytest.mark.parametrize(
    "options",
    [
        {"max_tokens": "5"},
        {"max_tokens": 2.5},
        {"logprobs": 2.5},
        {"logprobs": -1},
        {"stop_tokens": frozenset({"x"})},
        {"logit_bias": [5]},
        {"logit_bias": {5: None}},
        {"logit_bias": {5.0: 1.0}},
        {"logit_bias": {5: float("nan")}},
        {"logit_bias": {5: float("inf")}},
        {"logit_bias": {5: 1e39}},
    ],
)
def test_options_that_cannot_be(options: dict[str, object]) -> None:
    """The first mistake in a request was met by the engine's thread, where it ended everyone else's answer."""
    with pytest.raises(RequestError):
        Request((1, 2), **options)  # type: ignore[arg-type]
    with pytest.raises(RequestError, match="whole numbers, got float"):
        Request((1.5,))  # type: ignore[arg-type]


def test_a_constraint_with_a_mistake_ends_one_request(model: Model) -> None:
    class Wrong:
        def mask(self, logits: np.ndarray) -> None:
            raise ZeroDivisionError("oh")

        def accept(self, token: int) -> None: ...

        def forced(self) -> list[int]:
            return []

    with engine_of(model) as (engine, _):
        good = engine.submit(greedy(prompt(51, 10), 30))
        with pytest.raises(EngineError, match="oh"):
            engine.submit(greedy(prompt(52, 10), 3, constraint=Wrong())).result()
        assert ids(good) == alone(model, prompt(51, 10), 30)
