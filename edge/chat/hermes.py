"""Tool calls of Qwen2.5 and Qwen3: ``<tool_call>\\n{"name": "f", "arguments": {...}}\\n</tool_call>``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from edge.chat.calls import Found, NotACallError
from edge.chat.json_text import first_object, members
from edge.chat.lark import Definitions, json_value, literal
from edge.chat.output import Call
from edge.chat.values import as_written, from_json, is_unicode
from edge.chat.written import Function, Written

OPEN, CLOSE = "<tool_call>", "</tool_call>"


class Hermes:
    """No arguments may be written as none at all or null; JSON in a string, as some fine-tunes write it, is read."""

    openings: tuple[str, ...] = (OPEN,)
    closing = CLOSE
    own_line = False

    def read(self, text: str, *, ended: bool) -> Found | None:
        # In JSON a newline in a string is escaped: this tag is none of the values'.
        body, closed, _ = text[len(OPEN) :].partition("\n" + CLOSE)
        found = first_object(body, whole=bool(closed))
        if found is None:
            return None
        start, end = found
        return Found(_call(body[start:end]), len(OPEN) + end)

    def written(self, function: Function, definitions: Definitions) -> Sequence[Written]:
        before = literal('\n{"name": ' + json.dumps(function.name, ensure_ascii=False) + ', "arguments": ')
        arguments = definitions.rule(json_value(function.parameters, function.parameters))
        return [Written(OPEN, f"{before} {arguments} " + literal("}\n" + CLOSE))]


def _call(text: str) -> Call:
    try:
        given = members(text)
        name = from_json(given.get("name", "null"))
        arguments = given.get("arguments", "{}")
        value: Any = from_json(arguments)
        if isinstance(value, str):
            arguments = value
            value = from_json(value)
        if value is None:
            arguments, value = "{}", {}
        return Call(_valid_name(name), as_written(arguments, value))
    except (ValueError, RecursionError) as error:
        raise NotACallError from error


def _valid_name(name: Any) -> str:
    if not isinstance(name, str) or not name or not is_unicode(name):
        raise ValueError("a call needs a name")
    return name
