"""Tool calls of GLM-4.5, 4.6 and 4.7, with newlines between the tags or without::

<tool_call>f
<arg_key>city</arg_key>
<arg_value>Oslo</arg_value>
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

OPEN, KEY, CLOSE = "<tool_call>", "<arg_key>", "</tool_call>"
LINE = r'"\n"?'  # in Lark: 4.5 and 4.6 write line breaks between the tags, 4.7 does not
LONGEST_NAME = 256  # characters
NAME = re.compile(rf"[^\s<]{{1,{LONGEST_NAME}}}")
HEAD = re.compile(rf"<tool_call>\s*([^\s<]{{1,{LONGEST_NAME}}})(?=[\s<])")
UNDECIDED = re.compile(rf"<tool_call>\s*[^\s<]{{0,{LONGEST_NAME}}}")
# A value may hold tags of its own: it ends where this format goes on.
PAIR = re.compile(
    r"\s*<arg_key>(?P<key>[^<]*)</arg_key>\s*<arg_value>(?P<value>.*?)</arg_value>(?=\s*(?:<arg_key>|</tool_call>))",
    re.DOTALL,
)
LAST_PAIR = re.compile(PAIR.pattern.replace(CLOSE, CLOSE + r"|\Z"), re.DOTALL)


class Glm45:
    openings: tuple[str, ...] = (OPEN,)
    closing = ""  # nothing but its tag tells that a call is whole
    own_line = False

    def __init__(self, schemas: Schemas) -> None:
        self._schemas = schemas

    def read(self, text: str, *, ended: bool) -> Found | None:
        head = HEAD.match(text)
        if not head:
            if UNDECIDED.fullmatch(text) and not ended:
                return None
            raise NotACallError
        pairs, at = read_pairs(text, head.end(), LAST_PAIR if ended else PAIR)
        rest = text[at:].lstrip()
        size = len(text) - len(rest)
        if rest.startswith(CLOSE):
            size += len(CLOSE)
        elif not (ended and not rest):
            if may_become(rest, [KEY, CLOSE]):
                return None
            raise NotACallError
        return Found(call(head[1], pairs, self._schemas.get(head[1], {})), size)

    def written(self, function: Function, definitions: Definitions) -> Sequence[Written]:
        name = function.name
        if not NAME.fullmatch(name):
            raise NotWritableError("its name has white space or <, or is too long")
        pairs = [_pair(parameter, function, definitions) for parameter in parameters(function)]
        return [Written(OPEN, " ".join([literal(name), LINE, *pairs, literal(CLOSE)]))]


def _pair(parameter: Parameter, function: Function, definitions: Definitions) -> str:
    if "<" in parameter.name:
        raise NotWritableError(f"its parameter {parameter.name!r:.80} has < in its name")
    key = literal(f"{KEY}{parameter.name}</arg_key>")
    value = tagged_value(parameter, function, "</arg_value>", definitions)
    pair = definitions.rule(f"{key} {LINE} {literal('<arg_value>')} {value} {LINE}")
    return pair if parameter.required else f"{pair}?"
