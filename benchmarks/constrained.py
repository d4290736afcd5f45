"""What a grammar costs: the same JSON document, decoded with and without one.

    python -m benchmarks.constrained [MODEL.gguf] [--runs 5] [--threads 2]

MODEL is the real Qwen2.5-Coder-0.5B-Instruct at Q4_0 unless given. One engine as edge.Engine makes it (the CPU alone,
flash attention off), one request at a time, greedy. Both sides answer with DOCUMENT, compact JSON, whatever the model
would rather say: the sampler draws from all logits as always, and then its token is replaced by the one with which the
rest of the document begins, as the model's tokenizer cuts it.

free      no constraint; every token of the document has a step of its own.
schema    constrained by SCHEMA: every step masks the logits; every token is accepted by the grammar; tokens that the
          grammar forces are appended undrawn and decoded together.
object    any JSON object: the same, where hardly a token is forced.

The clock of an answer runs from the return of the llama_decode that computes the prompt's last token until the
engine's thread hands out Finished. So it covers all masks, draws and decode steps from the first token to the end
token, and neither the prompt nor the compiling of the grammar, which is printed apart. In one run all three follow
each other, and the order turns from run to run; a ratio is of one run, and printed is the median. Both sides must have
written the same text. The last line is JSON.
"""

from __future__ import annotations

import json
import queue
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np

from benchmarks.convert import machine
from benchmarks.engine import default_model
from benchmarks.engine_child import GREEDY, Bench
from benchmarks.options import heading, parser
from benchmarks.steps import recorded
from edge.constrain import Constraint, ConstraintSpec, Grammars
from edge.engine.engine import Engine
from edge.engine.scheduler import Limits
from edge.engine.types import Event, Finished, Request, Token
from edge.llama.model import Model

AT_MOST = 1.0  # of the time with SCHEMA over that without
PROMPT = "<|im_start|>user\nThe order as JSON, please.<|im_end|>\n<|im_start|>assistant\n"
DOCUMENT = {
    "id": 48213,
    "customer": {"name": "王小明", "city": "上海", "member": True},
    "status": "shipped",
    "items": [
        {"sku": "A-1009", "quantity": 2, "price": 19.5},
        {"sku": "B-220", "quantity": 1, "price": 149},
    ],
    "notes": ["请在下午送货", "leave it at the door"],
    "total": 188.0,
}


def record(**properties: Any) -> dict[str, Any]:
    """The schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


STRING, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}
SCHEMA = record(
    id=INTEGER,
    customer=record(name=STRING, city=STRING, member={"type": "boolean"}),
    status={"enum": ["new", "paid", "shipped", "returned"]},
    items={"type": "array", "items": record(sku=STRING, quantity=INTEGER, price=NUMBER)},
    notes={"type": "array", "items": STRING},
    total=NUMBER,
)
SIDES: dict[str, ConstraintSpec | None] = {
    "free": None,
    "schema": ConstraintSpec("json_schema", SCHEMA, compact=True),
    "object": ConstraintSpec("json_object", compact=True),
}


class Timed:
    """A constraint, and the seconds spent in it."""

    def __init__(self, constraint: Constraint) -> None:
        self._constraint = constraint
        self.mask_seconds: list[float] = []
        self.other_seconds = 0.0

    def mask(self, logits: np.ndarray) -> None:
        started = time.perf_counter()
        self._constraint.mask(logits)
        self.mask_seconds.append(time.perf_counter() - started)

    def accept(self, token: int) -> None:
        started = time.perf_counter()
        self._constraint.accept(token)
        self.other_seconds += time.perf_counter() - started

    def forced(self) -> list[int]:
        started = time.perf_counter()
        tokens = self._constraint.forced()
        self.other_seconds += time.perf_counter() - started
        return tokens


@dataclass
class Teacher:
    """Knows what comes next in ``text``. ``deliver`` tells it what has come."""

    model: Model
    text: bytes
    written: bytes = b""
    tokens: int = 0
    ended: float = 0.0
    events: queue.SimpleQueue[Event] = field(default_factory=queue.SimpleQueue)
    known: dict[int, int] = field(default_factory=dict)  # bytes written -> the next token; so the clock sees a look-up

    def begin(self) -> None:
        self.written, self.tokens = b"", 0

    def deliver(self, event: Event) -> None:
        """Called by the engine's thread."""
        if isinstance(event, Token):
            self.written += self.model.token_bytes(event.token)
            self.tokens += 1
        else:
            self.ended = time.perf_counter()
        self.events.put(event)

    def next(self) -> int:
        at = len(self.written)
        if at not in self.known:
            rest = self.text[at:].decode()
            eos = self.model.eos
            assert eos is not None
            self.known[at] = self.model.tokenize(rest)[0] if rest else eos
        return self.known[at]

    @contextmanager
    def teaching(self) -> Iterator[None]:
        """The samplers draw, and this says what."""
        sample = self.model.lib.llama_sampler_sample

        def taught(chain: Any, context: Any, row: int) -> int:
            sample(chain, context, row)
            return self.next()

        with mock.patch.object(self.model.lib, "llama_sampler_sample", taught):
            yield


@dataclass(frozen=True)
class Answer:
    """Seconds of one answer, of them in llama_decode, the samplers and the constraint; its tokens and steps."""

    seconds: float
    decoding: float
    sampling: float
    masking: float
    grammar: float
    mask_ms: float
    tokens: int
    steps: int


def answer(engine: Engine, teacher: Teacher, constraint: Constraint | None) -> Answer:
    """Raises SystemExit if the answer is not the teacher's text."""
    model = engine.model
    timed = Timed(constraint) if constraint else None
    teacher.begin()
    with recorded(model, sampled=True) as steps, teacher.teaching():
        prompt = tuple(model.tokenize(PROMPT, parse_special=True))
        engine.start(Request(prompt, GREEDY, constraint=timed), teacher.deliver)
        while not isinstance(event := teacher.events.get(), Finished):
            pass
    if event.error is not None or event.reason != "stop" or teacher.written != teacher.text:
        raise SystemExit(f"wanted {teacher.text.decode()}\ngot {teacher.written.decode('utf-8', 'replace')}: {event}")
    first = next(index for index, step in enumerate(steps) if step.sampling)  # the prompt's last step
    masks = timed.mask_seconds if timed else []
    return Answer(
        seconds=teacher.ended - steps[first].started - steps[first].decoding,
        decoding=sum(step.decoding for step in steps[first + 1 :]),
        sampling=sum(step.sampling for step in steps[first:]),
        masking=sum(masks),
        grammar=timed.other_seconds if timed else 0.0,
        mask_ms=1e3 * statistics.median(masks) if masks else 0.0,
        tokens=teacher.tokens,
        steps=len(steps) - first - 1,
    )


def compiled(grammars: Grammars, side: str) -> Constraint | None:
    spec = SIDES[side]
    return grammars.compile(spec) if spec else None


def print_compile_times(grammars: Grammars) -> None:
    for side in ("schema", "schema", "object"):
        started = time.perf_counter()
        compiled(grammars, side)
        print(f"compiling {side}: {1e3 * (time.perf_counter() - started):.1f} ms")
    print("(the first time the vocabulary is prepared)")


def row(side: str, answers: list[Answer]) -> str:
    middle = {name: statistics.median(getattr(one, name) for one in answers) for name in Answer.__annotations__}
    parts = ", ".join(f"{name} {middle[name]:.3f}" for name in ("decoding", "sampling", "masking", "grammar"))
    mask = f"; a mask {middle['mask_ms']:.2f} ms" if middle["mask_ms"] else ""
    return f"{side:7} {middle['seconds']:.3f} s: {parts}; {middle['tokens']} tokens in {middle['steps']} steps{mask}"


def main() -> None:
    options = parser("Times decoding a JSON document with and without a grammar.").parse_args()
    path = options.model or default_model()
    print(f"{heading(options)}; {path.name}")
    text = json.dumps(DOCUMENT, ensure_ascii=False, separators=(",", ":"))
    answers: dict[str, list[Answer]] = defaultdict(list)
    with Model(path) as model, Bench(model, options.threads).engine(Limits.step) as engine:
        grammars, teacher = Grammars(model), Teacher(model, text.encode())
        print_compile_times(grammars)
        sides = list(SIDES)
        for side in sides:  # not counted; the prompt is in the cache from here on, and the teacher is prepared
            answer(engine, teacher, compiled(grammars, side))
        for run in range(options.runs):
            for side in sides[run % len(sides) :] + sides[: run % len(sides)]:
                answers[side].append(answer(engine, teacher, compiled(grammars, side)))
    print("medians, seconds")
    for side, found in answers.items():
        print(row(side, found))
    results: dict[str, Any] = {}
    for side in ("schema", "object"):
        ratios = [ours.seconds / free.seconds for ours, free in zip(answers[side], answers["free"], strict=True)]
        value = statistics.median(ratios)
        verdict = f"{'ok' if value <= AT_MOST else 'MISSED'}, at most {AT_MOST}" if side == "schema" else ""
        print(f"{side}/free {value:.3f}  ({min(ratios):.3f} to {max(ratios):.3f})  {verdict}")
        results[f"{side}/free"] = round(value, 4)
        results[f"{side}_mask_ms"] = round(statistics.median(one.mask_ms for one in answers[side]), 3)
    for side, found in answers.items():
        results[f"{side}_steps"] = found[0].steps
    print(json.dumps({"machine": machine(), "model": path.name, "threads": options.threads, "results": results}))


if __name__ == "__main__":
    main()
