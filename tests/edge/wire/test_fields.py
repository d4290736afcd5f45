from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from pydantic import ValidationError

from edge.wire.fields import Body, Sampled, Whole, WireError, token_id


class Small(Body):
    unsupported: ClassVar[Mapping[str, str]] = {"big": "it is small"}
    size: Whole = 3


def test_null_is_not_sent() -> None:
    assert Small.model_validate({"size": None, "other": None}) == Small()
    Small.model_validate({"size": None, "big": None}).check()


@pytest.mark.parametrize("name", ["user", "store", "metadata", "prompt_cache_key", "safety_identifier", "verbosity"])
def test_harmless_fields(name: str) -> None:
    Small.model_validate({name: {"any": 1}}).check()


@pytest.mark.parametrize(
    ("given", "code", "told"),
    [("big", "unsupported_parameter", "it is small"), ("sizes", "unknown_parameter", "sizes")],
)
def test_fields_that_may_mean_something(given: str, code: str, told: str) -> None:
    with pytest.raises(WireError, match=told) as caught:
        Small.model_validate({given: 1}).check()
    assert (caught.value.param, caught.value.code) == (given, code)


@pytest.mark.parametrize("value", ["3", 3.0, 3.5, True, [3]])
def test_whole_numbers_are_no_texts(value: Any) -> None:
    with pytest.raises(ValidationError):
        Small.model_validate({"size": value})


@pytest.mark.parametrize(
    ("given", "options"),
    [
        ({}, {}),
        ({"temperature": 0, "top_p": 1}, {"temperature": 0, "top_p": 1}),
        ({"stop": "x"}, {"stop": ["x"]}),
        ({"stop": ["x", "", "y"]}, {"stop": ["x", "y"]}),
        ({"stop": ""}, {}),
        ({"stop": [""]}, {}),
        ({"logit_bias": {"5": -100}}, {"logit_bias": {5: -100}}),
        ({"seed": 5, "n": 3, "max_tokens": 7, "model": "x", "stream": True}, {}),
    ],
)
def test_options_of_all_endpoints(given: dict[str, Any], options: dict[str, Any]) -> None:
    assert Sampled.model_validate(given).options() == options


@pytest.mark.parametrize(
    "given",
    [
        {"temperature": -0.1},
        {"temperature": 101},
        {"temperature": float("inf")},
        {"temperature": float("nan")},
        {"temperature": "1"},
        {"top_p": 1.1},
        {"top_k": -1},
        {"top_k": 2**31},
        {"min_p": 2},
        {"presence_penalty": 3},
        {"frequency_penalty": -3},
        {"repeat_penalty": 0},
        {"n": 17},
        {"n": 0},
        {"max_tokens": 0},
        {"stop": 5},
        {"stream": 1},
        {"seed": 1.5},
    ],
)
def test_numbers_out_of_range(given: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Sampled.model_validate(given)


def test_each_choice_has_a_seed_of_its_own() -> None:
    body = Sampled.model_validate({"seed": 2**32 - 2, "n": 3})
    assert len({body.seed_of(choice) for choice in range(3)}) == 3
    assert all(0 <= (seed or 0) < 2**32 for seed in map(body.seed_of, range(3)))
    assert Sampled.model_validate({"seed": -1}).seed_of(0) is not None
    assert Sampled().seed_of(0) is None


@pytest.mark.parametrize("given", [{"include_usage": False}, {"include_usage": None}, {"include_usage": "yes"}, {}])
def test_usage_is_told_if_asked_for(given: dict[str, Any]) -> None:
    assert not Sampled.model_validate({"stream_options": given}).wants_usage
    assert Sampled.model_validate({"stream_options": {"include_usage": True}}).wants_usage


@pytest.mark.parametrize("key", ["x", "-1", "1.5", "", "9" * 10, " 5"])
def test_keys_that_are_no_tokens(key: str) -> None:
    with pytest.raises(WireError) as caught:
        token_id(key)
    assert caught.value.param == "logit_bias"
    assert token_id("50256") == 50256
