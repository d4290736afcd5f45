"""Where sentences of a text end, in Chinese and in English, and Markdown's lines that end as sentences do. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

CHINESE = "。！？…"
CLOSING = "\"'”’»)\\]}）】」』》〉"
STOP = re.compile(rf"[.!?{CHINESE}]+[{CLOSING}]*")
FENCE = re.compile(r"\s*(```|~~~)")
ITEM = re.compile(r"\s*(?:[-*+•]|\d+[.)、])\s*\S|\s*\|.*\|\s*$")  # of a list, or a table's row
NUMBER = re.compile(r"[\s#>*]*\d+$")  # before the point that makes it a list's
INITIAL = re.compile(r"(?:^|[\s.(])[A-Za-z]$")
ABBREVIATION = re.compile(
    r"(?:^|[^A-Za-z])(?:e\.g|i\.e|etc|mr|mrs|ms|dr|prof|st|vs|cf|fig|approx|ca|jr|sr|inc|ltd|co|dept|est|vol)$",
    re.IGNORECASE,
)


def next_end(text: str, start: int, *, whole: bool = False) -> int | None:
    """The first end of a sentence at or behind ``start``, or ``start`` if nothing but white space lies between; None
    if there is none. As long as the text is not ``whole``, an end must be seen to be one: something follows it."""
    for end in ends(text, whole=whole):
        if end >= start or not text[end:start].strip():
            return max(end, start)
    return None


def whole_sentences(text: str) -> str:
    """``text`` up to its last end of a sentence; all of it where it has none."""
    return text[: max(ends(text, whole=True), default=len(text))]


def ends(text: str, *, whole: bool) -> Iterator[int]:
    """Of each sentence, list item, row of a table and line of code."""
    at, in_code = 0, False
    for line in text.splitlines(keepends=True):
        body = line.rstrip("\r\n")
        broken = len(body) < len(line)
        if FENCE.match(body):
            in_code = not in_code
            found = [len(body)] if not in_code and (broken or whole) else []
        elif in_code:
            found = [len(body)] if broken and body.strip() else []
        else:
            found = ends_in(body, over=broken or whole)
            if broken and ITEM.match(body):
                found.append(len(body.rstrip()))
        yield from (at + one for one in found)
        at += len(line)


def ends_in(line: str, *, over: bool) -> list[int]:
    """Of sentences in a line of prose. ``over``: nothing can follow it."""
    found = []
    for match in STOP.finditer(line):
        end = match.end()
        if line.startswith("**", end) and line.count("**", 0, end) % 2:
            end += 2
        following = line[end : end + 1]
        chinese = any(sign in CHINESE for sign in match[0])
        settled = (chinese or following.isspace()) if following else over
        if settled and not (match[0] == "." and is_inside(line[: match.start()])):
            found.append(end)
    return found


def is_inside(before: str) -> bool:
    """Whether a point behind this ends no sentence."""
    near = before[-16:]
    return bool(ABBREVIATION.search(near) or INITIAL.search(near) or NUMBER.match(before))
