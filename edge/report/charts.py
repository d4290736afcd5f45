"""Three charts of a result, as SVG text for the report or a file; empty where too little was measured. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge.report.metrics import (
    Name,
    depths,
    is_reference,
    level_name,
    levels,
    look_up,
    mapping,
    number,
    text,
    widths,
)
from edge.report.svg import (
    LINE,
    TOP,
    WIDTH,
    Box,
    Scale,
    apart,
    axes,
    coloured,
    document,
    label_places,
    label_text,
    line,
    linear,
    logarithmic,
    mark,
    spread_out,
    text_width,
    words_at,
)
from edge.report.tables import kl_text, rate_text
from edge.report.words import words

LEFT, MARGIN = 52, 16  # px for the ticks of y, and beside the plot
BELOW = 2 * LINE + 14  # px for ticks and text under a plot
PLOT = 190  # px, the height of one plot of lines
GAP = 14  # px from one name to the next beside a plot
DECADE = 10.0  # from the smallest to the largest: more than that is drawn logarithmic
MARKED = 12  # points of a line with a mark each; of longer lines so many have one
Text = Mapping[str, str]


@dataclass(frozen=True)
class Line:
    """``index``: the level's place in the result, which gives its colour and shape. ``ringed``: x of a knee."""

    index: int
    name: str
    points: Sequence[tuple[float, float]]
    ringed: float | None = None


# --- speed against quality


@dataclass(frozen=True)
class Point:
    index: int
    name: str
    speed: float
    kl: float
    error: float


def speed_quality_svg(result: Mapping[str, Any], language: str = "en") -> str:
    """Decode speed to the right, KL divergence upwards: the best is at the bottom right. Two levels are needed."""
    told = words(language)
    points = [point for i, level in enumerate(levels(result)) if (point := tradeoff_point(i, level))]
    if len(points) < 2:
        return ""
    box = Box(LEFT, TOP + 24, WIDTH - MARGIN, TOP + 24 + 260)
    x = linear(0, max(point.speed for point in points), box.left, box.right)
    y = kl_scale([point.kl for point in points], max(point.kl + point.error for point in points), box)
    places = [(x.place(point.speed), y.place(point.kl)) for point in points]
    names = [label_text(point.name) for point in points]
    labels = label_places(places, names, Box(box.left, box.top - 4, WIDTH - 4, box.bottom - 2))
    reference = next((text(level.get("reference")) for level in levels(result) if level.get("reference")), "")
    y_text = told["tradeoff_y"].format(reference=label_text(reference))
    parts = list(axes(box, x, y, told["tradeoff_x"], y_text))
    for point, (left, top), name, (label_x, label_y) in zip(points, places, names, labels, strict=True):
        ends = [y.place(value) for value in (point.kl + point.error, max(0.0, point.kl - point.error))]
        bar = (
            f'<path stroke="currentColor" opacity="0.5" d="M{left:.1f} {ends[0]:.1f}V{ends[1]:.1f}"/>'
            if point.error
            else ""
        )
        parts.append(coloured(point.index, point_text(point, told), bar, mark(left, top, point.index)))
        if far(left, top, label_x, label_y, text_width(name)):
            middle = label_x + text_width(name) / 2
            parts.append(line([(left, top), (middle, label_y - 10 if label_y > top else label_y + 3)], "rule"))
        parts.append(words_at(label_x, label_y, name))
    description = ". ".join(point_text(point, told) for point in points)
    return framed("speed-quality", "tradeoff_title", result, told, description, box.bottom + BELOW, parts)


def tradeoff_point(index: int, level: Mapping[str, Any]) -> Point | None:
    speed, kl = look_up(level, Name("tg128")), number(level.get("kl"))
    if speed is None or speed < 0 or kl is None:
        return None
    kl = 0.0 if is_reference(level) else max(0.0, kl)
    return Point(index, level_name(level), speed, kl, abs(number(level.get("kl_error")) or 0.0))


def kl_scale(values: Sequence[float], top: float, box: Box) -> Scale:
    """Up to ``top``, the largest with its error. Zero is at the axis, on a logarithmic scale too, which it ends."""
    positive = [value for value in values if value > 0]
    if not positive or max(positive) <= DECADE * min(positive):
        return linear(0, top or 0.1, box.bottom, box.top)
    low = min(positive) / 2.5
    scale = logarithmic(low, max(top, 1.6 * max(positive)), box.bottom, box.top)
    room = [tick for tick in scale.ticks if scale.place(tick[0]) < box.bottom - LINE]
    zero = [(0.0, "0")] if 0 in values else []
    return Scale(lambda value: scale.place(max(value, low)), [*zero, *room])


def far(x: float, y: float, label_x: float, label_y: float, width: float) -> bool:
    """Whether a label is so far from its point that a line must tell whose it is."""
    aside = max(label_x - x, x - label_x - width, 0)
    return aside > 12 or label_y < y - 12 or label_y > y + 20


def point_text(point: Point, told: Text) -> str:
    return told["point"].format(level=point.name, rate=rate_text(point.speed), kl=kl_text(point.kl))


# --- lines


def width_svg(result: Mapping[str, Any], language: str = "en") -> str:
    """Tokens/s of all sequences together by how many there are: a plot for each depth, with one scale for all."""
    told = words(language)
    by_depth = {depth: width_lines(result, depth) for depth in depths(result)}
    by_depth = {depth: lines for depth, lines in by_depth.items() if any(len(one.points) > 1 for one in lines)}
    if not by_depth:
        return ""
    every = [point for lines in by_depth.values() for one in lines for point in one.points]
    right = WIDTH - label_room(by_depth.values())
    each = sorted({x for x, _ in every})
    place = logarithmic(each[0], each[-1], LEFT + 8, right).place
    x = Scale(place, apart([(value, f"{value:.0f}") for value in each], place))
    plots, top = [], TOP
    for depth, lines in by_depth.items():
        y_text = told["width_y_deep"].format(depth=f"{depth:,}") if depth else told["width_y"]
        box = Box(LEFT, top + 24, right, top + 24 + max(PLOT, GAP * len(lines)))
        y = linear(0, max(y for _, y in every), box.bottom, box.top)
        plots += plot(lines, box, x, y, told["width_x"], y_text, told)
        top = box.bottom + BELOW
    if any(one.ringed is not None for lines in by_depth.values() for one in lines):
        plots.append(words_at(12, top + 6, f"◯ {told['knee_mark']}", "faint"))
        top += LINE + 4
    described = [line_text(one, told, depth) for depth, lines in by_depth.items() for one in lines]
    return framed("widths", "width_title", result, told, ". ".join(described), top, plots)


def width_lines(result: Mapping[str, Any], depth: int) -> list[Line]:
    found = []
    for i, level in enumerate(levels(result)):
        rates = {width: rate for width, rate in widths(level, depth).items() if rate >= 0}
        knee = look_up(level, Name("knee", depth=depth))
        if rates:
            points = [(float(width), rate) for width, rate in rates.items()]
            found.append(Line(i, level_name(level), points, knee if knee in rates else None))
    return found


SUSTAINED: Sequence[tuple[str, str, float]] = (  # key of a point, words, what one unit on the chart is
    ("tg", "sustained_tg", 1.0),
    ("clock", "sustained_clock", 1e9),
    ("temperature", "sustained_temperature", 1.0),
)


def sustained_svg(result: Mapping[str, Any], language: str = "en") -> str:
    """Tokens/s over minutes; clock and temperature below where they are known."""
    told = words(language)
    shown = {key: sustained_lines(result, key, unit) for key, _, unit in SUSTAINED}
    if not any(len(one.points) > 1 for one in shown["tg"]):
        return ""
    right = WIDTH - label_room(shown.values())
    longest = max(x for one in shown["tg"] for x, _ in one.points) or 1.0
    x = linear(0, longest, LEFT, right)
    x = Scale(lambda value: LEFT + value / longest * (right - LEFT), [tick for tick in x.ticks if tick[0] <= longest])
    plots, top = [], TOP
    for key, said, _ in SUSTAINED:
        if shown[key]:
            height = max(PLOT if key == "tg" else PLOT / 2, GAP * len(shown[key]))
            box = Box(LEFT, top + 24, right, top + 24 + height)
            values = [y for one in shown[key] for _, y in one.points]
            low = min(values) if key == "temperature" else 0
            y = linear(low, max(values), box.bottom, box.top, 6 if key == "tg" else 4)
            plots += plot(shown[key], box, x, y, told["sustained_x"], told[said], told)
            top = box.bottom + BELOW
    described = [line_text(one, told) for one in shown["tg"]]
    return framed("sustained", "sustained_title", result, told, ". ".join(described), top, plots)


def sustained_lines(result: Mapping[str, Any], key: str, unit: float) -> list[Line]:
    found = []
    for i, level in enumerate(levels(result)):
        points = []
        sustained = level.get("sustained")
        for point in sustained if isinstance(sustained, list) else []:
            seconds, value = number(mapping(point).get("seconds")), number(mapping(point).get(key))
            if seconds is not None and value is not None and seconds >= 0:
                points.append((seconds / 60, value / unit))
        if points:
            found.append(Line(i, level_name(level), points))
    return found


def label_room(groups: Iterable[Sequence[Line]]) -> float:
    """px to the right of plots, where lines are named."""
    return 40 + max(text_width(label_text(one.name)) for lines in groups for one in lines)


def plot(lines: Sequence[Line], box: Box, x: Scale, y: Scale, x_text: str, y_text: str, told: Text) -> list[str]:
    parts = list(axes(box, x, y, x_text, y_text))
    ends = [(x.place(one.points[-1][0]), y.place(one.points[-1][1])) for one in lines]
    places = spread_out([top for _, top in ends], GAP, box.top, box.bottom - 2)
    for one, end, label_top in zip(lines, ends, places, strict=True):
        points = [(x.place(at), y.place(value)) for at, value in one.points]
        path = "M" + "L".join(f"{left:.1f} {top:.1f}" for left, top in points)
        drawn = [f'<path stroke="currentColor" stroke-width="1.7" fill="none" d="{path}"/>']
        every = -(-len(points) // MARKED)
        drawn += [mark(*point, one.index) for point in points[::-every]]
        drawn += [ring(*points[i]) for i, (at, _) in enumerate(one.points) if at == one.ringed]
        drawn += [mark(box.right + 24, label_top, one.index)]
        parts.append(line([(end[0] + 6, end[1]), (box.right + 18, label_top)], "rule"))
        parts.append(coloured(one.index, line_text(one, told), *drawn))
        parts.append(words_at(box.right + 32, label_top + 4, label_text(one.name)))
    return parts


def ring(x: float, y: float) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="8.5" fill="none" stroke="currentColor" stroke-width="1.5"/>'


def line_text(one: Line, told: Text, depth: int = 0) -> str:
    """A line in words; of a long one, its first and last point."""
    points = one.points if len(one.points) <= MARKED else (one.points[0], one.points[-1])
    where = f" (@{depth})" if depth else ""
    values = ", ".join(f"{x:.4g}: {rate_text(y)}" for x, y in points)
    return told["line"].format(level=one.name + where, values=values)


def framed(
    name: str, title: str, result: Mapping[str, Any], told: Text, description: str, height: float, parts: Sequence[str]
) -> str:
    where = (text(result.get("model")), text(mapping(result.get("machine")).get("cpu")))
    subtitle = " · ".join(one for one in where if one)
    return document(name, told[title], subtitle, f"{told[title]}. {description}", height, parts)
