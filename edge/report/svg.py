"""The parts of a chart, as SVG text: scales, axes, marks, labels that do not lie on one another. Pure.

Coordinates are those of the viewBox, which is narrow, so that the text can be read on a phone. Colours are in the
chart's own style, for light and dark, with a paper of its own: a chart looks the same in a page and in a README.
Without support for media queries it is the light one.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape as escape_html

from edge.report.metrics import text as plain

WIDTH = 440  # of every chart
FONT, SMALL, TINY = 14, 13, 12  # px of a title, of all else, of the line below the title
LINE = 16  # px from one line of text to the next
LONGEST_LABEL = 16  # characters of a level's name
COLOURS = 6  # .c0 to .c5; with as many shapes 36 levels can be told apart
SHAPES = (
    '<circle r="4.5"/>',
    '<path d="M-4.2-4.2h8.4v8.4h-8.4z"/>',
    '<path d="M0-5.6 5.3 3.9h-10.6z"/>',
    '<path d="M0-5.8 5.8 0 0 5.8-5.8 0z"/>',
    '<path d="M0 5.6 5.3-3.9h-10.6z"/>',
    '<path d="M-1.6-5h3.2v3.4h3.4v3.2h-3.4v3.4h-3.2v-3.4h-3.4v-3.2h3.4z"/>',
)
# After Okabe and Ito (2008), each dark (light) enough for a contrast of 3 with its paper.
STYLE = """
.edge-chart{font:13px system-ui,sans-serif}
.edge-chart .paper{fill:#fff}.edge-chart .ink{fill:#1f2328}.edge-chart .faint{fill:#59636e}
.edge-chart .axis{stroke:#59636e;fill:none}.edge-chart .rule{stroke:#d8dee4;fill:none}
.edge-chart .c0{color:#0072b2}.edge-chart .c1{color:#d55e00}.edge-chart .c2{color:#008f68}
.edge-chart .c3{color:#b8578f}.edge-chart .c4{color:#9a6b00}.edge-chart .c5{color:#4d4d4d}
@media screen and (prefers-color-scheme:dark){
.edge-chart .paper{fill:#0d1117}.edge-chart .ink{fill:#e6edf3}.edge-chart .faint{fill:#9ea7b3}
.edge-chart .axis{stroke:#9ea7b3}.edge-chart .rule{stroke:#2b323b}
.edge-chart .c0{color:#56b4e9}.edge-chart .c1{color:#ff8a4c}.edge-chart .c2{color:#2fc79d}
.edge-chart .c3{color:#e59ac6}.edge-chart .c4{color:#f0c245}.edge-chart .c5{color:#c9d1d9}}
"""
# For programs that know no style sheets.
PLAIN = {"paper": "#fff", "ink": "#1f2328", "faint": "#59636e", "axis": "#59636e", "rule": "#d8dee4"}
PLAIN_COLOURS = ("#0072b2", "#d55e00", "#008f68", "#b8578f", "#9a6b00", "#4d4d4d")


@dataclass(frozen=True)
class Box:
    left: float
    top: float
    right: float
    bottom: float

    def meets(self, other: Box) -> bool:
        across = self.left < other.right and other.left < self.right
        return across and self.top < other.bottom and other.top < self.bottom

    def within(self, other: Box) -> bool:
        across = other.left <= self.left and self.right <= other.right
        return across and other.top <= self.top and self.bottom <= other.bottom


@dataclass(frozen=True)
class Scale:
    """A value's place, and the values that have a tick: pairs of value and text."""

    place: Callable[[float], float]
    ticks: Sequence[tuple[float, str]]


# --- scales


def linear(low: float, high: float, start: float, end: float, most: int = 6) -> Scale:
    """From ``low`` to ``high``, both widened to ticks of 1, 2 or 5 times a power of ten, at most ``most`` of them."""
    if not high > low:
        high = low + (abs(low) or 1.0)
    rough = (high - low) / max(1, most - 1)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step for step in (power, 2 * power, 5 * power, 10 * power) if step >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    values = [n * step for n in range(first, last + 1)]
    return Scale(
        lambda value: start + (value - values[0]) / (values[-1] - values[0]) * (end - start),
        [(value, f"{value:.6g}") for value in values],
    )


def logarithmic(low: float, high: float, start: float, end: float) -> Scale:
    """Ticks at 1, 2 and 5 times powers of ten, only at these where they would be many."""
    bottom, top = math.log10(low), math.log10(high)
    powers = range(math.floor(bottom), math.ceil(top) + 1)
    digits = (1, 2, 5) if top - bottom < 3 else (1,)
    ticks = [digit * 10.0**power for power in powers for digit in digits]
    return Scale(
        lambda value: start + (math.log10(value) - bottom) / ((top - bottom) or 1) * (end - start),
        [(tick, f"{tick:g}") for tick in ticks if low <= tick <= high],
    )


def apart(ticks: Sequence[tuple[float, str]], place: Callable[[float], float]) -> list[tuple[float, str]]:
    """Those whose texts do not touch the one before."""
    kept: list[tuple[float, str]] = []
    for value, text in ticks:
        if not kept or place(value) - place(kept[-1][0]) > (text_width(text) + text_width(kept[-1][1])) / 2 + 4:
            kept.append((value, text))
    return kept


# --- elements


def escape(value: object) -> str:
    """Text between tags or in an attribute: one line without control characters."""
    return escape_html(plain(value))


def label_text(name: str) -> str:
    return name if len(name) <= LONGEST_LABEL else name[: LONGEST_LABEL - 1] + "…"


def text_width(text: str, size: int = SMALL) -> float:
    """About, for a usual sans-serif font; Chinese characters are square."""
    return sum(size if unicodedata.east_asian_width(c) in "WF" else 0.6 * size for c in text)


def fitted(text: str, width: float, size: int = SMALL) -> str:
    """``text``, cut at its end to be no wider than ``width``."""
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text + "…"


def words_at(x: float, y: float, text: str, kind: str = "ink", anchor: str = "start", size: int = SMALL) -> str:
    bold = ' font-weight="600"' if size == FONT else ""
    attributes = f'class="{kind}" fill="{PLAIN[kind]}" font-size="{size}" text-anchor="{anchor}"{bold}'
    return f'<text x="{x:.1f}" y="{y:.1f}" {attributes}>{escape(text)}</text>'


def line(points: Sequence[tuple[float, float]], kind: str, extra: str = "") -> str:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    return f'<path class="{kind}" stroke="{PLAIN[kind]}" fill="none" d="{path}"{extra}/>'


def mark(x: float, y: float, index: int) -> str:
    """The sign of the level ``index``, in the colour around it."""
    shape = SHAPES[(index + index // COLOURS) % len(SHAPES)]
    return f'<g transform="translate({x:.1f} {y:.1f})" fill="currentColor">{shape}</g>'


def coloured(index: int, title: str, *parts: str) -> str:
    """``parts`` in the colour of the level ``index``, told in ``title`` to a pointer and a screen reader."""
    number = index % COLOURS
    return f'<g class="c{number}" color="{PLAIN_COLOURS[number]}"><title>{escape(title)}</title>{"".join(parts)}</g>'


def document(name: str, title: str, subtitle: str, description: str, height: float, parts: Sequence[str]) -> str:
    """A whole SVG; ``name`` makes its ids its own in a page with several. Room for the title: ``TOP``."""
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="edge-chart" viewBox="0 0 {WIDTH} {height:.0f}" '
        f'width="{1.5 * WIDTH:.0f}" height="{1.5 * height:.0f}" role="img" font-family="system-ui, sans-serif" '
        f'aria-labelledby="{name}-title {name}-desc">'
    )
    return "\n".join(
        [
            head,
            f'<title id="{name}-title">{escape(title)}</title>',
            f'<desc id="{name}-desc">{escape_html(description)}</desc>',
            f"<style>{STYLE}</style>",
            f'<rect class="paper" fill="{PLAIN["paper"]}" width="{WIDTH}" height="{height:.0f}" rx="6"/>',
            words_at(12, 22, fitted(title, WIDTH - 24, FONT), size=FONT),
            words_at(12, 22 + LINE, fitted(subtitle, WIDTH - 24, TINY), "faint", size=TINY),
            *parts,
            "</svg>",
        ]
    )


TOP = 22 + LINE + 8


def axes(box: Box, x: Scale, y: Scale, x_text: str, y_text: str) -> Iterator[str]:
    """Ruled paper: ticks of ``y`` across, those of ``x`` below; ``y_text`` above, ``x_text`` under it."""
    for value, text in y.ticks:
        at = y.place(value)
        yield line([(box.left, at), (box.right, at)], "rule")
        yield words_at(box.left - 6, at + 4, text, "faint", "end")
    yield line([(box.left, box.bottom), (box.right, box.bottom)], "axis")
    for value, text in x.ticks:
        at = x.place(value)
        yield line([(at, box.bottom), (at, box.bottom + 4)], "axis")
        yield words_at(at, box.bottom + 4 + LINE, text, "faint", "middle")
    yield words_at(12, box.top - 10, fitted(y_text, WIDTH - 24), "faint")
    if x_text:
        yield words_at(box.right, box.bottom + 6 + 2 * LINE, fitted(x_text, WIDTH - 24), "faint", "end")


# --- labels


def spread_out(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places near ``wanted``, in the same order by value, at least ``gap`` from one another and within bounds.

    Where there is no room for all, they are closer, evenly.
    """
    if len(wanted) > 1:
        gap = min(gap, (high - low) / (len(wanted) - 1))
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    places = [0.0] * len(wanted)
    at = low - gap
    for i in order:
        at = places[i] = max(wanted[i], at + gap)
    at = high + gap
    for i in reversed(order):
        at = places[i] = min(places[i], at - gap)
    return places


def label_places(points: Sequence[tuple[float, float]], labels: Sequence[str], room: Box) -> list[tuple[float, float]]:
    """For each label the left end of its base line: beside its point, on no other label or point if that can be.

    The first of a ring of places around the point that is free; else the one with the fewest collisions.
    """
    taken = [Box(x - 6, y - 6, x + 6, y + 6) for x, y in points]
    places = []
    for (x, y), label in zip(points, labels, strict=True):
        width = text_width(label)
        best, fewest = (x + 9, y + 4), math.inf
        for away in (0, 14, 28, 42):
            for left, base in around(x, y, width, away):
                box = Box(left, base - 10, left + width, base + 3)
                cost = sum(box.meets(other) for other in taken) + (0 if box.within(room) else 100)
                if cost < fewest:
                    best, fewest = (left, base), cost
        taken.append(Box(best[0], best[1] - 10, best[0] + width, best[1] + 3))
        places.append(best)
    return places


def around(x: float, y: float, width: float, away: float) -> Iterator[tuple[float, float]]:
    """Where a label ``width`` wide may begin beside a point: right, left, above, below, and between these."""
    right, left, middle = x + 9 + away / 2, x - 9 - away / 2 - width, x - width / 2
    above, level, below = y - 9 - away, y + 4, y + 17 + away
    if not away:
        yield from ((right, level), (left, level))
    yield from ((middle, above), (middle, below), (right, above + 4), (right, below - 4), (left, above + 4))
    yield (left, below - 4)
