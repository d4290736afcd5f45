"""Charts: well-formed, safe, nothing outside, no label on another."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from xml.etree import ElementTree

import pytest

from edge.report.charts import speed_quality_svg, sustained_svg, width_svg
from edge.report.svg import (
    COLOURS,
    SHAPES,
    STYLE,
    Box,
    apart,
    fitted,
    label_places,
    linear,
    logarithmic,
    mark,
    spread_out,
    text_width,
)
from tests.edge.report.sample import HOSTILE, hostile, just_begun, many_levels, odd, one_level, sample, sustained, zeros

CHARTS = (speed_quality_svg, width_svg, sustained_svg)
SVG = "{http://www.w3.org/2000/svg}"
RESULTS = {
    "sample": sustained(sample()),
    "hostile": hostile(),
    "many": sustained(many_levels(), 2),
    "zeros": zeros(),
}


def texts(svg: str) -> list[str]:
    return [element.text or "" for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", RESULTS)
@pytest.mark.parametrize("chart", CHARTS)
def test_a_chart_stands_alone(chart: Callable[[dict, str], str], name: str, language: str):
    svg = chart(RESULTS[name], language)
    root = ElementTree.fromstring(svg)
    assert root.tag == f"{SVG}svg"
    allowed = {"svg", "title", "desc", "style", "rect", "text", "path", "g", "circle"}
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= allowed
    assert not [key for element in root.iter() for key in element.attrib if key.startswith("on") or "href" in key]
    assert "url(" not in svg
    assert "nan" not in re.sub(r"<(title|desc|text)[^>]*>.*?</\1>", "", svg)
    left, top, width, height = map(float, root.attrib["viewBox"].split())
    assert (left, top) == (0, 0)
    for element in root.iter(f"{SVG}text"):
        x, y = float(element.attrib["x"]), float(element.attrib["y"])
        long = text_width(element.text or "", int(element.attrib["font-size"]))
        begin = {"start": x, "middle": x - long / 2, "end": x - long}[element.attrib["text-anchor"]]
        assert begin >= -1 and begin + long <= width + 1, element.text
        assert 0 < y < height, element.text


def test_charts_can_be_told_to_a_screen_reader():
    for chart in CHARTS:
        root = ElementTree.fromstring(chart(RESULTS["sample"]))
        ids = root.attrib["aria-labelledby"].split()
        found = {element.attrib["id"]: element.text for element in root.iter() if "id" in element.attrib}
        assert list(found) == ids
        assert root.attrib["role"] == "img"
        assert all(name in (found[ids[1]] or "") for name in ("Q8_0", "Q4_0"))


def test_charts_on_one_page_have_ids_of_their_own():
    ids = [re.findall(r' id="([^"]+)"', chart(RESULTS["sample"])) for chart in CHARTS]
    assert len(set(itertools.chain(*ids))) == 6


def test_where_too_little_was_measured_there_is_no_chart():
    assert speed_quality_svg(one_level()) == ""
    assert width_svg(one_level()) != ""
    assert sustained_svg(sample()) == ""
    for result in (just_begun(), odd(), {}):
        assert [chart(result) for chart in CHARTS] == ["", "", ""]


def test_an_unknown_language_is_an_error():
    with pytest.raises(ValueError, match="no language 'fr'"):
        width_svg(sample(), "fr")


def test_names_are_only_text():
    for chart in CHARTS:
        svg = chart(RESULTS["hostile"])
        assert "<script" not in svg
        assert "\x1b" not in svg
        assert any(text.startswith("0<script>") for text in texts(svg))


# --- speed against quality


def marks(svg: str) -> list[tuple[float, float]]:
    """Where the levels' points are."""
    found = re.findall(r'<g transform="translate\(([\d.]+) ([\d.]+)\)"', svg)
    return [(float(x), float(y)) for x, y in found]


def test_the_best_level_is_at_the_bottom_right():
    q8_0, q5_k_m, _, q4_0 = marks(speed_quality_svg(sample()))
    assert q8_0[0] < q5_k_m[0] < q4_0[0]
    assert q4_0[1] < q5_k_m[1] < q8_0[1]


def test_the_reference_is_at_the_axis_and_a_wide_range_logarithmic():
    svg = speed_quality_svg(many_levels())
    places = marks(svg)
    assert len(places) == 17
    assert places[0][1] == max(y for _, y in places)
    steps = [a[1] - b[1] for a, b in itertools.pairwise(places[1:])]  # each KL is 1.3 times the one before
    assert max(steps) - min(steps) < 0.2
    assert {"0", "0.001", "0.01"} <= set(texts(svg))


def test_a_narrow_range_is_linear():
    svg = speed_quality_svg(sample())
    assert {"0", "0.02", "0.04", "0.06"} <= set(texts(svg))


def test_every_level_is_labelled_once():
    found = texts(speed_quality_svg(many_levels()))
    assert [found.count(f"Q{i}_K_M") for i in range(17)] == [1] * 17


def test_labels_do_not_lie_on_one_another_or_on_points():
    crowd = [(100 + 8 * (i % 3), 100 + 9 * i) for i in range(12)]
    places = label_places(crowd, [f"Q{i}_K_M" for i in range(12)], Box(0, 0, 300, 300))
    boxes = [Box(x, y - 10, x + text_width("Q1_K_M"), y + 3) for x, y in places]
    assert not any(a.meets(b) for a, b in itertools.combinations(boxes, 2))
    points = [Box(x - 4, y - 4, x + 4, y + 4) for x, y in crowd]
    assert not any(box.meets(point) for box in boxes for point in points)


def test_a_label_at_the_edge_stays_inside():
    room = Box(0, 0, 100, 100)
    for x, y in label_places([(98, 50), (2, 2), (50, 98)], ["Q4_K_M"] * 3, room):
        assert Box(x, y - 10, x + text_width("Q4_K_M"), y + 3).within(room)


# --- lines


def test_there_is_a_plot_for_each_depth_and_the_knee_is_ringed():
    svg = width_svg(one_level())
    assert "tokens/s of all together, behind 4,096 tokens" in texts(svg)
    rings = re.findall(r'<circle cx="([\d.]+)" cy="([\d.]+)" r="8.5"', svg)
    assert len(rings) == 2
    points = marks(svg)
    assert tuple(map(float, rings[0])) == points[0]  # of 8; points are drawn from the right
    assert tuple(map(float, rings[1])) in points
    assert float(rings[1][0]) < float(rings[0][0])  # 4 behind 4,096 tokens


def test_without_a_knee_there_is_no_ring():
    result = one_level()
    del result["levels"][0]["knee"], result["levels"][0]["knee@4096"]
    svg = width_svg(result)
    assert "ring" not in " ".join(texts(svg))
    assert 'r="8.5"' not in svg


def test_clock_and_temperature_have_plots_where_they_are_known():
    result = sustained(one_level())
    assert {"tokens/s", "clock, GHz", "temperature, °C"} <= set(texts(sustained_svg(result)))
    for point in result["levels"][0]["sustained"]:
        point |= {"clock": None, "temperature": None}
    found = texts(sustained_svg(result))
    assert "tokens/s" in found
    assert not {"clock, GHz", "temperature, °C"} & set(found)


# --- parts


@pytest.mark.parametrize(("low", "high"), [(0, 30.1), (0, 0.0004), (61, 91), (0, 0), (5, 5), (-3, 17), (0, 1e12)])
def test_a_linear_scale_holds_its_values(low: float, high: float):
    scale = linear(low, high, 100, 0)
    assert 2 <= len(scale.ticks) <= 7
    assert scale.ticks[0][0] <= low and scale.ticks[-1][0] >= high
    assert scale.place(scale.ticks[0][0]) == pytest.approx(100)
    assert scale.place(scale.ticks[-1][0]) == pytest.approx(0)


def test_a_logarithmic_scale_has_equal_steps_for_equal_ratios():
    scale = logarithmic(1, 8, 0, 90)
    assert [scale.place(value) for value in (1, 2, 4, 8)] == pytest.approx([0, 30, 60, 90])
    assert [value for value, _ in logarithmic(0.001, 10, 0, 1).ticks] == pytest.approx([0.001, 0.01, 0.1, 1, 10])
    assert logarithmic(3, 3, 5, 9).place(3) == 5


def test_ticks_keep_apart():
    ticks = [(float(value), str(value)) for value in range(1, 65)]
    kept = apart(ticks, lambda value: 100 * math.log2(value))
    assert [value for value, _ in kept][:3] == [1, 2, 3]
    assert len(kept) < 40


def test_names_beside_a_plot_keep_apart_and_in_order():
    places = spread_out([50, 50, 51, 10], 13, 0, 100)
    assert sorted(places) == [places[3], places[0], places[1], places[2]]
    assert all(b - a >= 13 for a, b in itertools.pairwise(sorted(places)))
    crowded = spread_out([99] * 17, 13, 0, 100)
    assert min(crowded) >= -1e-9 and max(crowded) <= 100 + 1e-9
    assert len({round(place, 3) for place in crowded}) == 17
    assert spread_out([], 13, 0, 100) == []


def test_text_is_cut_to_fit():
    assert fitted("short", 100) == "short"
    assert fitted("a long text that does not fit", 60).endswith("…")
    assert text_width(fitted("中文很长很长很长", 60)) <= 60
    assert text_width("中") > text_width("a")


def test_seventeen_levels_look_different():
    def look(index: int) -> tuple[str, int]:
        return mark(0, 0, index), index % COLOURS

    assert len({look(i) for i in range(17)}) == 17
    assert len(SHAPES) == COLOURS


def luminance(colour: str) -> float:
    """Relative luminance, WCAG 2.2."""
    digits = colour * 2 if len(colour) == 3 else colour
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear_parts = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear_parts, strict=True))


def contrast(a: str, b: str) -> float:
    bright, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def test_colours_can_be_seen_on_their_paper():
    """WCAG 2.2: 4.5 for text, 3 for graphics."""
    light, dark = STYLE.split("@media screen and (prefers-color-scheme:dark)")
    for style in (light, dark):
        found = dict(re.findall(r"\.edge-chart \.(\w+)\{(?:fill|stroke|color):#(\w+)", style))
        assert {"paper", "ink", "faint", *(f"c{i}" for i in range(COLOURS))} <= set(found)
        assert contrast(found["ink"], found["paper"]) > 7
        assert contrast(found["faint"], found["paper"]) > 4.5
        assert all(contrast(found[f"c{i}"], found["paper"]) > 3 for i in range(COLOURS))
        assert contrast(found["axis"], found["paper"]) > 3


def test_hostile_names_are_hostile():
    assert "<script>" in HOSTILE and "\x1b" in HOSTILE and '"' in HOSTILE
