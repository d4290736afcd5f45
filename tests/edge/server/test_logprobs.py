"""Line 19 of what clients depend on: log probabilities, in both shapes."""

from __future__ import annotations

import codecs
import math
from typing import Any

import httpx
import openai
import pytest

from tests.edge.server.running import CHAT, HELLO, TEXT, Served, ask, choices_of, error_of, joined, stream
from tests.edge.server.saying import saying

BODY = {"messages": HELLO, "temperature": 0, "max_tokens": 10, "logprobs": True}


def data_of(entries: list[Any]) -> bytes:
    return b"".join(bytes(one["bytes"]) for one in entries)


def streamed(chunks: list[Any]) -> list[Any]:
    return [entry for one in choices_of(chunks) if one["logprobs"] for entry in one["logprobs"]["content"]]


def test_19_tokens_make_up_the_content(client: httpx.Client) -> None:
    body = {**BODY, "top_logprobs": 3}
    (choice,) = ask(client, body)["choices"]
    chunks = stream(client, CHAT, body)
    for entries, text in (
        (choice["logprobs"]["content"], choice["message"]["content"]),
        (streamed(chunks), joined(chunks)),
    ):
        assert text and data_of(entries) == text.encode()
        for entry in entries:
            assert entry.keys() == {"token", "logprob", "bytes", "top_logprobs"}
            assert entry["token"].encode() == bytes(entry["bytes"]) or "\ufffd" in entry["token"]
            assert entry["logprob"] <= 0 and len(entry["top_logprobs"]) == 3
            likeliest = [one["logprob"] for one in entry["top_logprobs"]]
            assert likeliest == sorted(likeliest, reverse=True) and math.isclose(likeliest[0], entry["logprob"])
            assert all(one.keys() == {"token", "logprob", "bytes"} for one in entry["top_logprobs"])


def test_19_openais_client_reads_them(sdk: openai.OpenAI) -> None:
    made = sdk.chat.completions.create(model="x", top_logprobs=2, **BODY)
    logprobs = made.choices[0].logprobs
    assert logprobs and logprobs.content and len(logprobs.content[0].top_logprobs) == 2
    with sdk.chat.completions.stream(model="x", **{**BODY, "max_tokens": 60}) as parts:
        final = parts.get_final_completion()
    assert final.choices[0].logprobs and final.choices[0].logprobs.content
    assert data_of([one.model_dump() for one in final.choices[0].logprobs.content]).decode() == (
        final.choices[0].message.content
    )


def test_19_none_are_told_unasked(client: httpx.Client) -> None:
    assert ask(client, {**BODY, "logprobs": False})["choices"][0]["logprobs"] is None
    assert ask(client, BODY)["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


@pytest.mark.parametrize(
    "change", [{"logprobs": None}, {"logprobs": False}, {"top_logprobs": 21}, {"top_logprobs": -1}]
)
def test_19_top_logprobs_need_logprobs(client: httpx.Client, change: dict[str, Any]) -> None:
    error = error_of(client.post(CHAT, json={**BODY, "top_logprobs": 2, **change}), 400)
    assert error["param"] == "top_logprobs"


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("said", ["<think>\nyes think yes\n</think>\n\nyes", "<think>\nno\n</think>\n\nthink"])
def test_19_thoughts_have_none(speaker: Served, told: httpx.Client, said: str, streams: bool) -> None:
    """The content was looked for in the thoughts, and found there."""
    with saying(speaker.engine, said):
        known = speaker.engine.chat(HELLO, logprobs=0).result
        body = {"messages": HELLO, "logprobs": True}
        entries = (
            streamed(stream(told, CHAT, body)) if streams else (ask(told, body)["choices"][0]["logprobs"]["content"])
        )
    assert data_of(entries).decode() == known.text
    expected = [one.logprob for one in known.logprobs[-len(entries) :] if one]
    assert [one["logprob"] for one in entries] == pytest.approx(expected, rel=1e-2)


def test_19_a_stop_string_has_none(speaker: Served, told: httpx.Client) -> None:
    with saying(speaker.engine, "one STOP two", pause=0.001):
        body = {"messages": HELLO, "logprobs": True, "stop": "STOP"}
        assert data_of(ask(told, body)["choices"][0]["logprobs"]["content"]) == b"one "
        assert data_of(streamed(stream(told, CHAT, body))) == b"one "


def test_19_parts_of_characters(speaker: Served, told: httpx.Client) -> None:
    with saying(speaker.engine, "a 😀"):
        entries = ask(told, {"messages": HELLO, "logprobs": True})["choices"][0]["logprobs"]["content"]
    assert data_of(entries) == "a 😀".encode() and len(entries) >= 6


def test_19_each_choice_has_its_own(client: httpx.Client) -> None:
    answer = ask(client, {**BODY, "n": 2, "temperature": 1.5, "seed": 1})
    for choice in answer["choices"]:
        whole = data_of(choice["logprobs"]["content"])
        assert codecs.getincrementaldecoder("utf-8")("replace").decode(whole) == choice["message"]["content"]


def test_19_the_older_shape(client: httpx.Client, sdk: openai.OpenAI) -> None:
    body = {"prompt": "The", "temperature": 0, "max_tokens": 8, "logprobs": 2}
    (choice,) = ask(client, body, TEXT)["choices"]
    logprobs = choice["logprobs"]
    assert logprobs.keys() == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
    assert choice["text"] and "".join(logprobs["tokens"]) == choice["text"]
    assert len({len(values) for values in logprobs.values()}) == 1
    assert all(len(top) == 2 and max(top.values()) <= 0 for top in logprobs["top_logprobs"])
    for token, offset in zip(logprobs["tokens"], logprobs["text_offset"], strict=True):
        assert choice["text"][offset:].startswith(token)
    chunks = stream(client, TEXT, body)
    parts = [one["logprobs"] for one in choices_of(chunks) if one["logprobs"]]
    for name in ("tokens", "text_offset"):
        assert [value for part in parts for value in part[name]] == logprobs[name]
    made = sdk.completions.create(model="x", **body)
    assert made.choices[0].logprobs.tokens == logprobs["tokens"]


def test_19_logprobs_of_an_echo_are_refused(client: httpx.Client) -> None:
    body = {"prompt": "x", "max_tokens": 2, "logprobs": 1, "echo": True}
    assert error_of(client.post(TEXT, json=body), 400)["param"] == "logprobs"
