"""Tool calls that must come, or must be right when they come: the constraint for an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge import json_schema
from edge.chat.calls import CallFormat
from edge.chat.forced import calls_in_text, only_calls
from edge.chat.lark import Definitions
from edge.chat.values import is_unicode, mapping, resolved
from edge.chat.written import COMBINED, Function, NotWritableError
from edge.constrain import ConstraintSpec
from edge.json_schema import ConstraintError

NO_PARAMETERS = {"type": "object", "properties": {}}


@dataclass(frozen=True)
class Tool:
    name: str
    parameters: Any
    strict: bool


def spec_for_calls(
    calls: CallFormat | None, tools: Sequence[Any] | None, choice: str = "auto", parallel: bool = True
) -> ConstraintSpec | None:
    """``choice``: auto, none, required, or the name of the one function to call; ``parallel``: several calls may come.

    With ``auto`` the calls are free, but for the arguments of functions whose ``strict`` is true. ``tools``: as the
    OpenAI API takes them, or bare ``function`` objects. None: nothing is constrained. Raises ConstraintError.
    """
    offered = list(_tools(tools or ()))
    if choice == "none" or (choice == "auto" and (calls is None or not offered)):
        return None
    if calls and choice == "auto":
        return _right_calls(calls, offered, parallel)
    wanted = offered if choice == "required" else [tool for tool in offered if tool.name == choice]
    if not wanted:
        raise ConstraintError("there are no functions" if choice == "required" else f"no function is {choice!r:.80}")
    if calls is None:
        raise ConstraintError("this model is not known to call functions", "leave tool_choice out")
    functions = [_checked(calls, tool) for tool in wanted]
    return _spec(only_calls(calls, functions, parallel=parallel), functions)


def _right_calls(calls: CallFormat, offered: Sequence[Tool], parallel: bool) -> ConstraintSpec | None:
    strict = [_checked(calls, tool) for tool in offered if tool.strict]
    if parallel and not strict:
        return None
    loose = [function for tool in offered if not tool.strict and (function := _loose(calls, tool))]
    if not strict and not loose:
        return None
    return _spec(calls_in_text(calls, [*strict, *loose], parallel=parallel), strict)


def _spec(lark: str, functions: Sequence[Function]) -> ConstraintSpec:
    schemas = {function.name: function.parameters for function in functions}
    json_schema.check(schemas)
    return ConstraintSpec("calls", lark, functions=schemas)


def _tools(tools: Sequence[Any]) -> Iterator[Tool]:
    for tool in tools:
        function = mapping(mapping(tool).get("function", tool))
        if isinstance(name := function.get("name"), str) and name and is_unicode(name):
            parameters = function.get("parameters")
            yield Tool(name, NO_PARAMETERS if parameters is None else parameters, function.get("strict") is True)


def _checked(calls: CallFormat, tool: Tool) -> Function:
    """Raises ConstraintError, which names the function."""
    try:
        root = json.loads(json_schema.dump(json_schema.parse(tool.parameters)))
        schema: Mapping[str, Any] = resolved(root, root)
        if schema.get("type", "object") != "object":
            raise ConstraintError("its parameters are no object")
        if not COMBINED & schema.keys():
            schema = {"additionalProperties": False, **schema}  # what is not told is not wanted
        function = Function(tool.name, {**schema, "type": "object"})
        calls.written(function, Definitions())
    except ConstraintError as error:
        raise ConstraintError(f"the function {tool.name!r:.80}: {error.message}", error.hint) from None
    except NotWritableError as error:
        raise ConstraintError(
            f"the function {tool.name!r:.80} cannot be called in this model's format: {error}"
        ) from None
    return function


def _loose(calls: CallFormat, tool: Tool) -> Function | None:
    """With any arguments; None if the model could not write them, or the name."""
    root = mapping(tool.parameters)
    properties = mapping(resolved(root, root).get("properties"))
    function = Function(
        tool.name, {"type": "object", "properties": {key: {} for key in properties if type(key) is str}}
    )
    try:
        calls.written(function, Definitions())
    except NotWritableError:
        return None
    return function
