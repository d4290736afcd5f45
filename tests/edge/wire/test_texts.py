from __future__ import annotations

import base64
import struct
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edge.wire.fields import WireError
from edge.wire.texts import (
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    completion_options,
    embedding_json,
    inputs_of,
    prompts_of,
)


def completion(**body: Any) -> CompletionRequest:
    return CompletionRequest.model_validate({"prompt": "x", **body})


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ["a"]),
        ("", [""]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
    ],
)
def test_prompts(prompt: Any, prompts: Any) -> None:
    assert prompts_of(completion(prompt=prompt)) == prompts


@pytest.mark.parametrize("prompt", [[], ["x"] * 65])
def test_too_few_prompts_or_too_many(prompt: Any) -> None:
    with pytest.raises(WireError) as caught:
        prompts_of(completion(prompt=prompt))
    assert caught.value.param == "prompt"


@pytest.mark.parametrize("prompt", [5, {"a": 1}, ["a", 1], [1, "a"], [True], [-1], [1.0], [[1], "a"]])
def test_prompts_that_are_none(prompt: Any) -> None:
    with pytest.raises(ValidationError):
        completion(prompt=prompt)


def test_a_suffix_needs_text() -> None:
    assert prompts_of(completion(prompt=["a", "b"], suffix="c")) == ["a", "b"]
    for prompt in ([1], [[1], [2]]):
        with pytest.raises(WireError) as caught:
            prompts_of(completion(prompt=prompt, suffix="c"))
        assert caught.value.param == "suffix"


@pytest.mark.parametrize(
    ("body", "options"),
    [
        ({}, {"max_tokens": 16}),
        ({"max_tokens": None}, {"max_tokens": 16}),
        ({"max_tokens": 5, "ignore_eos": True}, {"max_tokens": 5, "ignore_eos": True}),
        ({"logprobs": 0}, {"max_tokens": 16, "logprobs": 0}),
        ({"service_tier": "flex"}, {"max_tokens": 16, "side": True}),
    ],
)
def test_options(body: dict[str, Any], options: dict[str, Any]) -> None:
    assert completion_options(completion(**body)) == options


@pytest.mark.parametrize(
    ("body", "param"),
    [({"best_of": 2}, "best_of"), ({"echo": True, "logprobs": 1}, "logprobs"), ({"messages": []}, "messages")],
)
def test_what_cannot_be_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(WireError) as caught:
        completion_options(completion(**body))
    assert caught.value.param == param


def embedding(given: Any, **more: Any) -> EmbeddingRequest:
    return EmbeddingRequest.model_validate({"input": given, **more})


def test_inputs() -> None:
    assert inputs_of(embedding("a")) == ["a"] and inputs_of(embedding(["a", "b"])) == ["a", "b"]


@pytest.mark.parametrize("given", ["", [], [""], ["a", ""], [[]], ["a"] * 2049, [1], [[1], [2]]])
def test_inputs_that_are_none(given: Any) -> None:
    with pytest.raises(WireError) as caught:
        inputs_of(embedding(given))
    assert caught.value.param == "input"


def test_dimensions_are_refused() -> None:
    with pytest.raises(WireError) as caught:
        inputs_of(embedding("x", dimensions=5))
    assert caught.value.param == "dimensions"


@pytest.mark.parametrize("kind", [np.float32, np.float64, ">f4"])
def test_base64_is_of_little_endian_float32(kind: Any) -> None:
    vector = np.array([0.5, -2.0, 1e-3], kind)
    told = embedding_json(4, vector, "base64")
    assert struct.unpack("<3f", base64.b64decode(told["embedding"])) == pytest.approx((0.5, -2.0, 1e-3))
    assert told["index"] == 4 and told["object"] == "embedding"
    plain = embedding_json(0, vector, "float")["embedding"]
    assert plain == pytest.approx([0.5, -2.0, 1e-3]) and all(type(value) is float for value in plain)


@pytest.mark.parametrize("tokens", [None, "x", ["a"], [-1], [1.5], [True]])
def test_tokens_that_are_none(tokens: Any) -> None:
    with pytest.raises(ValidationError):
        DetokenizeRequest.model_validate({"tokens": tokens})
