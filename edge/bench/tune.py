"""Finds the settings that a model likes on this machine: threads, flash attention, batch size, decode width.

Each question is asked in rounds: every choice once, then all again in the opposite order, so that a machine that slows
down or speeds up treats all alike; the median of a choice's rounds counts. The default stays unless another choice is
clearly quicker, by more than noise makes of equals.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from statistics import median
from typing import TypeVar

from edge import machine, topology
from edge.bench.speed import widest
from edge.bench.steps import Steps
from edge.llama.context import Context, cells_for
from edge.llama.model import Model
from edge.tuned import NO_LIMIT, Tuned

Choice = TypeVar("Choice")
OnProgress = Callable[[str, int, int], None]  # the question, its number, how many

SECONDS = 40.0  # for all questions together, beside loading the model
ROUNDS = 4
CLEARLY = 1.03  # so many times as quick must a choice be that is not the default
HOPELESS = 2.0  # times the seconds of the quickest
MOST_STEPS = 64  # in a round
GRAIN = 16  # rows of a prompt, of which a chunk is a multiple
CHUNK, CHUNK_SECONDS = 128, 0.7  # a chunk has so many rows, or those that take so long
WIDTHS = (1, 2, 4, 8)
ROWS = (64, 128, 256, 512)
DEPTH = 1024  # tokens in the cache while attention is chosen, fewer where filling it takes too long
QUESTION, ANSWER = 256, 128  # tokens of a request by which the choice of attention is weighed
QUESTIONS = ("decode threads", "prefill threads", "flash attention", "batch size", "decode width")


class Asker:
    """Asks one question after another, and shares out the time among them."""

    def __init__(self, seconds: float, on_progress: OnProgress) -> None:
        self.measured: dict[str, dict[str, float]] = {}
        self._ends = time.monotonic() + seconds
        self._say = on_progress

    def seconds(self) -> float:
        """What the next question may take."""
        return max(0.0, self._ends - time.monotonic()) / (len(QUESTIONS) - len(self.measured))

    def ask(
        self, question: str, choices: Sequence[Choice], tokens: int, measure: Callable[[Choice, int], float]
    ) -> dict[Choice, float]:
        """Tokens/s of each choice. ``measure(choice, steps)``: the seconds of so many steps of ``tokens`` each.

        A choice that is hopeless at the first try is not tried again: one thread of eight would take all the time.
        """
        self._say(question, QUESTIONS.index(question), len(QUESTIONS))
        each, ends = self.seconds() / (ROUNDS + 1) / len(choices), time.monotonic() + self.seconds()
        measure(choices[-1], 1)  # warms up
        seconds = {choice: [measure(choice, 1)] for choice in choices}  # which tells how many steps make a round, too
        hopeful = [choice for choice in choices if seconds[choice][0] <= HOPELESS * min(seconds.values())[0]]
        steps = {choice: min(MOST_STEPS, max(1, int(each / max(seconds[choice][0], 1e-6)))) for choice in hopeful}
        for turn in range(ROUNDS):
            if turn and time.monotonic() > ends:  # where a single step takes longer than a round should
                break
            for choice in hopeful if turn % 2 == 0 else hopeful[::-1]:
                seconds[choice].append(measure(choice, steps[choice]) / steps[choice])
        rates = {choice: tokens / median(found[1:] or found) for choice, found in seconds.items()}
        self.measured[question] = {str(choice): round(rate, 2) for choice, rate in rates.items()}
        return rates

    def leave(self, question: str) -> None:
        """The default stands: asking would take too long."""
        self.measured[question] = {}


def best(rates: Mapping[Choice, float], default: Choice) -> Choice:
    """The quickest choice, or the default where that is about as quick."""
    found = max(rates, key=lambda choice: rates[choice])
    return found if rates[found] >= CLEARLY * rates[default] else default


def tune(
    model: Model,
    *,
    gpu_layers: int = 0,
    seconds: float = SECONDS,
    on_progress: OnProgress = lambda what, done, of: None,
) -> Tuned:
    """Ask all questions. The thread that calls computes, and must be the process's only one that does.

    Raises EdgeError.
    """
    asker = Asker(seconds, on_progress)
    default = machine.usable_cores()
    counts = sorted({default, *topology.thread_candidates(topology.read_topology(), machine.cores().quota)})
    decode_threads, prefill_threads, attention, batch_size, decode_width = QUESTIONS

    with opened(model, True, CHUNK) as steps:
        steps.prefill(GRAIN)  # reads the weights from the disk
        chunk = max(GRAIN, min(CHUNK, int(GRAIN * CHUNK_SECONDS / steps.prefill(GRAIN)) // GRAIN * GRAIN))
        set_threads = steps.context.set_threads

        def decoding(threads: int, count: int) -> float:
            set_threads(threads, default)
            return steps.decode(count)

        threads = best(asker.ask(decode_threads, counts, 1, decoding), default)

        def reading(threads_batch: int, count: int) -> float:
            set_threads(threads, threads_batch)
            return sum(steps.prefill(chunk) for _ in range(count))

        prefill = asker.ask(prefill_threads, counts, chunk, reading)
        threads_batch = best(prefill, default)

    # A quarter of the question's time for filling each of the two caches.
    depth = min(DEPTH, int(prefill[threads_batch] * asker.seconds() / 4))
    with opened(model, False, depth + CHUNK) as plain, opened(model, True, depth + CHUNK) as flash:
        sides = {"off": plain, "on": flash}
        for steps in sides.values():
            steps.context.set_threads(threads, threads_batch)
            steps.fill(depth)

        def request(choice: str, count: int) -> float:
            """Requests' time, from pieces of their prefill and decode."""
            steps = sides[choice]
            return count * (steps.prefill(chunk) * QUESTION / chunk + steps.decode(4) * ANSWER / 4)

        tokens = QUESTION + ANSWER
        flash_attn = best(asker.ask(attention, list(sides), tokens, request), "on") == "on"

    rows = max(ROWS)
    # A machine that takes long for so many rows never computes them at once: the engine's steps are short.
    if rows / prefill[threads_batch] <= asker.seconds() / (ROUNDS + 2) / len(ROWS):
        with opened(model, flash_attn, rows) as steps:
            steps.context.set_threads(threads, threads_batch)

            def batches(size: int, count: int) -> float:
                return sum(steps.prefill(max(ROWS), size) for _ in range(count))

            rows = best(asker.ask(batch_size, ROWS, rows, batches), rows)
    else:
        asker.leave(batch_size)

    with opened(model, flash_attn, MOST_STEPS, max(WIDTHS)) as steps:
        steps.context.set_threads(threads, threads_batch)

        def together(width: int, count: int) -> float:
            return steps.decode(count, width) / width

        width = widest(asker.ask(decode_width, WIDTHS, 1, together))
        width = NO_LIMIT if width == max(WIDTHS) else width

    on_progress("", len(QUESTIONS), len(QUESTIONS))
    made = datetime.now(UTC).isoformat(timespec="seconds")
    return Tuned(threads, threads_batch, flash_attn, rows, width, gpu_layers, made, asker.measured)


@contextlib.contextmanager
def opened(model: Model, flash_attn: bool, tokens: int, width: int = 1) -> Iterator[Steps]:
    """A context for ``width`` sequences of ``tokens``."""
    with (
        Context(model, cells_for(tokens) * width, n_seq_max=width, flash_attn=flash_attn) as context,
        Steps(context) as steps,
    ):
        yield steps
