"""The engine on the real Qwen2.5-Coder-0.5B-Instruct at Q4_0: several chats at once, streams, an answer as JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from convert.pipeline import convert
from edge.api import Engine
from edge.constrain import ConstraintSpec
from tests.real import fetch

# question -> what a sensible answer has, and the least number of matches
QUESTIONS = {
    "What is 2+2? Answer briefly.": (r"\b(4|four)\b", 1),
    "What is the capital of France? Answer briefly.": ("Paris", 1),
    "请用中文介绍一下北京。": ("[\u4e00-\u9fff]", 20),
    "Write a Python function that adds two numbers.": (r"def \w+\(\w+, \w+\)", 1),
}
SCHEMA = {
    "type": "object",
    "properties": {
        "country": {"type": "string"},
        "capital": {"type": "string"},
        "continent": {"enum": ["Africa", "America", "Asia", "Europe", "Oceania"]},
        "neighbours": {"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": 3},
    },
    "required": ["country", "capital", "continent", "neighbours"],
    "additionalProperties": False,
}


def asked(question: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}]


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    path: Path = tmp_path_factory.mktemp("real") / "real-Q4_0.gguf"
    convert(fetch.real_checkpoint(), {"Q4_0": path})
    with Engine(path, ctx=1024) as engine:
        yield engine


def test_four_chats_at_once(llm: Engine):
    """Each has an answer to its own question. All are under way before the first one is read."""
    streams = [llm.chat(asked(question), max_tokens=48, temperature=0) for question in QUESTIONS]
    for stream, (question, (pattern, least)) in zip(streams, QUESTIONS.items(), strict=True):
        text = stream.result.text
        assert len(re.findall(pattern, text)) >= least, f"{question} -> {text}"


@pytest.mark.parametrize("question", QUESTIONS)
def test_the_stream_is_the_answer(llm: Engine, question: str):
    stream = llm.chat(asked(question), max_tokens=32, temperature=0)
    deltas = [delta.text for delta in stream]
    assert len(deltas) > 1 and "\ufffd" not in "".join(deltas)
    assert "".join(deltas) == stream.result.text


def test_an_answer_that_obeys_a_schema(llm: Engine):
    form = ConstraintSpec("json_schema", SCHEMA, compact=True)
    result = llm.chat(asked("Describe France as JSON."), max_tokens=200, temperature=0, constraint=form).result
    text = result.text
    value = json.loads(text)
    assert result.finish_reason == "stop" and list(value) == list(SCHEMA["required"])
    assert value["capital"] == "Paris" and value["continent"] == "Europe"
    assert 1 <= len(value["neighbours"]) <= 3 and all(isinstance(one, str) for one in value["neighbours"])
    assert json.dumps(value, ensure_ascii=False, separators=(",", ":")) == text
