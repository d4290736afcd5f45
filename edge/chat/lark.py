"""Pieces of grammars: Lark, as llguidance reads it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

SPACING = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""JSON as chat templates write it."""

ANYTHING = "(?s:.*)"
CLASSES = {"d": "[0-9]", "D": "[^0-9]", "w": "[0-9A-Za-z_]", "W": "[^0-9A-Za-z_]"}
"""What these letters mean in the patterns of JSON schemas; in Lark they mean more, digits of all scripts."""


class Definitions:
    """The rules and terminals of a grammar, whose names come by themselves; the same ones once."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str], str] = {}

    def rule(self, body: str) -> str:
        return self._name("r", body)

    def terminal(self, body: str) -> str:
        return self._name("T", body)

    def text(self) -> str:
        return "".join(f"{name}: {body}\n" for (_, body), name in self._names.items())

    def _name(self, letter: str, body: str) -> str:
        return self._names.setdefault((letter, body), f"{letter}{len(self._names)}")


def literal(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def escaped(text: str) -> str:
    """``text`` inside of a regular expression."""
    return re.sub(r"[\\.^$|?*+()\[\]{}/]", r"\\\g<0>", text).replace("\n", r"\n")


def json_value(schema: Mapping[str, Any], root: Mapping[str, Any]) -> str:
    """JSON that fits ``schema``, a part of ``root``, to whose definitions it may refer."""
    refers = '"$ref"' in json.dumps(schema)
    definitions = {key: root[key] for key in ("$defs", "definitions") if refers and key in root}
    return "%json " + json.dumps({**definitions, **schema, "x-guidance": SPACING})


def raw_text(schema: Mapping[str, Any], tag: str, definitions: Definitions, *, no_json: bool) -> str:
    """A text without quotes that fits a schema for strings, and in which ``tag`` does not occur.

    ``no_json``: nor is it a JSON list or object. A ``format`` is not looked at.
    """
    parts = [f"/{ANYTHING}/", f"~/{ANYTHING}{escaped(tag)}{ANYTHING}/"]
    if no_json:
        parts.append(rf"~/\s*[\[{{]{ANYTHING}/")
    if isinstance(choices := schema.get("enum"), list):
        parts.append(definitions.terminal(" | ".join(literal(choice) for choice in choices)))
    least, most = (bound if type(bound := schema.get(key)) is int else "" for key in ("minLength", "maxLength"))
    if least or most != "":
        parts.append(f"/(?s:.{{{least or 0},{most}}})/")
    if isinstance(pattern := schema.get("pattern"), str):
        parts.append(f"/{searched(pattern)}/")
    return definitions.terminal(" & ".join(parts))


def searched(pattern: str) -> str:
    """A regular expression for whole texts in which the ``pattern`` of a JSON schema is found."""
    before = after = ANYTHING
    if pattern.startswith("^"):
        pattern, before = pattern[1:], ""
    if re.search(r"(?<!\\)(\\\\)*\$\Z", pattern):
        pattern, after = pattern[:-1], ""
    inner = re.sub(r"\\?.", _in_lark, pattern, flags=re.DOTALL)
    return f"{before}(?:{inner}){after}"


def listed(items: Sequence[tuple[str, bool]], separator: str, definitions: Definitions) -> str:
    """Items in their order with separators between them; those that are not required (the second value) may be left
    out."""
    after = first = ""  # once an item was written; while none was
    for item, required in reversed(items):
        begun = f"{item} {after}"
        first = definitions.rule(begun if required else f"{begun} | {first}" if first else f"({begun})?")
        after = definitions.rule(f"{separator} {begun}" if required else f"({separator} {item})? {after}")
    return first


def _in_lark(match: re.Match[str]) -> str:
    text = match[0]
    if text in ("/", "\n"):
        return escaped(text)
    return CLASSES.get(text[1:], text)
