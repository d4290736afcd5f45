"""From messages to the tokens of a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from edge.chat.template import ChatTemplate
from edge.llama.model import Model


def prompt_tokens(
    model: Model,
    messages: Sequence[Mapping[str, Any]],
    *,
    tools: Sequence[Any] | None = None,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> list[int]:
    """Messages -> token ids by the model's chat template; only the template can make control tokens.

    Raises ``TemplateError``.
    """
    segments = ChatTemplate.from_metadata(model.metadata).render_segments(
        messages, model.control_texts, tools=tools, add_generation_prompt=add_generation_prompt, **variables
    )
    return [token for segment in segments for token in model.tokenize(segment.text, parse_special=segment.is_markup)]
