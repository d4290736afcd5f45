"""What a caller may ask of one answer, and how it becomes a request to the engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypedDict

from edge.constrain import ConstraintSpec
from edge.engine.types import Constraint, Request
from edge.llama.sampler import Sampling


class Options(TypedDict, total=False):
    """All may be left out.

    ``max_tokens``: by default until the context is full. ``stop``: strings that end the answer and are not in it;
    ``stop_tokens``: ids that do so. ``schema``: a JSON schema (text, or the value) for the answer; ``constraint``: any
    other form, see ``ConstraintSpec``; both begin after the thoughts of a model that thinks. ``thinking_budget``: how
    many tokens it may think. ``logit_bias``: added to the logits of tokens. ``ignore_eos``: the model cannot end the
    answer. ``logprobs``: report that many likeliest tokens with each. ``side``: the request gives way to conversations.

    The rest are fields of ``Sampling``, in place of the model's own.
    """

    max_tokens: int | None
    stop: Sequence[str]
    stop_tokens: Collection[int]
    schema: str | bool | Mapping[str, Any] | None
    constraint: ConstraintSpec | None
    thinking_budget: int | None
    logit_bias: Mapping[int, float]
    ignore_eos: bool
    logprobs: int | None
    side: bool
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repeat_penalty: float
    penalty_last_n: int
    presence_penalty: float
    frequency_penalty: float
    seed: int | None


SAMPLING = frozenset(field.name for field in dataclasses.fields(Sampling))


def check_names(options: Mapping[str, Any]) -> None:
    """Raises TypeError, as Python does, for an option that is none."""
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"there is no option {min(unknown)!r}")


def wanted_form(options: Options) -> ConstraintSpec | None:
    """The form that the answer is to have."""
    schema = options.get("schema")
    return ConstraintSpec("json_schema", schema) if schema is not None else options.get("constraint")


def to_request(
    tokens: Sequence[int], options: Options, advised: Sampling, constraint: Constraint | None = None
) -> Request:
    """``advised``: the model's own sampling. Raises RequestError, SamplingError."""
    sampling = dataclasses.replace(advised, **{name: options[name] for name in SAMPLING & options.keys()})
    return Request(
        tuple(tokens),
        sampling,
        options.get("max_tokens"),
        frozenset(options.get("stop_tokens", ())),
        options.get("logit_bias", {}),
        options.get("ignore_eos", False),
        options.get("logprobs"),
        options.get("side", False),
        constraint,
    )
