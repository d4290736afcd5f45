"""A JSON schema that somebody sent: its bounds before the grammar library sees it, and where it is wrong."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

from convert.errors import EdgeError

MAX_BYTES = 256 * 1024
MAX_DEPTH = 64
MAX_VALUES = 10_000
"""Values of any kind in the schema. References can chain as many subschemas, and each takes stack of the library."""
MAX_PROPERTIES = 1000
"""Properties of one object: compiling takes time by their square, 0.2 s for these."""
MAX_KEY_PATTERNS = 50
MAX_COMBINED_PATTERNS = 8
"""Regular expressions that a string may have to match at once: twenty plain ones take gigabytes and minutes."""

FAULT_SECONDS = 1.0
"""The longest search for the place of a fault; a longer one stops at the level it has reached."""

NAMED = ("$defs", "definitions", "properties", "patternProperties")  # keyword -> name -> schema
LISTED = ("allOf", "anyOf", "oneOf", "prefixItems", "items")  # keyword -> list of schemas
SINGLE = ("items", "additionalProperties")
JOINED = frozenset({"$ref", "anyOf", "oneOf"})  # with one of these, and beside it one of the following, both hold
BESIDE = frozenset({"pattern", "format", "items", "prefixItems", *NAMED[2:], "additionalProperties"})

ROOT_ID = "urn:schema"

PLAIN_WORDS = (
    (r"Unimplemented keys: \[(.*)\]", r"not supported: \1"),
    (r"Invalid type: (.*)", r'there is no type "\1"'),
    (r"Resource '(.*)' is not present in a registry.*", r"\1 is outside the schema, and nothing is fetched"),
    (r"Pointer '(.*)' does not exist", r"there is nothing at #\1"),
    (r"oneOf constraints are not supported.*", "the alternatives of oneOf overlap, or may; use anyOf"),
    (r"NoExtension.*", "no text can satisfy it"),
    (r"panic: .*|schema too large.*|Schema intersection stack level.*", "too large when it is written out"),
    (r"Unable to determine if regex is empty.*", "the patterns for one string are too complex together"),
)
"""What llguidance says, and what a person can read; the rest of its messages are plain."""

Path = tuple[str | int, ...]


class ConstraintError(EdgeError):
    """The output cannot be constrained as asked, or can no longer be."""


def check(schema: Any) -> None:
    """Raise ``ConstraintError`` for a schema that is too large, too deep or too tangled to compile safely."""
    values = patterns = 0
    combined = False
    rest: list[tuple[Any, Path]] = [(schema, ())]
    while rest:
        value, path = rest.pop()
        values += 1
        if values > MAX_VALUES:
            raise ConstraintError(f"the schema has more than {MAX_VALUES} values", "use a smaller one")
        if len(path) > MAX_DEPTH:
            raise ConstraintError(f"the schema is nested more than {MAX_DEPTH} levels deep", "use $ref and $defs")
        if isinstance(value, Mapping):
            for keyword, most in (("properties", MAX_PROPERTIES), ("patternProperties", MAX_KEY_PATTERNS)):
                if isinstance(value.get(keyword), Mapping) and len(value[keyword]) > most:
                    raise ConstraintError(
                        f"the schema at {path_text((*path, keyword))} has {len(value[keyword])} entries, at most {most}"
                    )
            patterns += isinstance(value.get("pattern"), str)
            joined = JOINED & value.keys()
            combined |= "allOf" in value or len(joined) > 1 or bool(joined and BESIDE & value.keys())
            rest.extend((child, (*path, key)) for key, child in value.items())
        elif isinstance(value, list | tuple):
            rest.extend((child, (*path, i)) for i, child in enumerate(value))
    if combined and patterns > MAX_COMBINED_PATTERNS:
        raise ConstraintError(
            f"the schema joins schemas (allOf, or keywords beside $ref, anyOf, oneOf) with {patterns} patterns",
            f"such a schema has at most {MAX_COMBINED_PATTERNS}",
        )


def parse(source: Any) -> Any:
    """The schema in ``source``, JSON text or what JSON text stands for, checked.

    ``x-guidance``, by which a schema can give orders to the library, is left out.
    """
    if isinstance(source, str):
        if len(source) > MAX_BYTES:
            raise ConstraintError(f"the schema has {len(source)} bytes, at most {MAX_BYTES}")
        try:
            source = json.loads(source)
        except RecursionError:
            raise ConstraintError(f"the schema is nested more than {MAX_DEPTH} levels deep") from None
        except ValueError as error:
            raise ConstraintError(f"the schema is not JSON: {error}") from None
    check(source)
    if source is True:
        return {}
    if not isinstance(source, Mapping):
        raise ConstraintError("the schema is refused at $: a schema is an object, or true")
    return {key: value for key, value in source.items() if key != "x-guidance"}


def dump(schema: Any) -> str:
    """JSON text of a checked schema."""
    try:
        text = json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConstraintError(f"the schema is not JSON: {error}") from None
    if len(text) > MAX_BYTES:
        raise ConstraintError(f"the schema has {len(text)} bytes, at most {MAX_BYTES}")
    return text


def fault(schema: Any, complaint: str, complain: Callable[[Any], str]) -> str:
    """``$.properties.age.type: there is no type "intt"``: the place and the fault, for a person.

    ``complaint``: what the library says of ``schema``. ``complain`` asks it about another schema; the
    answer is empty if that is good. The place is found by asking about the parts, by halves: the smallest
    one of which the library says the same, then the keyword without which it does not.
    """
    deadline = time.monotonic() + FAULT_SECONDS
    reason = plain(complaint)

    def same(document: Any) -> bool:
        return time.monotonic() < deadline and plain(complain(document)) == reason

    path: Path = ()
    parts = list(_subschemas(schema, path))
    while parts:
        halves = parts[: (len(parts) + 1) // 2], parts[(len(parts) + 1) // 2 :]
        parts = next((half for half in halves if half and same(_parts(schema, half))), [])
        if len(parts) == 1:
            path = parts[0]
            parts = list(_subschemas(schema, path))
    found = _at(schema, path)
    if isinstance(found, dict):
        # Without its type the other keywords of a schema mean less: try that last.
        for keyword in sorted(found, key=lambda key: key == "type"):
            without = {key: value for key, value in found.items() if key != keyword}
            if time.monotonic() < deadline and not same(_parts(_replaced(schema, path, without), [path])):
                path = (*path, keyword)
                break
    return f"{path_text(path)}: {reason}"


def plain(complaint: str) -> str:
    """One line for a person out of a message of llguidance."""
    if "regex parse error" in complaint and "\nerror: " in complaint:
        return "bad regular expression: " + complaint.split("\nerror: ")[1].split("\n")[0]
    line = complaint.split("\n")[0]
    for pattern, words in PLAIN_WORDS:
        if match := re.match(pattern, line):
            line = match.expand(words)
            break
    return line if len(line) <= 200 else line[:200] + "..."


def path_text(path: Path) -> str:
    """``("properties", "a b", "anyOf", 0)`` as ``$.properties["a b"].anyOf[0]``."""
    text = "$"
    for key in path:
        if isinstance(key, str) and key.lstrip("$").isidentifier():
            text += f".{key}"
        else:
            text += f"[{json.dumps(key, ensure_ascii=False)}]"
    return text


def _subschemas(schema: Any, path: Path) -> Iterator[Path]:
    """Paths of the schemas directly inside the one at ``path``; definitions first, where faults of $ref are."""
    found = _at(schema, path)
    if not isinstance(found, dict):
        return
    for keyword in NAMED:
        if isinstance(found.get(keyword), dict):
            yield from ((*path, keyword, name) for name in found[keyword])
    for keyword in LISTED:
        if isinstance(found.get(keyword), list):
            yield from ((*path, keyword, i) for i in range(len(found[keyword])))
    yield from ((*path, keyword) for keyword in SINGLE if isinstance(found.get(keyword), dict))


def _parts(schema: Any, paths: list[Path]) -> Any:
    """A schema with the faults of the parts at ``paths``, where the references of the whole are still good."""
    if paths == [()]:
        return schema
    root = {"$id": ROOT_ID, **schema}
    pointers = ("".join("/" + quote(str(key).replace("~", "~0").replace("/", "~1")) for key in path) for path in paths)
    refs = [{"$ref": f"{root['$id']}#{pointer}"} for pointer in pointers]
    # Alone the part is the whole document, and a part that nothing can satisfy is seen too.
    document = refs[0] if len(refs) == 1 else {"properties": {str(i): ref for i, ref in enumerate(refs)}}
    return {"$defs": {"root": root}, **document}


def _at(schema: Any, path: Path) -> Any:
    for key in path:
        schema = schema[key]
    return schema


def _replaced(schema: Any, path: Path, value: Any) -> Any:
    if not path:
        return value
    copy = list(schema) if isinstance(schema, list) else dict(schema)
    copy[path[0]] = _replaced(copy[path[0]], path[1:], value)  # type: ignore[index]
    return copy
