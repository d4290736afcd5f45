"""Values of tool arguments: from a model's JSON or text to the JSON that a program is given."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import unquote

Schemas = Mapping[str, Mapping[str, Any]]
"""Tool name -> parameter name -> JSON schema."""

LONGEST_CHAIN = 16  # references from one to the next
MOST_CHOICES = 100  # whose references are followed
PYTHON_WORDS = {"True": True, "False": False, "None": None}
"""What templates make of these values where they print them without ``tojson``."""


def schemas(tools: Sequence[Any] | None) -> Schemas:
    """The parameters of tools as the OpenAI API takes them, or of bare ``function`` objects; others is left out."""
    known: dict[str, Mapping[str, Any]] = {}
    for tool in tools or ():
        function = mapping(mapping(tool).get("function", tool))
        if isinstance(name := function.get("name"), str) and name:
            root = mapping(function.get("parameters"))
            properties = mapping(resolved(root, root).get("properties"))
            known[name] = {key: resolved(schema, root) for key, schema in properties.items()}
    return known


def resolved(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """``schema`` with what ``$ref`` names in ``root`` in its place, at its top and in the choices that it has there."""
    schema = _followed(schema, root)
    for several in ("anyOf", "oneOf"):
        options = schema.get(several)
        if isinstance(options, list) and len(options) <= MOST_CHOICES:
            schema = {**schema, several: [_followed(option, root) for option in options]}
    return schema


def typed(text: str, schema: Any) -> Any:
    """The value that an untyped text stands for.

    Where the schema allows a string, the text is one, unless the schema allows other types as well and it is JSON of
    such a type. Without a schema it is JSON, if it can be, but not a quoted string. Text that is not of an allowed
    type stays text.
    """
    allowed = types(schema)
    if allowed == {"string"}:
        return text
    if text in PYTHON_WORDS and _fits(PYTHON_WORDS[text], allowed or set()):
        return PYTHON_WORDS[text]
    try:
        value = from_json(text)
    except (ValueError, RecursionError):
        return text
    return value if not isinstance(value, str) and (allowed is None or _fits(value, allowed)) else text


def from_json(text: str, *, strict: bool = False) -> Any:
    """Raises ``ValueError`` or ``RecursionError`` where it is not JSON, also for the infinities that Python allows.

    ``strict``: newlines in strings must be escaped.
    """
    return (STRICT if strict else DECODER).decode(text)


def to_json(value: Any) -> str:
    """The text of JSON, as models are shown it. Raises ``ValueError``, ``TypeError``, ``RecursionError``."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    return text if is_unicode(text) else json.dumps(value, allow_nan=False)


def as_written(arguments: str, value: Any) -> str:
    """The model's own text where it is strict JSON: given back in the history, it makes the same tokens."""
    if not isinstance(value, dict):
        raise ValueError("the arguments are no JSON object")
    try:
        from_json(arguments, strict=True)
    except ValueError:
        return to_json(value)
    return arguments.strip()


def is_unicode(text: str) -> bool:
    """No half of a surrogate pair is in it: JSON may escape one, but UTF-8 has none."""
    return not any("\ud800" <= character <= "\udfff" for character in text)


def _finite(text: str) -> float:
    if not math.isfinite(value := float(text)):
        raise ValueError(f"{text} is not a JSON number")
    return value


STRICT = json.JSONDecoder(parse_constant=_finite, parse_float=_finite)
# Small models write newlines into strings as they are. Their meaning is clear.
DECODER = json.JSONDecoder(strict=False, parse_constant=_finite, parse_float=_finite)


def types(schema: Any) -> set[str] | None:
    """The JSON types that a schema allows; None: it does not tell."""
    schema = mapping(schema)
    for several in ("anyOf", "oneOf"):
        if isinstance(options := schema.get(several), list):
            found = [types(option) for option in options]
            return None if None in found or not found else set().union(*(given for given in found if given))
    given = schema.get("type")
    if isinstance(given, str):
        return {given}
    if isinstance(given, list):
        return {name for name in given if isinstance(name, str)}
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    if isinstance(values, list) and values:
        return {_type(value) for value in values}
    return None


def _type(value: Any) -> str:
    names = {str: "string", bool: "boolean", int: "integer", float: "number", list: "array", dict: "object"}
    return names.get(type(value), "null")


def _followed(schema: Any, root: Mapping[str, Any]) -> Mapping[str, Any]:
    schema = mapping(schema)
    for _ in range(LONGEST_CHAIN):
        if not isinstance(reference := schema.get("$ref"), str):
            break
        schema = {**_target(reference, root), **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


def _target(reference: str, root: Mapping[str, Any]) -> Mapping[str, Any]:
    """What ``#/$defs/name`` is; nothing if it is not there, or outside of the schema."""
    if not reference.startswith("#"):
        return {}
    found: Any = root
    for part in reference.split("/")[1:]:
        found = mapping(found).get(unquote(part).replace("~1", "/").replace("~0", "~"))
    return mapping(found)


def _fits(value: Any, types: set[str]) -> bool:
    match value:
        case bool():
            return "boolean" in types
        case int():
            return bool(types & {"integer", "number"})
        case float():
            return "number" in types or ("integer" in types and value.is_integer())
        case None:
            return "null" in types
        case list():
            return "array" in types
        case dict():
            return "object" in types
    return False


def mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
