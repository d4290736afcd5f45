"""From messages to a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge.chat.template import ChatTemplate
from edge.llama.model import Model


def render_prompt(
    model: Model,
    messages: Sequence[Mapping[str, Any]],
    /,
    *,
    tools: Sequence[Any] | None = None,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> tuple[str, list[int]]:
    """Messages -> text and token ids by the model's chat template; only the template can make control tokens.

    Raises TemplateError.
    """
    segments = ChatTemplate.from_metadata(model.metadata).render_segments(
        messages, model.control_texts, tools=tools, add_generation_prompt=add_generation_prompt, **variables
    )
    tokens = [token for one in segments for token in model.tokenize(one.text, parse_special=one.is_markup)]
    return "".join(one.text for one in segments), tokens


def prompt_tokens(model: Model, messages: Sequence[Mapping[str, Any]], /, **variables: Any) -> list[int]:
    """As ``render_prompt``, without the text."""
    return render_prompt(model, messages, **variables)[1]
