"""JSON objects in running text, of which the rest may still come."""

from __future__ import annotations

import json
import re

from edge.chat.calls import NotACallError
from edge.chat.values import DECODER

SPACE = re.compile(r"[ \t\r\n]*")
UNCERTAIN = 16  # characters before the end of a text in which a mistake may be none yet: ``tru``, ``\\u00``, ``-Infin``


def first_object(text: str, *, whole: bool) -> tuple[int, int] | None:
    """Where the JSON object at the beginning of ``text`` lies, white space before it aside; None if more must come.

    Raises ``NotACallError`` if it is none, or, with ``whole`` (nothing more will come), ends too early.
    """
    start = _skip(text, 0)
    if start == len(text) and not whole:
        return None
    if not text.startswith("{", start):
        raise NotACallError
    try:
        return start, DECODER.raw_decode(text, start)[1]
    except json.JSONDecodeError as error:
        in_string = error.msg.startswith("Unterminated string")
        if not whole and (in_string or error.pos + UNCERTAIN >= len(text)):
            return None
        raise NotACallError from error
    except (ValueError, RecursionError) as error:
        raise NotACallError from error


def members(text: str) -> dict[str, str]:
    """The texts of an object's values by their keys. Raises ``ValueError`` or ``RecursionError`` if it is none."""
    found: dict[str, str] = {}
    at = _skip(text, 1)
    while not text.startswith("}", at):
        key, at = DECODER.raw_decode(text, at)
        start = _skip(text, _skip(text, at) + 1)  # behind the colon
        _, end = DECODER.raw_decode(text, start)
        found[key] = text[start:end]
        at = _skip(text, end)
        if text.startswith(",", at):
            at = _skip(text, at + 1)
    return found


def _skip(text: str, at: int) -> int:
    match = SPACE.match(text, at)
    return match.end() if match else at
