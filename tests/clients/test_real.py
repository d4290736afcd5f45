"""The real Qwen2.5-Coder-0.5B-Instruct behind the real command: sensible answers, alone and to four clients at once.

Slow (a minute or two); the checkpoint is fetched when it is missing, see tests/real/fetch.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import openai
import pytest

from convert.pipeline import convert
from tests.clients.command import Command, serving
from tests.real import fetch

# question -> what a sensible answer has, and the least number of matches
QUESTIONS = {
    "What is the capital of France? Answer briefly.": ("Paris", 1),
    "请用中文介绍一下北京。": ("[\u4e00-\u9fff]", 20),
    "What is 2+2? Answer briefly.": (r"\b(4|four)\b", 1),
    "Write a Python function that adds two numbers.": (r"def \w+\(\w+, \w+\)", 1),
}
WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 30}, "unit": {"enum": ["celsius", "fahrenheit"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
COUNTRY = {
    "type": "object",
    "properties": {
        "capital": {"type": "string", "maxLength": 30},
        "continent": {"enum": ["Africa", "America", "Asia", "Europe", "Oceania"]},
    },
    "required": ["capital", "continent"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    folder: Path = tmp_path_factory.mktemp("real")
    path = folder / "coder-0.5b-Q4_0.gguf"
    convert(fetch.real_checkpoint(), {"Q4_0": path})
    with serving(path, folder, "--ctx", "1024") as server:
        yield server
        server.check_well()
        server.wait_idle()


@pytest.fixture
def client(real: Command) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{real.url}/v1", api_key="none", max_retries=0, timeout=300)


def asked(question: str) -> Any:
    return {"model": "any", "messages": [{"role": "user", "content": question}], "temperature": 0}


@pytest.mark.parametrize("question", QUESTIONS)
def test_it_answers_and_the_stream_is_the_answer(client: openai.OpenAI, question: str):
    pattern, least = QUESTIONS[question]
    whole = client.chat.completions.create(**asked(question), max_tokens=48).choices[0].message.content
    assert whole and len(re.findall(pattern, whole)) >= least, whole
    stream = client.chat.completions.create(**asked(question), max_tokens=48, stream=True)
    pieces = [chunk.choices[0].delta.content or "" for chunk in stream]
    assert "\ufffd" not in "".join(pieces) and len(pieces) > 4
    assert len(re.findall(pattern, "".join(pieces))) >= least


def test_four_clients_at_once(client: openai.OpenAI):
    """Each has an answer to its own question."""

    def ask(question: str) -> str:
        stream = client.chat.completions.create(**asked(question), max_tokens=48, stream=True)
        return "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    with ThreadPoolExecutor(4) as pool:
        for (question, (pattern, least)), text in zip(QUESTIONS.items(), pool.map(ask, QUESTIONS), strict=True):
            assert len(re.findall(pattern, text)) >= least, f"{question} -> {text}"


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_function_is_called(client: openai.OpenAI, choice: Any):
    options: Any = {"tools": [WEATHER], "tool_choice": choice, "parallel_tool_calls": False, "max_tokens": 120}
    answer = client.chat.completions.create(**asked("How is the weather in Paris, in celsius?"), **options).choices[0]
    (call,) = answer.message.tool_calls or []
    given = json.loads(call.function.arguments)  # type: ignore[union-attr]
    assert call.function.name == "get_weather" and answer.finish_reason == "tool_calls"  # type: ignore[union-attr]
    assert "Paris" in given["city"] and given["unit"] == "celsius"


def test_the_result_of_a_function_is_used(client: openai.OpenAI):
    """The call, its result, and an answer that tells of it."""
    begun = asked("How is the weather in Paris?")
    forced: Any = {"tools": [WEATHER], "tool_choice": "required", "parallel_tool_calls": False, "max_tokens": 120}
    message = client.chat.completions.create(**begun, **forced).choices[0].message
    assert message.tool_calls
    result = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": '{"temperature": 31}'}
    question = {"role": "user", "content": "How warm is it there? Answer with a sentence."}
    begun["messages"] += [message.model_dump(exclude_none=True), result, question]
    answer = client.chat.completions.create(**begun, tools=[WEATHER], tool_choice="none", max_tokens=80)
    assert "31" in (answer.choices[0].message.content or "")


def test_structured_output(client: openai.OpenAI):
    form: Any = {"type": "json_schema", "json_schema": {"name": "country", "strict": True, "schema": COUNTRY}}
    answer = client.chat.completions.create(**asked("Describe France as JSON."), response_format=form, max_tokens=100)
    choice = answer.choices[0]
    assert json.loads(choice.message.content or "") == {"capital": "Paris", "continent": "Europe"}
    assert choice.finish_reason == "stop"


def test_a_conversation_is_read_once(client: openai.OpenAI):
    begun = asked("What is the capital of France? Answer briefly. " + "Mind the details. " * 20)
    first = client.chat.completions.create(**begun, max_tokens=16)
    begun["messages"] += [{"role": "assistant", "content": first.choices[0].message.content}]
    begun["messages"] += [{"role": "user", "content": "And of Italy?"}]
    second = client.chat.completions.create(**begun, max_tokens=16)
    assert second.usage and second.usage.prompt_tokens_details and first.usage
    assert (second.usage.prompt_tokens_details.cached_tokens or 0) > first.usage.prompt_tokens // 2
    assert "Rome" in (second.choices[0].message.content or "")
