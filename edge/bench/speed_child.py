"""Measures one model file, in a process of its own: ``python -m edge.bench.speed_child GGUF OPTIONS``.

Prints JSON lines: ``{"progress": [done, of]}``, ``{"so_far": {...}}`` as soon as something is known, and last
``{"found": {...}}`` or ``{"failed": why, "hint": ...}``.

One thread at a time computes, and ends before the next begins: where two have thread teams, OpenMP lets all of them
sleep between the parts of a step.
"""

from __future__ import annotations

import json
import random
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any, TypeVar

from convert.errors import EdgeError
from edge import machine
from edge.bench import gauges
from edge.bench.speed import (
    ANSWER,
    ENGINE_WORK,
    PROMPT,
    USUAL_CONTEXT,
    WIDE_ANSWER,
    Options,
    from_json,
    key,
    knee,
    longest,
    work,
)
from edge.bench.steps import Steps
from edge.cost import kv_bytes
from edge.engine.engine import Engine
from edge.engine.scheduler import Limits, Pace
from edge.engine.types import Request, Timings
from edge.gate_checks import say
from edge.llama.context import Context, cells_for
from edge.llama.model import Model
from edge.llama.sampler import Sampling
from edge.shapes import ModelShape, from_gguf

SLICE = 10.0  # seconds of a sustained run that are one point
KV_SHARE = 0.5  # of the free memory that a cache for several sequences may take

Result = TypeVar("Result")
Say = Callable[[dict[str, Any]], None]


class Bench:
    """One model, and what is found about it."""

    def __init__(self, model: Model, options: Options, say: Say) -> None:
        self.model, self.options, self.say = model, options, say
        self.samples: dict[str, list[float]] = defaultdict(list)
        self.widths: dict[int, dict[int, list[float]]] = {depth: defaultdict(list) for depth in options.depths}
        self.dice = random.Random(0)
        shape, room = from_gguf(model.file), int(KV_SHARE * machine.memory().available)
        self.fitting = {depth: widths_that_fit(shape, options, depth, room) for depth in options.depths}
        rounds = sum(ENGINE_WORK + sum(map(work, widths)) for widths in self.fitting.values())
        self.of = options.repeats * rounds + sum(options.depths)
        self.done = 0
        self.others: dict[str, Any] = {}

    def context(self, cells: int, width: int = 1) -> Context:
        options = self.options
        return Context(
            self.model,
            cells * width,
            n_batch=max(options.rows, width),
            n_ubatch=options.rows,
            n_seq_max=width,
            threads=options.threads,
            threads_batch=options.threads_batch,
            flash_attn=options.flash_attn,
            kv_type=options.kv_type,
        )

    def tell(self, amount: int) -> None:
        self.done += amount
        self.say({"progress": [self.done, self.of]})

    def so_far(self) -> dict[str, Any]:
        """What is known by now: medians, and the smallest and largest of each."""
        found: dict[str, Any] = {name: median(values) for name, values in self.samples.items()}
        found |= {"spread": {name: [min(values), max(values)] for name, values in self.samples.items()}, "widths": {}}
        for depth, by_width in self.widths.items():
            rates = {width: median(by_width[width]) for width in sorted(by_width)}
            if rates:
                found["widths"][str(depth)] = {str(width): rate for width, rate in rates.items()}
            if len(rates) > 1:
                found[key("knee", depth)] = knee(rates)
        return found | self.others

    # --- what is measured

    def first_use(self, started: float) -> None:
        """What it takes to begin, as ``edge run`` does; ``started`` is a time of ``perf_counter``."""
        with self.context(cells_for(USUAL_CONTEXT)) as context, Steps(context) as steps:
            steps.decode(1)
            self.others["load"] = time.perf_counter() - started
            steps.prefill(PROMPT)
            self.others["peak_memory"] = gauges.peak_memory()
        self.say({"so_far": self.so_far()})

    def at_depth(self, depth: int) -> None:
        """Everything behind ``depth`` tokens."""
        with self.context(cells_for(longest(depth)), max(self.fitting[depth])) as context, Steps(context) as steps:
            alone(lambda: self.raw(steps, depth))
            self.through_engine(steps)

    def raw(self, steps: Steps, depth: int) -> None:
        """llama.cpp alone."""
        widths = self.fitting[depth]
        steps.fill(depth, max(widths))
        self.tell(depth)
        steps.prefill(PROMPT)
        steps.decode(2)  # both warm
        for turn in range(self.options.repeats):
            for one in widths if turn % 2 == 0 else widths[::-1]:  # a machine that tires treats all alike
                if one == 1:
                    self.samples[key("pp512", depth)].append(PROMPT / steps.prefill(PROMPT))
                    self.samples[key("tg128", depth)].append(ANSWER / steps.decode(ANSWER))
                self.widths[depth][one].append(WIDE_ANSWER * one / steps.decode(WIDE_ANSWER, one))
                self.tell(work(one))
            self.say({"so_far": self.so_far()})

    def through_engine(self, steps: Steps) -> None:
        """The same for who uses the engine: time to the first token, and sampled decoding."""
        for sequence in range(1, steps.context.n_seq_max):
            steps.context.memory_rm(sequence)
        depth, pace = steps.depth, Pace()
        self.answer(steps, pace, prompt=PROMPT, most=4)  # the pace is learnt
        for _ in range(self.options.repeats):
            first = self.answer(steps, pace, prompt=PROMPT, most=1)
            self.samples[key("ttft", depth)].append(first.first_token)
            answer = self.answer(steps, pace, prompt=1, most=ANSWER + 1)
            self.samples[key("decode", depth)].append(answer.decode_rate)
            self.tell(ENGINE_WORK)
        self.say({"so_far": self.so_far()})

    def answer(self, steps: Steps, pace: Pace, *, prompt: int, most: int) -> Timings:
        """One request behind the prefix, by an engine of its own that knows the machine's ``pace``."""
        steps.rewind(0)
        question = self.dice.choices(range(self.model.n_vocab), k=prompt)
        sampling = Sampling.from_metadata(self.model.metadata)
        with Engine(self.model, steps.context, Limits(self.options.rows, 1), [steps.prefix]) as engine:
            engine.pace = pace
            request = Request((*steps.prefix, *question), sampling, max_tokens=most, ignore_eos=True)
            return engine.submit(request).result()[1].timings

    def sustained(self, minutes: float) -> None:
        """Decoding on end: tokens/s of each slice of time, with the clock and the temperature where they are known."""
        points: list[dict[str, Any]] = []
        with self.context(cells_for(USUAL_CONTEXT)) as context, Steps(context) as steps:
            steps.decode(2)
            started = time.monotonic()
            while (now := time.monotonic() - started) < 60 * minutes:
                count, seconds = 0, 0.0
                while seconds < min(SLICE, 60 * minutes - now):
                    seconds += steps.decode(ANSWER)
                    count += ANSWER
                points.append(
                    {
                        "seconds": time.monotonic() - started,
                        "tg": count / seconds,
                        "clock": gauges.clock(),
                        "temperature": gauges.temperature(),
                    }
                )
                self.say({"progress": [int(points[-1]["seconds"]), int(60 * minutes)]})
                self.others["sustained"] = points
                self.others["lasting"] = median(one["tg"] for one in points[len(points) * 3 // 4 :])
                self.say({"so_far": self.so_far()})


def alone(task: Callable[[], Result]) -> Result:
    """What the task returns or raises, run in a thread of its own, whose team of OpenMP ends with it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(task).result()


def measure(path: Path, options: Options, say: Say) -> dict[str, Any]:
    """All that ``options`` ask for. Raises EdgeError."""
    started = time.perf_counter()
    with Model(path, gpu_layers=options.gpu_layers) as model:
        bench = Bench(model, options, say)
        alone(lambda: bench.first_use(started))
        for depth in options.depths:
            bench.at_depth(depth)
        if options.minutes:
            alone(lambda: bench.sustained(options.minutes))
        return bench.so_far()


def widths_that_fit(shape: ModelShape, options: Options, depth: int, room: int) -> list[int]:
    """Those of the wanted widths whose cache takes at most ``room`` bytes; one sequence in any case."""
    cells = cells_for(longest(depth))
    return [
        width
        for width in options.widths
        if width == 1 or kv_bytes(shape, cells * width, options.kv_type, width) <= room
    ]


def main() -> int:
    try:
        say({"found": measure(Path(sys.argv[1]), from_json(json.loads(sys.argv[2])), say)})
    except EdgeError as error:
        say({"failed": error.message, "hint": error.hint})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
