"""A result as one HTML file that can be sent, kept and printed: no script, nothing fetched. Pure.

What the result says (names of models, files, machines) is escaped by the template, ``report.html.jinja``.
"""

from __future__ import annotations

import functools
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from convert.levels import LEVELS
from edge.report.charts import speed_quality_svg, sustained_svg, width_svg
from edge.report.metrics import (
    LEVEL_SETTINGS,
    Name,
    depths,
    is_reference,
    level_name,
    levels,
    look_up,
    mapping,
    number,
    parse_name,
    text,
    widths,
)
from edge.report.tables import (
    DEPTH,
    LEVEL,
    Column,
    Grid,
    figure_text,
    kl_text,
    percent_text,
    quality_grid,
    seconds_text,
    speed_grid,
    widths_grid,
)
from edge.report.words import words
from edge.text import size_text

TEMPLATE = Path(__file__).with_name("report.html.jinja")
GIGA = 1e9
Told = Mapping[str, str]
Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Section:
    """A table under the heading ``words[name]``, and a note below it."""

    name: str
    grid: Grid
    note: str = ""


def html_report(result: Mapping[str, Any], language: str = "en") -> str:
    """``language`` is "en" or "zh"; raises ValueError for another."""
    told = words(language)
    charts = [chart(result, language) for chart in (speed_quality_svg, width_svg, sustained_svg)]
    made = date_text(result.get("made"))
    return template().render(
        told=told,
        title=told["report"].format(model=text(result.get("model")) or "?"),
        made=told["made"].format(made=made, edge=text(result.get("edge"))) if made else "",
        headline=headline(result, language),
        results=filled(result_sections(result, told)),
        details=filled(detail_sections(result, told)),
        charts=[Markup(chart) for chart in charts if chart],
        machine=machine_pairs(mapping(result.get("machine")), told),
        settings=settings_pairs(result, told),
        clocks=[(text(key), text(value)) for key, value in mapping(result.get("clocks")).items()],
        command=command(result),
    )


def date_text(value: Any) -> str:
    """An ISO date for people, in its own time zone; anything else as it is."""
    try:
        return datetime.fromisoformat(text(value)).strftime("%Y-%m-%d %H:%M %Z").strip()
    except ValueError:
        return text(value)


@functools.cache
def template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=False)
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8"))


# --- the headline


def headline(result: Mapping[str, Any], language: str = "en") -> list[str]:
    """Which level is best for speed, and which for quality, in plain sentences: a paragraph each."""
    told = words(language)
    paragraphs = [speed_words(result, told), quality_words(result, told)]
    return [paragraph for paragraph in paragraphs if paragraph] or [told["nothing"]]


def speed_words(result: Mapping[str, Any], told: Told) -> str:
    level = fastest(result)
    if level is None:
        return ""
    rivals = sum(look_up(other, Name("tg128")) is not None for other in levels(result))
    first = told["fastest" if rivals > 1 else "writes"]
    sentences = [first.format(level=level_name(level), rate=short_rate(look_up(level, Name("tg128"))))]
    if (ttft := look_up(level, Name("ttft"))) is not None:
        sentences.append(told["first"].format(ttft=seconds_text(ttft)))
    deepest = [depth for depth in depths(result) if depth and look_up(level, Name("tg128", depth=depth)) is not None]
    for depth in deepest[-1:]:
        rate = look_up(level, Name("tg128", depth=depth))
        sentences.append(told["deep"].format(depth=f"{depth:,}", rate=short_rate(rate)))
    knee, rates = look_up(level, Name("knee")), widths(level, 0)
    if knee is not None and knee > 1 and knee in rates:
        sentences.append(told["wide"].format(width=f"{knee:.0f}", rate=short_rate(rates[int(knee)])))
    return joined(sentences)


def quality_words(result: Mapping[str, Any], told: Told) -> str:
    """Empty where no level is compared with another."""
    others, quickest = compared(result), fastest(result)
    if not others:
        return ""
    closest = min(others, key=lambda level: number(level.get("kl")) or 0.0)
    top1 = number(closest.get("top1"))
    sentence = told["closest_kl" if top1 is None else "closest"].format(
        level=level_name(closest),
        reference=text(closest.get("reference")) or "?",
        kl=kl_text(number(closest.get("kl"))),
        top1=percent_text(top1, 1),
    )
    sentences = [sentence]
    if quickest is closest:
        sentences.append(told["fastest_too"] if len(others) > 1 else "")
    elif quickest is not None and any(quickest is level for level in others):
        kl = kl_text(number(quickest.get("kl")))
        sentences.append(told["fastest_kl"].format(level=level_name(quickest), kl=kl))
    return joined(sentences)


def compared(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The levels whose quality was measured against another's."""
    return [level for level in levels(result) if number(level.get("kl")) is not None and not is_reference(level)]


def fastest(result: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The level that decodes fastest, if any was measured."""
    found = [level for level in levels(result) if look_up(level, Name("tg128")) is not None]
    return max(found, key=lambda level: look_up(level, Name("tg128")) or 0.0, default=None)


def short_rate(value: float | None) -> str:
    """Tokens/s for a sentence."""
    return "" if value is None else f"{value:.0f}" if value >= 10 else f"{value:.1f}"


def joined(sentences: Sequence[str]) -> str:
    """Chinese sentences end in a mark that is wide enough."""
    out = ""
    for sentence in filter(None, sentences):
        out += sentence if not out or out.endswith("。") else f" {sentence}"
    return out


# --- tables


def result_sections(result: Mapping[str, Any], told: Told) -> list[Section]:
    reference = next((text(level.get("reference")) for level in levels(result) if level.get("reference")), "")
    repeats = text(mapping(result.get("settings")).get("repeats")) or "?"
    quality_note = told["quality_note"].format(reference=reference) if compared(result) else told["quality_alone"]
    return [
        Section("speed", speed_grid(result), told["speed_note"].format(repeats=repeats)),
        Section("quality", quality_grid(result), quality_note),
    ]


def detail_sections(result: Mapping[str, Any], told: Told) -> list[Section]:
    return [
        Section("widths", widths_grid(result), told["widths_note"]),
        Section("expected", expected_grid(result), told["expected_note"]),
    ]


def filled(sections: Sequence[Section]) -> list[Section]:
    """Those in which there is a figure."""
    return [one for one in sections if one.grid.rows and not set(one.grid.columns) <= {LEVEL, DEPTH}]


def expected_grid(result: Mapping[str, Any]) -> Grid:
    """What a plan had predicted beside what was measured: a row for each figure of each level."""
    rows = []
    for level in levels(result):
        first = level_name(level)
        for key, value in mapping(level.get("expected")).items():
            name, predicted = parse_name(str(key)), number(value)
            found = look_up(level, name) if name else None
            if predicted is not None and found is not None:
                ratio = f"{found / predicted:.2f}" if predicted else ""
                rows.append([first, str(name), figure_text(str(name), predicted), figure_text(str(name), found), ratio])
                first = ""
    headers = ("FIGURE", "EXPECTED", "MEASURED", "RATIO")
    return Grid([LEVEL, *(Column(header, "", lambda *_: "") for header in headers)], rows)


# --- pairs of name and value


def machine_pairs(machine: Mapping[str, Any], told: Told) -> Pairs:
    cores = {key: text(machine.get(key)) or "?" for key in ("physical", "logical", "usable")}
    rows = [(told[key], text(machine.get(key))) for key in ("cpu", "arch", "os")]
    rows += [(told["cores"], told["cores_value"].format(**cores))] if machine.get("logical") else []
    units: Sequence[tuple[str, Callable[[float], str]]] = (
        ("memory", lambda value: size_text(int(value))),
        ("bandwidth", lambda value: f"{value / GIGA:.1f} GB/s"),
        ("flops", lambda value: f"{value / GIGA:.0f} GFLOP/s"),
    )
    rows += [
        (told[key], show(value)) for key, show in units if (value := number(machine.get(key))) is not None and value > 0
    ]
    rows.append((told["library"], text(machine.get("library"))))
    return [(name, value) for name, value in rows if value]


def settings_pairs(result: Mapping[str, Any], told: Told) -> Pairs:
    """Those of all levels, in the result's order, then those that each level has of its own. A setting that has no
    words keeps its name."""
    rows = [(key, setting_text(key, value, told)) for key, value in mapping(result.get("settings")).items()]
    for key in LEVEL_SETTINGS:
        each = [(level_name(level), setting_text(key, level[key], told)) for level in levels(result) if key in level]
        same = len({value for _, value in each}) == 1
        if each:
            rows.append((key, each[0][1] if same else "; ".join(f"{level}: {value}" for level, value in each)))
    return [(told[SETTINGS[key]] if key in SETTINGS else text(key), value) for key, value in rows]


SETTINGS = {  # setting -> key of its words
    "tuned": "tuned",
    "threads": "threads",
    "threads_batch": "threads_batch",
    "flash_attn": "flash_attn",
    "kv_type": "kv_type",
    "rows": "rows",
    "gpu_layers": "gpu_layers",
    "repeats": "repeats",
    "depths": "depths",
    "widths": "widths_setting",
}


def setting_text(key: str, value: Any, told: Told) -> str:
    if key == "tuned":
        return told["tuned_yes" if value else "tuned_no"]
    if isinstance(value, bool):
        return told["yes" if value else "no"]
    return told["automatic"] if value is None else text(value)


def command(result: Mapping[str, Any]) -> str:
    """A command line that measures the same again, with the settings that the machine then has."""
    settings, names = mapping(result.get("settings")), [level_name(level) for level in levels(result)]
    words = ["edge", "bench", text(result.get("model")) or "MODEL"]
    if names and all(name in LEVELS for name in names):
        words += ["--levels", ",".join(names)]
    for option, key in (("--repeats", "repeats"), ("--depths", "depths"), ("--widths", "widths")):
        value = settings.get(key)
        if each := [str(one) for one in (value if isinstance(value, list | tuple) else [value]) if type(one) is int]:
            words += [option, ",".join(each)]
    points = [number(mapping(point).get("seconds")) or 0.0 for level in levels(result) for point in sustained(level)]
    if any(points):
        words += ["--minutes", f"{max(points) / 60:.3g}"]
    return shlex.join(words)


def sustained(level: Mapping[str, Any]) -> Sequence[Any]:
    points = level.get("sustained")
    return points if isinstance(points, list) else ()
