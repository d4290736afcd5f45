"""What ``edge tune`` decides, on machines of known speed, whose clock goes on only while something is computed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from convert import gguf_file
from edge import tuned
from edge.bench import tune as tuning
from edge.bench.speed import knee
from edge.bench.tune import QUESTIONS, ROUNDS, ROWS, SECONDS, WIDTHS, Asker, best, tune
from edge.llama.model import Model
from edge.tuned import NO_LIMIT, Tuned
from edge.tuned_text import explain
from tests.edge.bench.conftest import Hybrid

QUESTION = QUESTIONS[0]


class FakeMachine:
    """Four cores, all of which are used at first. ``step``: seconds of decoding, ``row``: of a row of a prompt."""

    def __init__(self) -> None:
        self.now = 100.0
        self.opened: list[tuple[bool, int, int]] = []
        self.deepest = 0
        self.by_threads = {1: 4.0, 2: 2.0, 3: 1.5, 4: 1.0}  # times the seconds with all
        self.by_threads_batch = dict(self.by_threads)
        self.step, self.row = 0.02, 0.002
        self.flash: Callable[[int], float] = lambda depth: 1.0  # times the seconds with plain attention
        self.by_rows: Mapping[int, float] = {}
        self.by_width: Mapping[int, float] = {}  # seconds of a step, in those of a narrow one

    def take(self, seconds: float) -> float:
        self.now += seconds
        return seconds


class FakeSteps:
    """``edge.bench.steps.Steps`` on a fake machine; its own context, too."""

    def __init__(self, machine: FakeMachine, flash_attn: bool) -> None:
        self.machine, self.flash_attn, self.depth = machine, flash_attn, 0
        self.threads = self.threads_batch = 4
        self.context = self

    def set_threads(self, threads: int, threads_batch: int) -> None:
        self.threads, self.threads_batch = threads, threads_batch

    def attention(self) -> float:
        return self.machine.flash(self.depth) if self.flash_attn else 1.0

    def fill(self, depth: int, width: int = 1) -> None:
        self.machine.deepest = max(self.machine.deepest, depth)
        self.machine.take(depth * self.machine.row)
        self.depth = depth

    def prefill(self, count: int, rows: int | None = None) -> float:
        machine = self.machine
        factor = machine.by_threads_batch[self.threads_batch] * machine.by_rows.get(rows or count, 1.0)
        return machine.take(count * machine.row * factor * self.attention())

    def decode(self, count: int, width: int = 1) -> float:
        machine = self.machine
        factor = machine.by_threads[self.threads] * machine.by_width.get(width, 1.0)
        return machine.take(count * machine.step * factor * self.attention())


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeMachine:
    fake = FakeMachine()

    @contextmanager
    def opened(_: Any, flash_attn: bool, tokens: int, width: int = 1) -> Iterator[FakeSteps]:
        fake.opened.append((flash_attn, tokens, width))
        yield FakeSteps(fake, flash_attn)

    monkeypatch.setattr(tuning, "opened", opened)
    monkeypatch.setattr(tuning.time, "monotonic", lambda: fake.now)
    monkeypatch.setattr(tuning.machine, "usable_cores", lambda: 4)
    monkeypatch.setattr(tuning.topology, "thread_candidates", lambda *_: [1, 2, 3, 4])
    return fake


def found_on(_: FakeMachine, **more: Any) -> Tuned:
    return tune(None, **more)  # type: ignore[arg-type]


# --- what is decided


@pytest.mark.parametrize(
    ("rates", "choice"),
    [
        ({1: 10.0, 2: 20.0}, 2),
        ({1: 20.0, 2: 10.0}, 1),
        ({1: 10.2, 2: 10.0}, 2),
        ({1: 10.29, 2: 10.0}, 2),
        ({1: 10.31, 2: 10.0}, 1),
        ({1: 10.0, 2: 10.0}, 2),
        ({2: 10.0}, 2),
    ],
)
def test_the_default_stays_unless_another_is_clearly_quicker(rates: dict[int, float], choice: int) -> None:
    assert best(rates, 2) == choice


def test_a_machine_that_is_as_expected(fake: FakeMachine) -> None:
    found = found_on(fake)
    assert (found.threads, found.threads_batch, found.flash_attn, found.rows) == (4, 4, True, max(ROWS))
    assert list(found.measured) == list(QUESTIONS) and tuned.checked(dataclasses.asdict(found)) == found


def test_fewer_threads_are_quicker_for_one_row(fake: FakeMachine) -> None:
    fake.by_threads = {1: 2.0, 2: 0.9, 3: 0.95, 4: 1.0}
    found = found_on(fake)
    assert (found.threads, found.threads_batch) == (2, 4)
    rates = found.measured["decode threads"]
    assert rates["2"] == pytest.approx(1 / 0.018, abs=0.01) and rates["4"] == pytest.approx(50, abs=0.01)


def test_fewer_threads_are_quicker_for_prompts(fake: FakeMachine) -> None:
    fake.by_threads_batch = {1: 4.0, 2: 2.0, 3: 0.8, 4: 1.0}
    found = found_on(fake)
    assert (found.threads, found.threads_batch) == (4, 3)


def test_a_default_that_the_topology_does_not_propose(fake: FakeMachine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system counts fewer cores than it shows, as in some containers, tuning ended in a KeyError."""
    monkeypatch.setattr(tuning.topology, "thread_candidates", lambda *_: [1, 3])
    assert found_on(fake).threads == 4


@pytest.mark.parametrize("gpu_layers", [0, 9])
def test_attention_is_chosen_behind_a_conversation(fake: FakeMachine, gpu_layers: int) -> None:
    """Flash attention that is quicker in an empty cache alone is of no use."""
    fake.flash = lambda depth: 1.3 if depth else 0.7
    assert found_on(fake, gpu_layers=gpu_layers).flash_attn is False
    fake.flash = lambda depth: 0.7 if depth else 1.3
    found = found_on(fake, gpu_layers=gpu_layers)
    assert found.flash_attn is True and found.gpu_layers == gpu_layers
    fake.flash = lambda depth: 1.01
    assert found_on(fake, gpu_layers=gpu_layers).flash_attn is True, "about equal: the default"
    assert fake.opened[-1][0] is True, "what comes later is measured with it"


def test_smaller_batches(fake: FakeMachine) -> None:
    fake.row = 0.0005
    fake.by_rows = {64: 0.9, 128: 0.8, 256: 0.95, 512: 1.0}
    assert found_on(fake).rows == 128
    fake.by_rows = {64: 0.99, 128: 0.98, 256: 1.0, 512: 1.0}
    assert found_on(fake).rows == 512


@pytest.mark.parametrize(
    ("by_width", "width"),
    [
        ({1: 1.0, 2: 1.1, 4: 1.2, 8: 1.5}, NO_LIMIT),
        ({1: 1.0, 2: 1.1, 4: 1.2, 8: 4.0}, 4),
        ({1: 1.0, 2: 2.0, 4: 4.0, 8: 8.1}, NO_LIMIT),
        ({1: 1.0, 2: 3.0, 4: 6.0, 8: 12.0}, 1),
    ],
)
def test_how_many_decode_at_once(fake: FakeMachine, by_width: dict[int, float], width: int) -> None:
    """As many as there are, where more are never slower."""
    fake.by_width = by_width
    found = found_on(fake)
    assert found.width == width
    assert set(found.measured["decode width"]) == set(map(str, WIDTHS))


# --- the time it takes


@pytest.mark.parametrize("slower", [0.001, 1.0, 10.0])
def test_it_takes_no_longer_than_was_said(fake: FakeMachine, slower: float) -> None:
    fake.step, fake.row = 0.02 * slower, 0.002 * slower
    began = fake.now
    found_on(fake)
    assert fake.now - began < 1.25 * SECONDS


def test_a_very_slow_machine(fake: FakeMachine) -> None:
    """Two tokens/s: what would take minutes is not asked."""
    fake.step, fake.row = 0.5, 0.4
    began = fake.now
    found = found_on(fake)
    assert fake.now - began < 4 * SECONDS
    assert found.measured["batch size"] == {} and found.rows == max(ROWS)
    assert fake.deepest < 40
    assert "too slow to try" in explain(found)[3]


def test_progress(fake: FakeMachine) -> None:
    told: list[tuple[str, int, int]] = []
    fake.row = 0.0005
    found_on(fake, on_progress=lambda *step: told.append(step))
    assert told == [*((question, i, 5) for i, question in enumerate(QUESTIONS)), ("", 5, 5)]


class Choices:
    """Each takes its seconds a step; ``asked`` for how many steps in which order."""

    def __init__(self, fake: FakeMachine, seconds: Mapping[str, float]) -> None:
        self.fake, self.seconds = fake, dict(seconds)
        self.asked: list[tuple[str, int]] = []

    def measure(self, choice: str, steps: int) -> float:
        self.asked.append((choice, steps))
        return self.fake.take(steps * self.seconds[choice])


def test_rounds_go_to_and_fro(fake: FakeMachine) -> None:
    """So that a machine that becomes slower meanwhile treats all alike."""
    choices = Choices(fake, {"a": 0.1, "b": 0.2})
    rates = Asker(1000.0, lambda *_: None).ask(QUESTION, ["a", "b"], 3, choices.measure)
    assert rates == {"a": pytest.approx(30), "b": pytest.approx(15)}
    rounds = choices.asked[-2 * ROUNDS :]
    assert [choice for choice, _ in rounds] == ["a", "b", "b", "a"] * (ROUNDS // 2)
    assert all(steps > 1 for _, steps in rounds) and all(steps == 1 for _, steps in choices.asked[: -2 * ROUNDS])


def test_one_bad_round_does_not_count(fake: FakeMachine) -> None:
    choices = Choices(fake, {"a": 0.1, "b": 0.1})

    def measure(choice: str, steps: int) -> float:
        seconds = choices.measure(choice, steps)
        return 9 * seconds if choices.asked.count((choice, steps)) == 2 and choice == "a" and steps > 1 else seconds

    rates = Asker(1000.0, lambda *_: None).ask(QUESTION, ["a", "b"], 1, measure)
    assert rates["a"] == pytest.approx(10)


def test_what_is_hopeless_is_not_tried_again(fake: FakeMachine) -> None:
    choices = Choices(fake, {"a": 0.1, "hopeless": 2.0})
    asker = Asker(1000.0, lambda *_: None)
    assert asker.ask(QUESTION, ["hopeless", "a"], 1, choices.measure)["hopeless"] == pytest.approx(0.5)
    assert [choice for choice, _ in choices.asked].count("hopeless") == 1
    assert asker.measured[QUESTION] == {"hopeless": 0.5, "a": 10.0}


def test_the_time_is_shared_out(fake: FakeMachine) -> None:
    """What one question leaves, the others have."""
    asker = Asker(100.0, lambda *_: None)
    assert asker.seconds() == pytest.approx(20)
    choices = Choices(fake, {"a": 0.1, "b": 0.1})
    before = fake.now
    asker.ask(QUESTION, ["a", "b"], 1, choices.measure)
    assert fake.now - before < 20 + 3 * 0.1
    asker.leave(QUESTIONS[1])
    left = 100 - (fake.now - before)
    assert asker.seconds() == pytest.approx(left / 3) and asker.measured[QUESTIONS[1]] == {}
    fake.now += 1000
    assert asker.seconds() == 0
    rates = asker.ask(QUESTIONS[2], ["a", "b"], 1, choices.measure)
    assert rates["a"] == pytest.approx(10), "each is tried all the same"


# --- a real one


@pytest.mark.parametrize("kind", ["plain", "qwen35"])
def test_a_real_model(
    kind: str, tiny: Mapping[str, Path], hybrid: Hybrid, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tuning.machine, "usable_cores", lambda: 1)
    monkeypatch.setattr(tuning.topology, "thread_candidates", lambda *_: [1])
    path = tiny["Q4_0"] if kind == "plain" else hybrid(kind)
    with Model(path) as model:
        found = tune(model, seconds=0.5)
    assert (found.threads, found.threads_batch) == (1, 1)
    assert list(found.measured) == list(QUESTIONS)
    assert all(rate > 0 for rates in found.measured.values() for rate in rates.values())
    assert found.rows in ROWS and found.width in (*WIDTHS, NO_LIMIT)
    assert knee({int(width): rate for width, rate in found.measured["decode width"].items()}) <= found.width
    file = gguf_file.read(path)
    tuned.save(tmp_path, file, found)
    assert tuned.load(tmp_path, file) == found
