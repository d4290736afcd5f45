"""A comparison by hand: two levels of one model, a server, and a model that failed; some answers are hostile.

Six questions of code, four of JSON, one that is only read; "speed" was left out. Every figure that the tests expect can
be counted here.
"""

from __future__ import annotations

from typing import Any

SCRIPT = "<script>alert(1)</script></pre></div>"
LINK = "[here](javascript:alert(1)) ![x](http://evil.example/x.png)"
FENCES = "```python\nprint('``' + '`````')\n```\n`````\n# not a heading"
TURNED = "safe \u202egpj.exe\u202c \u2066x\u2069"
TERMINAL = "\x1b[31mred\x1b[0m \x07 \x9b1m"
LONG = "w" * 10_000
FAILED = "three cannot be served: <b>no</b>"
HOSTILE = (SCRIPT, LINK, FENCES, TURNED, TERMINAL, LONG)

CODE = [f"code-{number}" for number in range(1, 7)]
JSON = [f"json-{number}" for number in range(1, 5)]
# By model: scores of the code questions, one list a question, one number a repeat.
CODE_SCORES = (
    [[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 1.0]],
    [[0.0, 0.0], [0.5, 0.5], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1.0]],
    [[0.0, 0.0], [0.0, 0.0], [0.5, 0.5], [0.0, 0.0], [0.0, 0.0], [0.0, 0.0]],
)
JSON_SCORES = ([1.0, 1.0, 0.0, 0.0], [1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0])


def sample() -> dict[str, Any]:
    """A new one each time: it may be changed."""
    return {
        "kind": "edge compare",
        "edge": "0.1.0",
        "made": "2026-11-30T12:00:00+00:00",
        "machine": {
            "cpu": "Sample CPU",
            "arch": "x86_64",
            "os": "Linux",
            "physical": 2,
            "logical": 4,
            "usable": 2,
            "memory": 8_000_000_000,
            "library": "llama-cpp-python 0.3.36 (avx2)",
        },
        "command": "edge compare one:Q8_0 one:Q4_0 http://127.0.0.1:1/v1#two three:Q4_0",
        "seed": 1,
        "repeats": 2,
        "temperature": 0.7,
        "ctx": None,
        "suites": [
            suite("code", "Code", "Small functions.", [question(one, "tests") for one in CODE]),
            suite("json", "JSON", "Plain, and constrained.", [question(one, "schema") for one in JSON]),
            suite("chat", "Chat", "Read side by side.", [question("greet", None, turns=["Hello", SCRIPT])]),
            suite("speed", "Speed", "", []),
        ],
        "models": [
            model("one:Q8_0", level="Q8_0", base="one", size=600_000_000, sha256="8" * 64, memory=900_000_000),
            model("one:Q4_0", level="Q4_0", base="one", size=350_000_000, sha256="4" * 64, memory=650_000_000),
            model("two @ 127.0.0.1:1/v1", base="http://127.0.0.1:1/v1", address="http://127.0.0.1:1/v1#two"),
            model("three:Q4_0", level="Q4_0", base="three", sha256="3" * 64, failed=FAILED),
        ],
        "skipped": [{"suite": "speed", "why": "left out by hand"}],
        "answers": [*code_answers(), *json_answers(), *chat_answers()],
    }


def suite(name: str, title: str, note: str, questions: list[dict[str, Any]]) -> dict[str, Any]:
    return {"name": name, "title": title, "note": note, "digest": name[0] * 64, "questions": questions}


def question(name: str, scored: str | None, turns: list[str] | None = None) -> dict[str, Any]:
    rubric = "" if scored else "Is it friendly? Is `<b>` shown as it is | is?"
    turns = turns or [f"Question {name}."]
    return {"id": name, "system": "", "turns": turns, "document": "", "rubric": rubric, "scored": scored}


def model(name: str, **known: Any) -> dict[str, Any]:
    facts = dict.fromkeys(("level", "address", "size", "sha256", "memory", "failed"))
    return {"name": name, "base": name} | facts | known


def answer(model: int, suite: str, question: str, **told: Any) -> dict[str, Any]:
    """The first model writes 20 tokens/s, the second 40, the third 60."""
    return {
        "model": model,
        "suite": suite,
        "question": question,
        "variant": "plain",
        "repeat": 0,
        "seed": 1,
        "texts": [f"{question} by {model}"],
        "score": None,
        "why": "",
        "detail": {},
        "ttft": 0.25,
        "seconds": 2.0,
        "tokens": 40,
        "prompt_tokens": 12,
        "rate": 20.0 * (model + 1),
        "finish": "stop",
        "error": None,
        "memory": None,
    } | told


def code_answers() -> list[dict[str, Any]]:
    """The first repeat of model 1 is hostile, a kind a question; model 2 does not answer the last question."""
    found = []
    for number, questions in enumerate(CODE_SCORES):
        for index, (name, scores) in enumerate(zip(CODE, questions, strict=True)):
            for repeat, score in enumerate(scores):
                told: dict[str, Any] = {"score": score, "repeat": repeat, "seed": 1 + repeat}
                told["why"] = f"{score * 2:.0f} of 2 tests passed"
                if number == 1 and repeat == 0:
                    told["texts"] = [HOSTILE[index]]
                if number == 2 and name == CODE[-1]:
                    gone = dict.fromkeys(("ttft", "seconds", "tokens", "prompt_tokens", "rate", "finish"))
                    told |= {"texts": [], "error": "no answer in 60 s", "why": "no answer in 60 s"} | gone
                found.append(answer(number, "code", name, **told))
    return found


def json_answers() -> list[dict[str, Any]]:
    """Plain answers are valid where they score; constrained ones are all valid, and complete but for the last."""
    found = []
    for number, scores in enumerate(JSON_SCORES):
        for name, score in zip(JSON, scores, strict=True):
            worth = int(score)
            plain = {"valid": worth, "complete": worth, "english": 1}
            found.append(answer(number, "json", name, score=score, why="as asked for", detail=plain))
            complete = int(name != JSON[-1])
            detail = {"valid": 1, "complete": complete, "english": 1}
            found.append(
                answer(number, "json", name, variant="constrained", score=float(complete), why="", detail=detail)
            )
    return found


def chat_answers() -> list[dict[str, Any]]:
    said = ("Hello! How can I help?", "你好！有什么可以帮你？", "Hi.\n\n| a | b |\n|---|---|")
    return [answer(number, "chat", "greet", texts=[text, SCRIPT]) for number, text in enumerate(said)]


SMALL = [str(number) for number in range(6)]


def small_answer(model: int, question: str, score: float, text: str = "x") -> dict[str, Any]:
    return {
        "model": model, "suite": "mine", "question": question, "variant": "plain", "repeat": 0, "seed": 1,
        "texts": [text], "score": score, "why": text, "detail": {}, "ttft": 0.1, "seconds": 1.0, "tokens": 4,
        "prompt_tokens": 9, "rate": 10.0, "finish": "stop", "error": None, "memory": None,
    }  # fmt: skip


def small_model(name: str, level: str) -> dict[str, Any]:
    facts = {"name": name, "base": "m", "level": level, "address": None, "size": 10**9, "sha256": "0" * 64}
    return facts | {"memory": None, "failed": None}


def small(*scores: list[float]) -> dict[str, Any]:
    """A suite of six questions; a model for each list of scores."""
    questions = [
        {"id": one, "system": "", "turns": [HOSTILE[0]], "document": "", "rubric": "r", "scored": "text"}
        for one in SMALL
    ]
    return {
        "kind": "edge compare", "edge": "0", "made": "2026", "command": "edge compare <b>", "seed": 1, "repeats": 1,
        "temperature": 0.0, "ctx": None, "skipped": [], "machine": {"cpu": "C", "usable": 2, "memory": 10**9, "os": "L",
        "library": "l"},
        "suites": [{"name": "mine", "title": "Mine", "note": "", "digest": "d", "questions": questions}],
        "models": [small_model(f"m:{number}", str(number)) for number in range(len(scores))],
        "answers": [small_answer(number, one, score, HOSTILE[0]) for number, of in enumerate(scores)
                    for one, score in zip(SMALL, of, strict=True)],
    }  # fmt: skip
