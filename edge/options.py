"""What a caller may ask of one answer, and how it becomes a request to the engine."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from typing import Any, TypedDict

from edge.constrain import ConstraintSpec
from edge.engine.types import Constraint, Request, RequestError
from edge.llama.sampler import Sampling


class Options(TypedDict, total=False):
    """All may be left out.

    ``max_tokens``: by default until the context is full. ``stop``: text, or several, that ends the answer and is not in
    it; ``stop_tokens``: ids that do so. ``schema``: a JSON schema (text, or the value) for the answer; ``constraint``:
    any other form, see ``ConstraintSpec``; both begin after the thoughts of a model that thinks. ``thinking_budget``:
    how many tokens it may think. ``logit_bias``: added to the logits of tokens. ``ignore_eos``: the model cannot end
    the answer. ``logprobs``: report that many likeliest tokens with each. ``side``: the request gives way to
    conversations. ``client``: who asks; each gets slots in turn.

    The rest are fields of ``Sampling``, in place of the model's own.
    """

    max_tokens: int | None
    stop: str | Sequence[str] | None
    stop_tokens: Collection[int]
    schema: str | bool | Mapping[str, Any] | None
    constraint: ConstraintSpec | None
    thinking_budget: int | None
    logit_bias: Mapping[int, float]
    ignore_eos: bool
    logprobs: int | None
    side: bool
    client: str
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


def check(options: Options) -> None:
    """Raises TypeError, as Python does, for an option that is none; RequestError for what contradicts itself."""
    if unknown := options.keys() - Options.__annotations__.keys():
        raise TypeError(f"there is no option {min(unknown)!r}")
    budget = options.get("thinking_budget")
    if budget is not None and (type(budget) is not int or budget < 0):
        raise RequestError(f"thinking_budget is a whole number, 0 or more, got {budget!r}")
    if wanted_form(options) and options.get("ignore_eos"):
        raise RequestError("an answer of a wanted form ends by itself", "leave ignore_eos out")


def stop_strings(options: Options) -> Sequence[str]:
    stop = options.get("stop")
    return () if stop is None else (stop,) if isinstance(stop, str) else stop


def wanted_form(options: Options) -> ConstraintSpec | None:
    """The form that the answer is to have. Raises RequestError."""
    schema, constraint = options.get("schema"), options.get("constraint")
    if constraint is not None and not isinstance(constraint, ConstraintSpec):
        raise RequestError(f"constraint is a ConstraintSpec, got {constraint!r}")
    return ConstraintSpec("json_schema", schema) if schema is not None else constraint


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
        options.get("client", ""),
    )
