"""``edge compare`` as a function: every question of the suites to every contender, one after the other.

A model of this machine is loaded alone. All questions are asked once before any is asked again: a question that has
just been answered would be in the cache, and its first token early.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import edge
from convert.errors import EdgeError
from edge.bench.run import machine_facts
from edge.compare import sandbox
from edge.compare.asking import Answer, NoAnswer, Server, ask
from edge.compare.contender import Contender, Serving, facts, serving
from edge.compare.documents import document
from edge.compare.journal import Journal, key_of
from edge.compare.score import score
from edge.compare.suite import Question, Suite
from edge.compare.summary import CONSTRAINED, FIRST, PLAIN, SECOND

SAMPLED = 0.7  # temperature where a question is asked several times

OnProgress = Callable[[str, int, int], None]  # what, how many answers are there, of how many


@dataclass(frozen=True)
class Task:
    """One answer that is wanted."""

    model: int
    suite: str
    question: Question
    variant: str
    repeat: int

    def identity(self) -> dict[str, Any]:
        return {
            "model": self.model,
            "suite": self.suite,
            "question": self.question.id,
            "variant": self.variant,
            "repeat": self.repeat,
        }


def compare(
    contenders: Sequence[Contender],
    suites: Sequence[Suite],
    models_dir: Path,
    *,
    repeats: int = 1,
    seed: int = 1,
    temperature: float | None = None,
    ctx: int | None = None,
    fresh: bool = False,
    command: str = "",
    on_progress: OnProgress = lambda what, done, of: None,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """The result as its JSON has it. ``temperature``: by default 0, and ``SAMPLED`` where there are ``repeats``, which
    would be alike. ``fresh``: forget what an earlier run, that was cut, has answered. ``tell``: a line to the user.

    A contender that fails is in the result with the reason. Raises EdgeError where none could be asked.
    """
    temperature = temperature if temperature is not None else (SAMPLED if repeats > 1 else 0.0)
    why = sandbox.unconfined()
    skipped = [one for one in suites if why and needs_sandbox(one)]
    asked = [one for one in suites if one not in skipped]
    if not asked:
        raise EdgeError(f"nothing to ask: {why}", "choose other suites")
    for one in skipped:
        tell(f"the suite {one.name} is left out: {why}")
    told = [facts(one, lambda done, of, name=one.name: on_progress(f"hashing {name}", done, of)) for one in contenders]
    result: dict[str, Any] = {
        "kind": "edge compare",
        "edge": edge.__version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine_facts(),
        "command": command,
        "seed": seed,
        "repeats": repeats,
        "temperature": temperature,
        "ctx": ctx,
        "suites": [suite_facts(one) for one in suites],
        "models": told,
        "skipped": [{"suite": one.name, "why": why} for one in skipped],
        "answers": [],
    }
    about = {key: result[key] for key in ("edge", "seed", "repeats", "temperature", "ctx", "suites", "models")}
    journal = Journal(models_dir, about)
    if fresh:
        journal.forget()
    known = journal.read()
    if known:
        tell(f"going on with {len(known)} answers of an earlier run (--fresh begins anew)")
    tasks = [list(tasks_of(number, asked, repeats)) for number in range(len(contenders))]
    total, done = sum(map(len, tasks)), 0
    long = any(question.document for suite in asked for question in suite.questions)
    for number, one in enumerate(contenders):
        left = [task for task in tasks[number] if key_of(task.identity()) not in known]
        try:
            if left:
                on_progress(f"{one.name}: loading", done, total)
                with serving(one, models_dir, ctx, long) as served:
                    for answer in answers(served, left, seed, temperature):
                        known[key_of(answer)] = answer
                        journal.add(answer)
                        here = sum(key_of(task.identity()) in known for task in tasks[number])
                        on_progress(f"{one.name}: {answer['suite']}", done + here, total)
        except EdgeError as error:
            told[number]["failed"] = str(error)
            tell(f"{one.name} is left out: {error}")
        done += len(tasks[number])
        found = [known[key] for task in tasks[number] if (key := key_of(task.identity())) in known]
        told[number]["memory"] = max((one.get("memory") or 0 for one in found), default=0) or None
        result["answers"] += found
    if not result["answers"]:
        raise EdgeError(f"no model could be asked: {told[0]['failed']}", "")
    if all(one["failed"] is None for one in told):
        journal.forget()
    return result


def needs_sandbox(suite: Suite) -> bool:
    return any(one.check is not None and one.check.kind == "tests" for one in suite.questions)


def suite_facts(suite: Suite) -> dict[str, Any]:
    questions = [
        {
            "id": one.id,
            "system": one.system,
            "turns": list(one.turns),
            "document": one.document,
            "rubric": one.rubric,
            "scored": one.check.kind if one.check else None,
        }
        for one in suite.questions
    ]
    return {"name": suite.name, "title": suite.title, "note": suite.note, "digest": suite.digest} | {
        "questions": questions
    }


def tasks_of(model: int, suites: Sequence[Suite], repeats: int) -> Iterator[Task]:
    for repeat in range(repeats):
        for suite in suites:
            for question in suite.questions:
                for variant in variants(question):
                    yield Task(model, suite.name, question, variant, repeat)


def variants(question: Question) -> tuple[str, ...]:
    if question.twice:
        return FIRST, SECOND
    return (PLAIN, CONSTRAINED) if question.constrained else (PLAIN,)


def answers(served: Serving, tasks: Sequence[Task], seed: int, temperature: float) -> Iterator[dict[str, Any]]:
    """Of one contender. Raises NoAnswer where it does not answer any more."""
    for task in tasks:
        answer = answered(served.server, task, seed + task.repeat, temperature)
        served.look()
        if answer["error"] and not alive(served):
            raise NoAnswer(answer["error"], "")
        yield answer | {"memory": served.memory}


def alive(served: Serving) -> bool:
    """Whether it answers at all: a question that it refuses is its answer, a server that is gone is none."""
    try:
        ask(served.server, [{"role": "user", "content": "1"}], max_tokens=1, temperature=0)
    except NoAnswer:
        return False
    return True


def answered(server: Server, task: Task, seed: int, temperature: float) -> dict[str, Any]:
    """One conversation, turn by turn, and what its last answer is worth."""
    question = task.question
    found: dict[str, Any] = task.identity() | {
        "seed": seed,
        "texts": [],
        "score": None,
        "why": "",
        "detail": {},
        "error": None,
    }
    options: dict[str, Any] = {"max_tokens": question.max_tokens, "temperature": temperature, "seed": seed}
    if task.variant == CONSTRAINED and question.check is not None:
        schema = {"name": "answer", "schema": question.check.schema, "strict": True}
        options["response_format"] = {"type": "json_schema", "json_schema": schema}
    messages = [{"role": "system", "content": question.system}] if question.system else []
    said: list[Answer] = []
    try:
        for number, turn in enumerate(question.turns):
            text = f"{document(question.document)}\n\n{turn}" if question.document and number == 0 else turn
            messages.append({"role": "user", "content": text})
            said.append(ask(server, messages, **options))
            messages.append({"role": "assistant", "content": said[-1].text})
    except NoAnswer as error:
        found |= {"error": error.message}
    found["texts"] = [one.text for one in said]
    found |= figures(said)
    if question.check is not None:  # no answer is worth what an empty one is, and counts in precision and recall
        worth = score(question.check, said[-1].text if found["error"] is None else "")
        found |= {"score": worth.score, "why": found["error"] or worth.why, "detail": dict(worth.detail)}
    return found


def figures(said: Sequence[Answer]) -> dict[str, Any]:
    """Of a conversation: the time to its first answer's first token, seconds and tokens of all, the last's speed."""
    if not said:
        return dict.fromkeys(("ttft", "seconds", "tokens", "prompt_tokens", "rate", "finish"))
    counted = [one.tokens for one in said if one.tokens is not None]
    return {
        "ttft": said[0].ttft,
        "seconds": sum(one.seconds for one in said),
        "tokens": sum(counted) if len(counted) == len(said) else None,
        "prompt_tokens": said[-1].prompt_tokens,
        "rate": said[-1].rate,
        "finish": said[-1].finish,
    }
