"""From what a caller asks to a request that the engine takes, and the parser that reads its answer."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from edge.chat.formats import format_for
from edge.chat.output import Parser, PlainParser
from edge.chat.thinking import CLOSE, OPEN, ends_inside_thoughts
from edge.constrain import Grammars
from edge.engine.types import Constraint, Request
from edge.forced_calls import spec_for_calls
from edge.llama.model import Model
from edge.llama.sampler import Sampling
from edge.options import Options, check, stop_strings, to_request, wanted_form
from edge.prompt import render_prompt
from edge.thinking_budget import CLOSING, ThinkingBudget


@dataclass(frozen=True)
class Prepared:
    """A request that was not sent yet, and what reads one answer to it. Good for one answer."""

    request: Request
    parser: Parser
    stops: Sequence[str]


def prepare_text(
    model: Model, grammars: Grammars, advised: Sampling, prompt: str | Sequence[int], options: Options
) -> Prepared:
    """To continue a text, or tokens, as they are. Raises RequestError, SamplingError, ConstraintError."""
    check(options)
    tokens = model.tokenize(prompt, add_special=True) if isinstance(prompt, str) else prompt
    spec = wanted_form(options)
    constraint = grammars.compile(spec) if spec else None
    return Prepared(to_request(tokens, options, advised, constraint), PlainParser(), stop_strings(options))


def prepare_chat(
    model: Model,
    grammars: Grammars,
    advised: Sampling,
    messages: Sequence[Mapping[str, Any]],
    tools: Sequence[Any] | None,
    choice: str,
    parallel: bool,
    variables: Mapping[str, Any],
    options: Options,
) -> Prepared:
    """To answer a conversation. ``choice`` and ``parallel``: as ``spec_for_calls`` has them. Raises TemplateError,
    RequestError, SamplingError, ConstraintError."""
    check(options)
    tools = None if choice == "none" else tools
    prompt, tokens = render_prompt(model, messages, tools=tools, **variables)
    output = format_for(model.chat_template, model.arch, tools)
    thinks = output.thinks and not prompt.rstrip().endswith(CLOSE)
    form = wanted_form(options)
    must_call = choice not in ("auto", "none")
    spec = form if form and not must_call else spec_for_calls(output.calls, tools, choice, parallel)
    if spec and (form or must_call) and thinks and not ends_inside_thoughts(prompt):
        # What the model would write first; without it a model that does not think would never be constrained.
        prompt += OPEN
        tokens += model.tokenize(OPEN, parse_special=True)
    inside = ends_inside_thoughts(prompt)
    constraint: Constraint | None = None
    if spec:  # thoughts that the answer begins with are free
        constraint = grammars.compile(dataclasses.replace(spec, after_thinking=inside))
    if (budget := options.get("thinking_budget")) is not None and (thinks or inside):
        closing = model.tokenize(CLOSING, parse_special=True)
        constraint = ThinkingBudget(
            budget, closing, partial(model.token_bytes, special=True), inside=inside, inner=constraint
        )
    return Prepared(to_request(tokens, options, advised, constraint), output.parser(prompt), stop_strings(options))
