"""Pairs of key and value in XML-like tags, of which the rest may still come."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from edge.chat.calls import NotACallError
from edge.chat.output import Call
from edge.chat.values import to_json, typed


def read_pairs(text: str, at: int, pair: re.Pattern[str]) -> tuple[list[tuple[str, str]], int]:
    """The whole pairs from ``at`` on, and where they end. ``pair`` has the groups ``key`` and ``value``."""
    pairs = []
    while match := pair.match(text, at):
        pairs.append((match["key"], match["value"]))
        at = match.end()
    return pairs, at


def may_become(text: str, tags: Sequence[str]) -> bool:
    """Whether ``text``, white space before it aside, begins with one of the tags, or still may."""
    text = text.lstrip()
    return any(text.startswith(tag) or tag.startswith(text) for tag in tags)


def call(name: str, pairs: Sequence[tuple[str, str]], parameters: Mapping[str, Any]) -> Call:
    """The call, its values made what their JSON schemas, ``parameters``, say. Raises ``NotACallError``."""
    arguments = {key: typed(value, parameters.get(key)) for key, value in pairs}
    try:
        written = to_json(arguments)
    except (ValueError, RecursionError) as error:
        raise NotACallError from error
    if not name:
        raise NotACallError
    return Call(name, written)
