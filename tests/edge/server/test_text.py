"""``/v1/completions``."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from tests.edge.server.running import HELLO, TEXT, Served, ask, choices_of, error_of, stream
from tests.edge.server.saying import FIM, watching

BODY = {"prompt": "The", "temperature": 0, "max_tokens": 6}


def texts(answer: Any) -> list[str]:
    return [one["text"] for one in answer["choices"]]


def written(chunks: list[Any], index: int = 0) -> str:
    return "".join(one["text"] for one in choices_of(chunks, index))


def test_a_text_is_continued(served: Served, client: httpx.Client, sdk: openai.OpenAI) -> None:
    answer = ask(client, BODY, TEXT)
    (expected,) = served.engine.generate(["The"], temperature=0, max_tokens=6)
    assert texts(answer) == [expected.text] and expected.text, "without a template"
    (choice,) = answer["choices"]
    assert choice.keys() == {"index", "text", "logprobs", "finish_reason"} and choice["logprobs"] is None
    assert choice["finish_reason"] in ("stop", "length")
    assert written(stream(client, TEXT, BODY)) == expected.text
    assert sdk.completions.create(model="x", **BODY).choices[0].text == expected.text
    chunks = sdk.completions.create(model="x", stream=True, **BODY)
    assert "".join(chunk.choices[0].text for chunk in chunks) == expected.text


def test_sixteen_tokens_are_usual(client: httpx.Client) -> None:
    for more in ({}, {"max_tokens": None}):
        answer = ask(client, {"prompt": "The", "temperature": 0, "ignore_eos": True, **more}, TEXT)
        assert answer["usage"]["completion_tokens"] == 16 and answer["choices"][0]["finish_reason"] == "length"


def test_several_prompts_and_answers(client: httpx.Client) -> None:
    alone = [texts(ask(client, {**BODY, "prompt": prompt}, TEXT))[0][:3] for prompt in ("The", "A")]
    assert alone[0] != alone[1]
    body = {**BODY, "prompt": ["The", "A"], "n": 2}
    answer = ask(client, body, TEXT)
    assert [one["index"] for one in answer["choices"]] == [0, 1, 2, 3]
    assert [text[:3] for text in texts(answer)] == [alone[0], alone[0], alone[1], alone[1]]
    lengths = [len(ask(client, {"content": text}, "/tokenize")["tokens"]) for text in body["prompt"]]
    assert answer["usage"]["prompt_tokens"] == sum(lengths), "each prompt once"
    chunks = stream(client, TEXT, body)
    assert [written(chunks, index)[:3] for index in range(4)] == [text[:3] for text in texts(answer)]


def test_prompts_of_tokens(client: httpx.Client) -> None:
    tokens = ask(client, {"content": "The"}, "/tokenize")["tokens"]
    expected = texts(ask(client, BODY, TEXT))
    assert texts(ask(client, {**BODY, "prompt": tokens}, TEXT)) == expected
    assert texts(ask(client, {**BODY, "prompt": [tokens, tokens]}, TEXT))[0][:1] == expected[0][:1]


@pytest.mark.parametrize("streams", [False, True])
def test_echo(client: httpx.Client, streams: bool) -> None:
    plain = texts(ask(client, BODY, TEXT))[0]
    tokens = ask(client, {"content": "The"}, "/tokenize")["tokens"]
    for prompt in ("The", tokens):
        body = {**BODY, "prompt": prompt, "echo": True}
        text = written(stream(client, TEXT, body)) if streams else texts(ask(client, body, TEXT))[0]
        assert text == f"The{plain}"


def test_stop_and_usage(client: httpx.Client) -> None:
    whole = ask(client, BODY, TEXT)
    text = texts(whole)[0]
    stop = text[1:3]
    body = {**BODY, "stop": stop, "stream_options": {"include_usage": True}}
    cut = ask(client, body, TEXT)
    assert texts(cut) == [text[: text.index(stop)]] and cut["choices"][0]["finish_reason"] == "stop"
    *chunks, last, _ = stream(client, TEXT, body)
    assert written(chunks) == texts(cut)[0] and last["choices"] == []
    assert last["usage"]["prompt_tokens"] == whole["usage"]["prompt_tokens"] > 0
    assert not any("usage" in chunk for chunk in chunks)


def test_18_what_is_cached(client: httpx.Client) -> None:
    used = [ask(client, {**BODY, "prompt": "a b c d e f g h"}, TEXT)["usage"] for _ in range(2)]
    assert used[1]["prompt_tokens_details"]["cached_tokens"] == used[1]["prompt_tokens"] - 1


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"suffix": "x"}, "suffix"),
        ({"suffix": "x", "prompt": [5]}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": ["x", 5]}, "prompt.1"),
        ({"prompt": [-1]}, "prompt.0"),
        ({"prompt": ["x"] * 65}, "prompt"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"logprobs": True}, "logprobs"),
        ({"messages": HELLO}, "messages"),
    ],
)
def test_24_what_cannot_be_is_named(client: httpx.Client, change: dict[str, Any], param: str) -> None:
    for streams in (False, True):
        assert error_of(client.post(TEXT, json={**BODY, **change, "stream": streams}), 400)["param"] == param


@pytest.mark.parametrize("echo", [False, True])
@pytest.mark.parametrize("prompt", [[99999999], [0, 2**31], [2**70]])
def test_tokens_of_another_vocabulary(client: httpx.Client, prompt: list[int], echo: bool) -> None:
    error_of(client.post(TEXT, json={**BODY, "prompt": prompt, "echo": echo}), 400)


def test_a_gap_is_filled(speaker: Served, told: httpx.Client) -> None:
    with watching(speaker.engine, "prepare_text") as seen:
        ask(told, {"prompt": "ab", "suffix": "cd", "max_tokens": 2}, TEXT)
    before, behind, middle = FIM
    tokenize = speaker.engine.model.tokenize
    assert list(seen[0].request.tokens) == [before, *tokenize("ab"), behind, *tokenize("cd"), middle]
