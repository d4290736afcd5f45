"""Which format a model's answers have: told by its chat template, which was written for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from edge.chat.calls import CallFormat, CallParser
from edge.chat.chatglm3 import ChatGlm3
from edge.chat.glm4 import Glm4
from edge.chat.glm4_5 import Glm45
from edge.chat.hermes import Hermes
from edge.chat.output import Parser, PlainParser
from edge.chat.qwen3_coder import Qwen3Coder
from edge.chat.thinking import AROUND, OPEN, ThinkingParser, ends_inside_thoughts
from edge.chat.values import Schemas, schemas


@dataclass(frozen=True)
class Family:
    """``pattern`` is found in the chat templates of the family, ``arch`` begins with the given letters.

    ``trimmed``: characters before an answer without thoughts that belong to the format.
    """

    arch: str
    pattern: str
    calls: Callable[[Schemas], CallFormat]
    trimmed: str = ""


# The first that fits. GLM-4 and ChatGLM3 have published templates without tools, so that these tell nothing of calls.
FAMILIES = (
    Family("", "<arg_key>", Glm45, AROUND),
    Family("", "<function=", Qwen3Coder),
    Family("", "<tool_call>", lambda _: Hermes()),
    Family("chatglm", r"""(\}|\\n|\n) \{\{-? *message(\.|\[')content""", ChatGlm3, "\n "),
    Family("chatglm", r"\[gMASK\]", Glm4, "\n "),
    Family("glm4", r"\[gMASK\]", Glm4, AROUND),
)


@dataclass(frozen=True)
class OutputFormat:
    """How to read a model's answers. ``calls``: None if no tools are offered, or the family is not known to call."""

    thinks: bool = False
    trimmed: str = ""
    calls: CallFormat | None = None

    def parser(self, prompt: str = "") -> Parser:
        """For one answer to the rendered ``prompt``, whose end tells whether the thoughts have begun."""
        inside = ends_inside_thoughts(prompt)
        content = CallParser(self.calls) if self.calls else PlainParser()
        return ThinkingParser(content, thinks=self.thinks, inside=inside, trimmed=self.trimmed)


def format_for(template: str | None, arch: str, tools: Sequence[Any] | None) -> OutputFormat:
    """The format of a model with this chat template and ``general.architecture``, offered these tools.

    A model that was offered no tools makes no calls: what looks like one is content.
    """
    template = template or ""
    thinks = OPEN in template
    for family in FAMILIES:
        if arch.startswith(family.arch) and re.search(family.pattern, template):
            calls = family.calls(schemas(tools)) if tools else None
            return OutputFormat(thinks, family.trimmed, calls)
    return OutputFormat(thinks)
