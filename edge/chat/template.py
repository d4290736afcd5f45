"""From messages to prompt text by the model's own chat template."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from convert.errors import EdgeError
from edge.chat.guard import Segment, choose_mark, guard, split
from edge.chat.sandbox import BoundedEnvironment, BudgetExceededError, budget

MAX_TEMPLATE = 1 << 20  # characters
SPECIAL_TOKENS = {"bos_token": "bos", "eos_token": "eos", "pad_token": "padding", "unk_token": "unknown"}
"""Template variable -> the name in the metadata key of the token's id."""
REASONING = ("reasoning_content", "thinking", "reasoning")
"""What clients call an answer's thoughts. Templates read the first."""

CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
GLM4 = (
    "[gMASK]<sop>{% for message in messages %}<|{{ message.role }}|>\n{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)


class TemplateError(EdgeError):
    """The chat template is broken, is missing, or refuses these messages."""


class ChatTemplate:
    """A compiled Jinja chat template, rendered as Hugging Face's libraries render it.

    ``variables`` are given to every render, such as ``bos_token``. Raises ``TemplateError``, with the
    template's line, when it is not valid Jinja.
    """

    def __init__(self, source: str, variables: Mapping[str, Any] | None = None) -> None:
        if len(source) > MAX_TEMPLATE:
            raise TemplateError(f"the chat template has {len(source)} characters, at most {MAX_TEMPLATE} are sensible")
        self.source = source
        self._variables = dict(variables or {})
        self._template = _compile(source)

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> ChatTemplate:
        """The template of a GGUF, or the known one of its family if the file has none."""
        variables = {}
        tokens = metadata.get("tokenizer.ggml.tokens", [])
        for variable, name in SPECIAL_TOKENS.items():
            token = metadata.get(f"tokenizer.ggml.{name}_token_id")
            if isinstance(token, int) and 0 <= token < len(tokens):
                variables[variable] = tokens[token]
        source = metadata.get("tokenizer.chat_template")
        return cls(source if isinstance(source, str) else _family_template(metadata), variables)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        /,
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> str:
        """The prompt text. ``variables`` are the template's own switches, such as ``enable_thinking``.

        Raises ``TemplateError`` if the template fails, refuses the messages, or will not end, or if there are none.
        """
        _check_messages(messages)
        if tools and "tools" not in self.source:
            raise TemplateError("the model's chat template has no place for tools", "send the messages without tools")
        try:
            given = {
                **self._variables,
                "messages": [_as_templates_expect(message) for message in messages],
                "tools": tools,
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
                **variables,
            }
            with budget():
                return self._template.render(given)
        except Exception as error:  # a template is a program: anything can come out of it
            raise _explain(error) from error

    def render_segments(
        self,
        messages: Sequence[Mapping[str, Any]],
        control_texts: Sequence[str],
        /,
        *,
        tools: Sequence[Any] | None = None,
        add_generation_prompt: bool = True,
        **variables: Any,
    ) -> list[Segment]:
        """The prompt cut into the template's control texts and everything else.

        ``control_texts``: the texts of the model's control tokens. Tokenize each segment by itself,
        with special tokens parsed in markup only: then no text of a message or tool becomes a control
        token. ``edge.chat.guard`` tells how, and what is outside of that promise.
        """
        _check_messages(messages)
        controls = sorted((text for text in control_texts if len(text) > 1), key=len, reverse=True)
        try:
            mark = choose_mark(self.source, list(messages), tools, variables, controls)
            given = guard((list(messages), tools and list(tools), variables), controls, mark)
        except RecursionError:
            raise TemplateError("the messages or tools are nested too deep") from None
        except ValueError as error:
            raise TemplateError(f"the messages cannot be kept apart from the template: {error}") from None
        rendered = self.render(given[0], tools=given[1], add_generation_prompt=add_generation_prompt, **given[2])
        return split(rendered, controls, mark)


def _check_messages(messages: Any) -> None:
    if isinstance(messages, str | Mapping) or not isinstance(messages, Sequence):
        raise TemplateError(f"messages are a list, got {type(messages).__name__}")
    if not messages:
        raise TemplateError("there are no messages to make a prompt of", "send at least one")
    for index, message in enumerate(messages):
        if not isinstance(message, Mapping):
            raise TemplateError(f"a message is a mapping of role and content, messages[{index}] is {message!r:.80}")
        content = message.get("content")
        if not isinstance(content, str | list | tuple | None):
            raise TemplateError(f"the content of messages[{index}] is {type(content).__name__}, not text")


def _as_templates_expect(message: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is None, which templates would print; with thoughts where templates look for them."""
    given = {name: value for name, value in message.items() if value is not None}
    thoughts = [given[name] for name in REASONING if name in given]
    return {**given, REASONING[0]: thoughts[0]} if thoughts else given


@functools.lru_cache(maxsize=16)
def _compile(source: str) -> jinja2.Template:
    try:
        with budget():  # Jinja computes constant expressions here already
            return BoundedEnvironment().from_string(source)
    except Exception as error:  # Jinja hands what it generated to Python's compiler, which has limits too
        raise _explain(error) from error


def _family_template(metadata: Mapping[str, Any]) -> str:
    arch = str(metadata.get("general.architecture", ""))
    if arch.startswith("qwen"):
        return CHATML
    if arch in ("glm4", "chatglm") and metadata.get("tokenizer.ggml.model") == "gpt2":
        return GLM4
    raise TemplateError("the model has no chat template", "it may be a base model, which only continues text")


def _explain(error: Exception) -> TemplateError:
    line = _line(error)
    where = f"chat template line {line}" if line else "chat template"
    if isinstance(error, BudgetExceededError):
        return TemplateError(f"{where}: it makes too much text or does not end", "the model's template is broken")
    if type(error) is jinja2.TemplateError:  # what raise_exception raises
        return TemplateError(f"the chat template refuses these messages: {error}")
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return TemplateError(f"{where}: {reason}", "the model's template is broken, or made for other messages")


def _line(error: Exception) -> int | None:
    if isinstance(error, jinja2.TemplateSyntaxError):
        return error.lineno
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == "<template>"]
    return lines[-1] if lines else None
