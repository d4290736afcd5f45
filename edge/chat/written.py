"""How a call of a function is written: what the formats say to constrain a model to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edge.chat.lark import Definitions, json_value, literal, raw_text
from edge.chat.values import is_unicode, mapping, resolved, types

COMBINED = frozenset({"allOf", "anyOf", "oneOf", "not", "if"})
"""Keywords that say more about an object than which properties it has."""


class NotWritableError(Exception):
    """A format has no way to write such a call."""


@dataclass(frozen=True)
class Function:
    """``parameters``: the JSON schema of its arguments, an object."""

    name: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True)
class Written:
    """A way to write a call: the text that opens it, and the rest, a piece of Lark.

    ``first``: the opening alone does not make a call, but this character after it, with which the rest begins.
    """

    opening: str
    rest: str
    first: str = ""


@dataclass(frozen=True)
class Parameter:
    """``schema`` without a reference at its top."""

    name: str
    schema: Mapping[str, Any]
    required: bool


def parameters(function: Function) -> list[Parameter]:
    """What formats that write each argument by itself can write, in the order of the schema."""
    schema = function.parameters
    if joined := COMBINED & schema.keys():
        raise NotWritableError(f"its parameters have {min(joined)} at the top, which cannot be constrained")
    properties, required = mapping(schema.get("properties")), schema.get("required")
    required = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    needed = set(required)
    if not all(is_unicode(name) for name in (*properties, *required)):
        raise NotWritableError("the name of a parameter is no text")
    return [
        Parameter(name, resolved(properties.get(name), schema), name in needed)
        for name in dict.fromkeys([*properties, *required])
    ]


def tagged_value(parameter: Parameter, function: Function, closing: str, definitions: Definitions) -> str:
    """A value as ``values.typed`` reads it, text or JSON, and the ``closing`` tag, which no text has."""
    texts, other = parted(parameter.schema)
    no_json = bool({"array", "object"} & ((other is not None and types(other)) or set()))
    ways = []
    for text in texts:
        raw = raw_text(text, closing.strip(), definitions, no_json=no_json)
        ways.append(definitions.terminal(f"{raw} {literal(closing)}"))
    if other is not None:
        ways.append(f"{definitions.rule(json_value(other, function.parameters))} {literal(closing)}")
    return definitions.rule(" | ".join(ways))


def parted(schema: Mapping[str, Any]) -> tuple[list[Mapping[str, Any]], Mapping[str, Any] | None]:
    """Schemas for what is written as text, and one for what is written as JSON."""
    kinds = types(schema)
    if kinds is None:
        return [{}], None
    if "string" not in kinds:
        return [], schema
    for several in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(several), list):
            parts = [parted(mapping(option)) for option in options]
            others = [other for _, other in parts if other is not None]
            return [text for texts, _ in parts for text in texts], {"anyOf": others} if others else None
    others = sorted(kinds - {"string"})
    choices = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(choices, list):
        texts = [choice for choice in choices if isinstance(choice, str) and is_unicode(choice)]
        rest = [choice for choice in choices if not isinstance(choice, str)] if others else []
        return [{**schema, "enum": texts}] if texts else [], {"enum": rest} if rest else None
    return [schema], {**schema, "type": others} if others else None
