"""Lines 7-9, 14, 15, 17, 18 and 20-27 of what clients depend on: chats, and the parameters of all answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from edge.engine.types import Request
from edge.wire.chat import ChatRequest
from edge.wire.messages import Message
from tests.edge.server.running import (
    CHAT,
    HELLO,
    TEXT,
    Served,
    ask,
    choices_of,
    error_of,
    joined,
    running,
    stream,
)
from tests.edge.server.saying import saying, watching

BODY = {"messages": HELLO, "temperature": 0, "max_tokens": 12}


def content(answer: Any, index: int = 0) -> str:
    return answer["choices"][index]["message"]["content"]


def requested(served: Served, client: httpx.Client, body: dict[str, Any]) -> Request:
    """What the engine was asked for."""
    with watching(served.engine) as seen:
        ask(client, {"messages": HELLO, "max_tokens": 2, **body})
    return seen[0].request


def test_a_streamed_answer_is_the_whole_one(client: httpx.Client, sdk: openai.OpenAI) -> None:
    body = {**BODY, "max_tokens": 60}
    whole = ask(client, body)
    assert content(whole) and joined(stream(client, CHAT, body)) == content(whole)
    made = sdk.chat.completions.create(model="x", **body)
    assert made.choices[0].message.content == content(whole) and made.choices[0].message.role == "assistant"
    with sdk.chat.completions.stream(model="x", **body) as parts:
        final = parts.get_final_completion()
    assert final.choices[0].message.content == content(whole)
    assert final.choices[0].finish_reason == whole["choices"][0]["finish_reason"] == "stop"


def test_07_the_first_delta(client: httpx.Client) -> None:
    deltas = [one["delta"] for one in choices_of(stream(client, CHAT, BODY))]
    assert deltas[0] == {"role": "assistant", "content": ""}
    assert all("role" not in delta for delta in deltas[1:])


def test_08_the_last_delta(client: httpx.Client) -> None:
    *before, last = choices_of(stream(client, CHAT, BODY))
    assert last["delta"] == {} and last["finish_reason"]
    assert all(one["finish_reason"] is None and one["delta"] for one in before)


@pytest.mark.parametrize(("most", "reason"), [(None, "stop"), (3, "length")])
def test_09_finish_reasons(speaker: Served, told: httpx.Client, most: int | None, reason: str) -> None:
    with saying(speaker.engine, "hello"):
        body = {"messages": HELLO, "max_tokens": most}
        assert ask(told, body)["choices"][0]["finish_reason"] == reason
        assert choices_of(stream(told, CHAT, body))[-1]["finish_reason"] == reason


def test_09_a_full_context_is_a_length(gguf: dict[str, Path]) -> None:
    with running(gguf["speaker"], ctx=64) as served, served.client() as client, saying(served.engine, "a" * 99):
        answer = ask(client, {"messages": HELLO})
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["usage"]["total_tokens"] == 64, "all that fits"


def test_14_what_is_not_there_is_left_out_or_null(client: httpx.Client) -> None:
    (choice,) = ask(client, BODY)["choices"]
    assert choice.keys() == {"index", "message", "logprobs", "finish_reason"}
    assert choice["message"].keys() == {"role", "content", "refusal"}, "no tool calls, no thoughts"
    assert choice["message"]["refusal"] is None and choice["logprobs"] is None
    assert all(one["logprobs"] is None for one in choices_of(stream(client, CHAT, BODY)))


SAID = "你好 😀 done"


def test_15_characters_come_whole(speaker: Served, told: httpx.Client) -> None:
    with saying(speaker.engine, SAID, pause=0.001):  # each byte is a token, and comes by itself
        deltas = [one["delta"].get("content", "") for one in choices_of(stream(told, CHAT, {"messages": HELLO}))]
    assert "".join(deltas) == SAID and not any("\ufffd" in delta for delta in deltas)
    assert len(deltas) > len(SAID) // 2


@pytest.mark.parametrize("most", [6, 7, 8, 9, 10])
def test_15_no_half_character_at_a_limit(speaker: Served, told: httpx.Client, most: int) -> None:
    with saying(speaker.engine, SAID):
        body = {"messages": HELLO, "max_tokens": most}
        text = content(ask(told, body))
        assert joined(stream(told, CHAT, body)) == text
    assert "\ufffd" not in text and SAID.startswith(text)


@pytest.mark.parametrize(
    ("said", "given", "reason"),
    [("one STOP two", "one ", "stop"), ("one STO two", "one STO two", "stop"), ("one ST", "one ST", "stop")],
)
def test_15_nothing_of_a_stop_string(speaker: Served, told: httpx.Client, said: str, given: str, reason: str) -> None:
    with saying(speaker.engine, said, pause=0.001):
        body = {"messages": HELLO, "stop": ["STOP"]}
        chunks = stream(told, CHAT, body)
        answer = ask(told, body)
    assert joined(chunks) == content(answer) == given
    assert choices_of(chunks)[-1]["finish_reason"] == answer["choices"][0]["finish_reason"] == reason
    sent = ""
    for one in choices_of(chunks):
        sent += one["delta"].get("content", "")
        assert given.startswith(sent), "never more than the answer"


def test_17_usage_of_a_stream(client: httpx.Client) -> None:
    plain = stream(client, CHAT, BODY)
    assert not any("usage" in chunk for chunk in plain[:-1]) and all(chunk["choices"] for chunk in plain[:-1])
    *chunks, last, done = stream(client, CHAT, {**BODY, "stream_options": {"include_usage": True}})
    assert done == "[DONE]" and last["choices"] == [] and all(chunk["choices"] for chunk in chunks)
    whole = ask(client, BODY)["usage"]
    for name in ("prompt_tokens", "completion_tokens", "total_tokens"):
        assert last["usage"][name] == whole[name] > 0
    assert whole["total_tokens"] == whole["prompt_tokens"] + whole["completion_tokens"]


def test_18_prompt_tokens_are_all_of_the_prompt(served: Served, client: httpx.Client) -> None:
    usage = ask(client, BODY)["usage"]
    prompt = ask(client, {"messages": HELLO}, "/apply-template")["prompt"]
    tokens = ask(client, {"content": prompt}, "/tokenize")["tokens"]
    assert usage["prompt_tokens"] == len(tokens)
    again = ask(client, BODY)["usage"]
    cached = again["prompt_tokens_details"]["cached_tokens"]
    assert 0 < cached < again["prompt_tokens"] == usage["prompt_tokens"], "a part of it"


def test_18_tools_count(speaker: Served, told: httpx.Client) -> None:
    tool = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
    with saying(speaker.engine, "x"):
        without, with_tool = (ask(told, {"messages": HELLO, **more})["usage"] for more in ({}, {"tools": [tool]}))
    assert with_tool["prompt_tokens"] > without["prompt_tokens"] + 40


def test_timings_are_told(client: httpx.Client) -> None:
    names = {"queue_ms", "cache_n", "prompt_n", "prompt_ms", "prompt_per_second", "predicted_n", "predicted_ms"}
    whole = ask(client, BODY)
    last = stream(client, CHAT, BODY)[-2]
    for timings, usage in ((whole["timings"], whole["usage"]), (last["timings"], None)):
        assert names | {"predicted_per_second"} == timings.keys()
        assert all(isinstance(value, int | float) and value >= 0 for value in timings.values())
        assert timings["predicted_n"] and timings["prompt_ms"] > 0
        if usage:
            assert timings["cache_n"] + timings["prompt_n"] == usage["prompt_tokens"]
            assert timings["predicted_n"] == usage["completion_tokens"]


def test_20_two_names_of_the_token_limit(speaker: Served, told: httpx.Client) -> None:
    with saying(speaker.engine, "hello"):  # he-l-l-o
        for name in ("max_tokens", "max_completion_tokens"):
            answer = ask(told, {"messages": HELLO, name: 3})
            assert content(answer) == "hell" and answer["usage"]["completion_tokens"] == 3


def test_21_null_is_not_sent(client: httpx.Client) -> None:
    nothing = dict.fromkeys(ChatRequest.model_fields, None)
    assert content(ask(client, {**nothing, **BODY})) == content(ask(client, BODY))
    message = {**dict.fromkeys(Message.model_fields, None), **HELLO[0]}
    assert content(ask(client, {**BODY, "messages": [message]})) == content(ask(client, BODY))
    ask(client, {**BODY, "metadata": None, "user": None, "functions": None, "stream_options": {"include_usage": None}})


@pytest.mark.parametrize("stop", [None, [], "", [""], ["", "never said"]])
def test_22_stop_may_be_nothing(speaker: Served, told: httpx.Client, stop: Any) -> None:
    with saying(speaker.engine, "hello"):
        assert content(ask(told, {"messages": HELLO, "stop": stop})) == "hello"


@pytest.mark.parametrize("stop", ["l", ["l"], ["o", "l"], ["", "ll"]])
def test_22_stop_may_be_one_or_several(speaker: Served, told: httpx.Client, stop: Any) -> None:
    with saying(speaker.engine, "hello"):
        assert content(ask(told, {"messages": HELLO, "stop": stop})) == "he"


def test_22_seeds(client: httpx.Client) -> None:
    body = {**BODY, "temperature": 1.5, "top_p": 1, "top_k": 0}
    ask(client, body)  # the prefix is cached from here on
    same = [content(ask(client, {**body, "seed": 7})) for _ in range(2)]
    assert same[0] == same[1]
    others = {content(ask(client, {**body, "seed": seed})) for seed in range(4)}
    assert len(others) > 1
    several = ask(client, {**body, "seed": 7, "n": 3})["choices"]
    assert len({one["message"]["content"] for one in several}) > 1, "each choice draws by itself"
    assert content(ask(client, BODY)) == content(ask(client, {**BODY, "seed": 5})), "greedy draws nothing"


def test_22_exactly_the_same_where_that_is_asked_for(gguf: dict[str, Path]) -> None:
    body = {"messages": HELLO, "temperature": 1.5, "max_tokens": 20, "seed": 3}
    with running(gguf["tiny-qwen"], deterministic=True) as served, served.client() as client:
        alone = content(ask(client, body))
        ask(client, {"messages": [*HELLO, {"role": "assistant", "content": "x"}, *HELLO], "max_tokens": 2})
        assert content(ask(client, {**body, "n": 3})) == content(ask(client, body)) == alone, "whoever else is there"


def test_22_the_same_seed_for_the_first_of_several(served: Served, client: httpx.Client) -> None:
    with watching(served.engine) as seen:
        ask(client, {**BODY, "seed": 2**40 + 7, "n": 2})
        ask(client, {**BODY, "seed": 2**40 + 7})
        ask(client, {**BODY, "seed": -3, "n": 2})
    seeds = [one.request.sampling.seed for one in seen]
    assert seeds[0] == seeds[2] != seeds[1]
    assert all(seed is not None and 0 <= seed < 2**32 for seed in seeds)


def test_23_what_is_left_out_is_the_models_own(served: Served, client: httpx.Client) -> None:
    assert requested(served, client, {}).sampling == served.engine.sampling
    given = {"temperature": 0.3, "top_p": 0.5, "top_k": 7, "min_p": 0.1, "repeat_penalty": 1.1}
    given |= {"presence_penalty": 0.5, "frequency_penalty": -0.5}
    sampling = requested(served, client, given).sampling
    assert {name: getattr(sampling, name) for name in given} == given
    assert sampling.penalty_last_n == served.engine.sampling.penalty_last_n


def test_temperature_may_be_a_whole_number(served: Served, client: httpx.Client) -> None:
    assert requested(served, client, {"temperature": 1}).sampling.temperature == 1


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        ({"audio": {"voice": "alloy"}}, "audio"),
        ({"prediction": {"type": "content", "content": "x"}}, "prediction"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"temprature": 0.5}, "temprature"),
        ({"modalities": ["text", "audio"]}, "modalities"),
    ],
)
def test_24_what_changes_the_meaning_is_refused(sdk: openai.OpenAI, change: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        sdk.chat.completions.create(model="x", messages=HELLO, extra_body=change)
    assert (caught.value.param or "").partition(".")[0] == param and param in caught.value.message


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"temperature": "hot"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 1e999}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens"),
        ({"max_completion_tokens": "many"}, "max_completion_tokens"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"stop": 5}, "stop"),
        ({"stop": ["a", 5]}, "stop.1"),
        ({"stream": "yes"}, "stream"),
        ({"logit_bias": {"x": 1}}, "logit_bias"),
        ({"logit_bias": {"5": "x"}}, "logit_bias"),
        ({"tool_choice": "perhaps"}, "tool_choice"),
        ({"tool_choice": {"type": "function"}}, "tool_choice.function"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"messages": "hello"}, "messages"),
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0.type"),
        ({"chat_template_kwargs": {"messages": []}}, "chat_template_kwargs"),
        ({"reasoning_effort": "some"}, "reasoning_effort"),
    ],
)
def test_a_wrong_field_is_named(client: httpx.Client, change: dict[str, Any], param: str) -> None:
    """Of a field that takes several types, the type that was tried was part of its name."""
    text = json.dumps({**BODY, **change}).replace("Infinity", "1e999")
    answer = client.post(CHAT, content=text, headers={"Content-Type": "application/json"})
    assert error_of(answer, 400)["param"] == param


def test_24_harmless_parameters_are_taken(sdk: openai.OpenAI) -> None:
    answer = sdk.chat.completions.create(
        model="x",
        messages=HELLO,
        max_tokens=2,
        user="me",
        store=True,
        metadata={"a": "b"},
        modalities=["text"],
        service_tier="auto",
    )
    assert answer.choices


def test_27_an_image_is_refused(client: httpx.Client) -> None:
    parts = [{"type": "text", "text": "look"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]
    error = error_of(client.post(CHAT, json={**BODY, "messages": [{"role": "user", "content": parts}]}), 400)
    assert error["param"] == "messages.0.content" and "image_url" in error["message"]


def test_several_choices(client: httpx.Client) -> None:
    answer = ask(client, {**BODY, "n": 3})
    assert [one["index"] for one in answer["choices"]] == [0, 1, 2]
    one = ask(client, BODY)
    assert answer["usage"]["prompt_tokens"] == one["usage"]["prompt_tokens"], "a prompt counts once"
    assert answer["usage"]["completion_tokens"] >= 3
    chunks = stream(client, CHAT, {**BODY, "n": 3})
    assert [joined(chunks, index=index)[:1] for index in range(3)] == [
        choice["message"]["content"][:1] for choice in answer["choices"]
    ]


def test_logit_bias(served: Served, client: httpx.Client) -> None:
    request = requested(served, client, {"logit_bias": {"5": -100, "7": 1.5}})
    assert request.logit_bias == {5: -100, 7: 1.5}


def test_a_grammar(served: Served, client: httpx.Client) -> None:
    grammar = 'root ::= "yes" | "no"'
    assert content(ask(client, {**BODY, "grammar": grammar})) in ("yes", "no")
    error_of(client.post(CHAT, json={**BODY, "grammar": "root ::= ("}), 400)
    both = {"grammar": grammar, "response_format": {"type": "json_object"}}
    assert error_of(client.post(CHAT, json={**BODY, **both}), 400)["param"] == "grammar"


@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_a_model_that_nobody_named(client: httpx.Client, path: str) -> None:
    body = {"prompt": "x", "max_tokens": 2} if path == TEXT else {"messages": HELLO, "max_tokens": 2}
    assert ask(client, body, path)["choices"]
