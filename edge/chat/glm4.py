"""Tool calls of GLM-4-9B and GLM-4-0414: a line with the name, then the arguments: ``f\\n{"city": "Oslo"}``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from edge.chat.calls import Found, NotACallError
from edge.chat.json_text import first_object
from edge.chat.lark import Definitions, json_value
from edge.chat.output import Call
from edge.chat.values import as_written, from_json
from edge.chat.written import Function, NotWritableError, Written


class Glm4:
    """There are no tags: a line is a name only if a tool is called so. Several calls follow each other."""

    closing = ""
    own_line = True

    def __init__(self, names: Iterable[str]) -> None:
        self.openings: tuple[str, ...] = tuple(f"{name}\n{{" for name in names)

    def read(self, text: str, *, ended: bool) -> Found | None:
        name, _, rest = text.partition("\n")
        found = first_object(rest, whole=False)
        if found is None:
            return None
        arguments = rest[: found[1]]
        try:
            return Found(Call(name, as_written(arguments, from_json(arguments))), len(name) + 1 + len(arguments))
        except (ValueError, RecursionError) as error:
            raise NotACallError from error

    def written(self, function: Function, definitions: Definitions) -> Sequence[Written]:
        name = function.name
        if "\n" in name or name != name.strip() or name.startswith("{"):
            raise NotWritableError("its name is no line of text")
        return [Written(f"{name}\n", definitions.rule(json_value(function.parameters, function.parameters)), first="{")]
