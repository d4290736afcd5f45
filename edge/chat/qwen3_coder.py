"""Tool calls of Qwen3-Coder and Qwen3.5::

<tool_call>
<function=f>
<parameter=city>
Oslo
</parameter>
</function>
</tool_call>
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from edge.chat.calls import Found, NotACallError
from edge.chat.lark import Definitions, literal
from edge.chat.values import Schemas
from edge.chat.written import Function, NotWritableError, Parameter, Written, parameters, tagged_value
from edge.chat.xml_text import call, may_become, read_pairs

OPEN, FUNCTION, CLOSE_FUNCTION, CLOSE = "<tool_call>", "<function=", "</function>", "</tool_call>"
PARAMETER = "<parameter="
LONGEST_NAME = 256  # characters
NAME = re.compile(rf"[^<>\n]{{1,{LONGEST_NAME}}}")
HEAD = re.compile(rf"(?:<tool_call>\s*)?<function=([^<>\n]{{1,{LONGEST_NAME}}})>")
UNDECIDED = re.compile(rf"(?:<tool_call>\s*)?<function=[^<>\n]{{0,{LONGEST_NAME}}}")
# A value may hold tags of its own: it ends where this format goes on.
PAIR = re.compile(
    rf"\s*<parameter=(?P<key>[^<>\n]{{1,{LONGEST_NAME}}})>\n?(?P<value>.*?)\n?</parameter>"
    r"(?=\s*(?:<parameter=|</function>))",
    re.DOTALL,
)
LAST_PAIR = re.compile(PAIR.pattern.replace("</function>", rf"</function>|\Z|{CLOSE}"), re.DOTALL)


class Qwen3Coder:
    """The model leaves ``<tool_call>`` out at times: ``<function=`` is enough."""

    openings: tuple[str, ...] = (OPEN, FUNCTION)
    closing = CLOSE
    own_line = False

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas

    def read(self, text: str, *, ended: bool) -> Found | None:
        head = HEAD.match(text)
        if not head:
            if UNDECIDED.fullmatch(text) or FUNCTION.startswith(text.removeprefix(OPEN).lstrip()):
                return None
            raise NotACallError
        name = head[1].strip()
        pairs, at = read_pairs(text, head.end(), LAST_PAIR if ended else PAIR)
        rest = text[at:].lstrip()
        size = len(text) - len(rest)
        if rest.startswith(CLOSE_FUNCTION):
            size += len(CLOSE_FUNCTION)
        elif not (ended and (not rest or rest.startswith(CLOSE))):
            if may_become(rest, [PARAMETER, CLOSE_FUNCTION]):
                return None
            raise NotACallError
        return Found(call(name, pairs, self._schemas.get(name, {})), size)

    def written(self, function: Function, definitions: Definitions) -> Sequence[Written]:
        name = function.name
        if not NAME.fullmatch(name) or name != name.strip():
            raise NotWritableError("its name has line breaks, < or >, or is too long")
        inner = [_parameter(parameter, function, definitions) for parameter in parameters(function)]
        rest = definitions.rule(" ".join([*inner, literal(f"{CLOSE_FUNCTION}\n{CLOSE}")]))
        return [
            Written(OPEN, literal(f"\n{FUNCTION}{name}>\n") + f" {rest}"),
            Written(FUNCTION, literal(f"{name}>\n") + f" {rest}"),
        ]


def _parameter(parameter: Parameter, function: Function, definitions: Definitions) -> str:
    if not NAME.fullmatch(parameter.name):
        raise NotWritableError(f"its parameter {parameter.name!r:.80} has line breaks, < or >, or is too long")
    head = literal(f"{PARAMETER}{parameter.name}>\n")
    value = tagged_value(parameter, function, "\n</parameter>", definitions)
    whole = definitions.rule(f"{head} {value} " + literal("\n"))
    return whole if parameter.required else f"{whole}?"
