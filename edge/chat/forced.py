"""What a model may write when it must call, or when its calls must be right: grammars for whole answers, in Lark."""

from __future__ import annotations

from collections.abc import Sequence

from edge.chat.calls import CallFormat
from edge.chat.lark import ANYTHING, Definitions, escaped, literal
from edge.chat.thinking import CLOSE, OPEN
from edge.chat.written import Function

GAP = r"/[ \n]{1,2}/?"
"""Before a call: the formats do not care, and models have learned one or the other."""
LINE_START = rf"({ANYTHING}\n)? *"
THOUGHTS = rf"/\s*{OPEN}/ INNER {literal(CLOSE)}"
INNER = f"/{ANYTHING}/ & ~/{ANYTHING}{escaped(CLOSE)}{ANYTHING}/"
NO_THOUGHTS = rf"~/\s*{OPEN}{ANYTHING}/"


def only_calls(format: CallFormat, functions: Sequence[Function], *, parallel: bool) -> str:
    """Calls and nothing else, at least one; ``parallel``: perhaps several. Raises ``NotWritableError``."""
    definitions = Definitions()
    ways = [format.written(function, definitions)[0] for function in functions]
    call = definitions.rule(" | ".join(f"{literal(way.opening)} {way.rest}" for way in ways))
    more = f" ({GAP} {call})*" if parallel else ""
    return f"start: {GAP} {call}{more}\n{definitions.text()}"


def calls_in_text(format: CallFormat, functions: Sequence[Function], *, parallel: bool) -> str:
    """Any text until a call opens, which must then be right, and so on; without ``parallel`` a call is the end.

    In thoughts before it all is free, but the answer cannot end there. Raises ``NotWritableError``.
    """
    definitions = Definitions()
    before = LINE_START if format.own_line else ANYTHING
    rests: dict[tuple[str, str], list[str]] = {}
    for function in functions:
        for way in format.written(function, definitions):
            rests.setdefault((way.opening, way.first), []).append(way.rest)
    rules = [f"THOUGHTS: {THOUGHTS}", f"INNER: {INNER}", "free: FREE", f"FREE: /{ANYTHING}/ & {NO_THOUGHTS}"]
    ends = ["free"]
    for number, ((opening, first), ways) in enumerate(rests.items()):
        rules.append(f"opened{number}[lazy]: OPENED{number}")
        rules.append(f"OPENED{number}: /{before}{escaped(opening)}/ & {NO_THOUGHTS}")
        opened = f"opened{number}"
        if first:
            # Text goes on, perhaps to the next opening, where anything else comes.
            rules.append(rf"again{number}[lazy]: /(\n?|[^{first}]{ANYTHING}\n) *{escaped(opening)}/")
            rules.append(f"begun{number}: {opened} | begun again{number}")
            opened = f"begun{number}"
        rules.append(f"call{number}: {opened} ({' | '.join(ways)})")
    if firsts := {first for _, first in rests if first}:
        rules.append("begun: " + " | ".join(f"begun{number}" for number in range(len(rests))))
        rules.append(f"other: /([^{''.join(firsts)}]{ANYTHING})?/")
        ends.append("begun other")
    call = " | ".join(f"call{number}" for number in range(len(rests)))
    end = " | ".join(ends)
    answer = f"({call})* ({end})" if parallel else f"({call} | {end})"
    return "\n".join([f"start: THOUGHTS? {answer}", *rules, definitions.text()])
