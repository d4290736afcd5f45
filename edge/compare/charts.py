"""Charts of a comparison, as SVG text: quality against speed, and bars by suite. Empty where there is too little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edge.compare.summary import Mean, summarize
from edge.compare.tables import mean_text
from edge.compare.words import words
from edge.report.svg import (
    LINE,
    PLAIN,
    TOP,
    WIDTH,
    Box,
    axes,
    coloured,
    document,
    fitted,
    label_places,
    label_text,
    linear,
    mark,
    words_at,
)

LEFT, MARGIN, HEIGHT = 40, 16, 230  # px
BAR, GAP = 11, 10  # px high, and between suites


def tradeoff_svg(result: Mapping[str, Any], language: str = "en") -> str:
    """Speed to the right, the overall score upwards: the best is at the top right. Two models are needed."""
    told = words(language)
    found = [(i, one) for i, one in enumerate(summarize(result)) if one.overall and one.rate]
    if len(found) < 2:
        return ""
    box = Box(LEFT, TOP + 24, WIDTH - MARGIN, TOP + 24 + HEIGHT)
    x = linear(0, max(one.rate or 0 for _, one in found), box.left, box.right)
    y = linear(0, 1, box.bottom, box.top)
    points = [(x.place(one.rate or 0), y.place(one.overall.value if one.overall else 0)) for _, one in found]
    names = [label_text(one.name) for _, one in found]
    labels = label_places(points, names, Box(box.left, box.top - 4, WIDTH - 4, box.bottom - 2))
    parts = list(axes(box, x, y, told["tradeoff_x"], told["score"]))
    said = []
    for (index, one), place, name, label in zip(found, points, names, labels, strict=True):
        assert one.overall
        said.append(f"{one.name}: {one.rate:.1f} tokens/s, {mean_text(one.overall)}")
        bar = whisker(place[0], y.place(one.overall.low), place[0], y.place(one.overall.high))
        parts.append(coloured(index, said[-1], bar, mark(*place, index)))
        parts.append(words_at(*label, name))
    return document(
        "compare-tradeoff",
        told["tradeoff"],
        result["machine"]["cpu"],
        ". ".join(said),
        box.bottom + 2 * LINE + 14,
        parts,
    )


def bars_svg(result: Mapping[str, Any], language: str = "en") -> str:
    """A bar a model in each suite that is scored, with its interval."""
    told = words(language)
    found = summarize(result)
    suites = [suite for suite in result["suites"] if any(suite["name"] in one.scores for one in found)]
    if not suites:
        return ""
    legend = [(i, one.name) for i, one in enumerate(found) if one.scores]
    top = TOP + 8 + LINE * len(legend)
    group = LINE + len(legend) * (BAR + 2) + GAP
    box = Box(12, top, WIDTH - MARGIN, top + group * len(suites))
    x = linear(0, 1, box.left, box.right)
    parts, said = [], []
    for row, (index, name) in enumerate(legend):
        at = TOP + 4 + LINE * row
        parts += [coloured(index, name, mark(18, at, index)), words_at(30, at + 4, fitted(name, WIDTH - 50))]
    for number, suite in enumerate(suites):
        at = box.top + group * number + LINE
        parts.append(words_at(box.left, at - 3, fitted(suite["title"], WIDTH - 24), "faint"))
        for row, (index, name) in enumerate(legend):
            if (one := found[index].scores.get(suite["name"])) is not None:
                said.append(f"{suite['title']}, {name}: {mean_text(one)}")
                parts.append(coloured(index, said[-1], *bar(x.place, at + row * (BAR + 2), one)))
    return document("compare-bars", told["bars"], told["bars_note"], ". ".join(said), box.bottom + 8, parts)


def bar(place: Any, top: float, one: Mean) -> list[str]:
    start, end = place(0), place(one.value)
    shape = (
        f'<rect x="{start:.1f}" y="{top:.1f}" width="{max(1.0, end - start):.1f}" height="{BAR}" fill="currentColor"'
    )
    middle = top + BAR / 2
    return [f'{shape} opacity="0.75"/>', whisker(place(one.low), middle, place(one.high), middle)]


def whisker(x1: float, y1: float, x2: float, y2: float) -> str:
    """The interval of a mean."""
    stroke = f'class="axis" stroke="{PLAIN["axis"]}" stroke-width="1.5"'
    return f'<path {stroke} d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"/>'
