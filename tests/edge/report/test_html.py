"""The report: one file, nothing fetched, no script, whatever the result's names are; in two languages."""

from __future__ import annotations

import re
import string
from html.parser import HTMLParser
from typing import Any

import pytest

from edge.report.html import SETTINGS, command, headline, html_report
from edge.report.tables import LEVEL, QUALITY, SPEED
from edge.report.words import WORDS, words
from tests.edge.report.sample import HOSTILE, hostile, just_begun, many_levels, odd, one_level, sample, sustained, zeros

RESULTS = {
    "sample": sustained(sample()),
    "one": one_level(),
    "begun": just_begun(),
    "many": many_levels(),
    "zeros": zeros(),
    "hostile": hostile(),
    "odd": odd(),
    "empty": {},
}
VOID = {"meta", "link", "br", "hr", "img", "input"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


class Page(HTMLParser):
    """What is in a document; raises AssertionError where tags do not match."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self.feed(document)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        assert len(attrs) == len(dict(attrs)), "an attribute twice"
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open.pop() == tag, tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text.append(data)

    def find(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def said(result: dict[str, Any], language: str = "en") -> str:
    return re.sub(r"\s+", " ", " ".join(Page(html_report(result, language)).text))


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", RESULTS)
def test_the_report_is_one_file_that_fetches_and_runs_nothing(name: str, language: str):
    document = html_report(RESULTS[name], language)
    page = Page(document)
    assert {"http-equiv": "Content-Security-Policy", "content": POLICY} in page.find("meta")
    used = {tag for tag, _ in page.tags}
    assert not used & {"script", "link", "img", "iframe", "object", "embed", "base", "form", "a", "use", "image"}
    keys = {key for _, attributes in page.tags for key in attributes}
    assert not [key for key in keys if key.startswith("on")]
    assert not keys & {"href", "src", "srcset", "xlink:href", "style", "srcdoc", "data"}
    assert "@import" not in document and "url(" not in document
    assert {url for url in re.findall(r"\w+://[^\s\"<]+", document)} <= {"http://www.w3.org/2000/svg"}
    assert page.find("html") == [{"lang": WORDS[language]["html"]}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in page.find("meta")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert "None" not in " ".join(page.text) and "nan" not in " ".join(page.text).split()


def test_it_fits_light_dark_and_paper():
    document = html_report(sample())
    assert "prefers-color-scheme:dark" in document
    assert "@media print" in document
    assert "screen and (prefers-color-scheme:dark)" in document, "paper is white"


def test_names_from_the_result_are_only_text():
    for language in WORDS:
        document = html_report(RESULTS["hostile"], language)
        assert "<script" not in document.lower()
        assert "\x1b" not in document and "\u202e" not in document
        text = " ".join(Page(document).text)
        assert text.count("<script>alert") > 20  # of model, levels, machine, settings and clocks


def test_the_headline_says_which_level_is_best_for_what():
    assert headline(sample()) == [
        "Q4_0 is the fastest: it writes 30 tokens/s. To a question of 512 tokens its first token comes after 2.73 s. "
        "Behind 4,096 tokens of conversation it still writes 22 tokens/s. With 8 answers at once it writes 60 tokens/s "
        "in all.",
        "Q5_K_M is the closest to Q8_0: KL 0.0121 nats per token; the most likely token is the same 95.7 % of the "
        "time. The fastest, Q4_0, has KL 0.0752.",
    ]
    assert headline(sample(), "zh")[0].startswith("Q4_0 最快：每秒生成 30 个 token。对于")


def test_the_headline_says_no_more_than_was_measured():
    (only,) = headline(one_level())
    assert only.startswith("Q4_0 writes 30 tokens/s.")
    assert "fastest" not in only
    assert headline(just_begun()) == headline({}) == ["Nothing was measured yet."]
    bare = {"levels": [{"level": "a", "tg128": 7.26}, {"level": "b", "tg128": 5}]}
    assert headline(bare) == ["a is the fastest: it writes 7.3 tokens/s."]


def test_a_level_may_be_both_fastest_and_best():
    result = sample()
    result["levels"][3]["kl"] = 0.001
    assert headline(result)[1].endswith("It is the fastest, too.")
    result["levels"] = [result["levels"][0], result["levels"][3]]
    assert "too" not in headline(result)[1], "there is no other to compare with"


def test_machine_settings_clocks_and_the_command_are_told():
    text = said(sustained(sample()))
    for words_said in (
        "Speed and quality of qwen2.5-coder-0.5b",
        "Measured 2026-11-29 06:20 UTC with edge 0.1.0.",
        "Intel(R) Xeon(R) Processor @ 2.50GHz",
        "2 physical, 2 logical, 2 usable",
        "21.3 GB/s",
        "150 GFLOP/s",
        "Chosen by tuning on this machine",
        "Threads, decode 2",
        "Flash attention off",
        "Depths 0, 4096",
        "nothing is sampled",
        "edge bench qwen2.5-coder-0.5b --levels Q8_0,Q5_K_M,Q4_K_M,Q4_0 --repeats 3 --depths 0,4096 --widths 1,2,4,8 "
        "--minutes 10",
    ):
        assert words_said in text


def test_settings_that_differ_by_level_are_told_for_each():
    result = sample()
    result["levels"] = result["levels"][2:]
    result["levels"][0] |= {"threads": 1, "flash_attn": None}
    text = said(result)
    assert "Q4_K_M: 1; Q4_0: 2" in text
    assert "Q4_K_M: left to llama.cpp; Q4_0: off" in text
    assert "Threads, prefill 2" in text


def test_the_command_can_be_pasted_into_a_shell():
    result = one_level()
    result["model"] = "x; rm -rf ~"
    assert command(result).startswith("edge bench 'x; rm -rf ~' --levels Q4_0")
    result["levels"][0]["level"] = "my own"
    assert "--levels" not in command(result)
    result["settings"] = {"repeats": "`id`", "depths": ["$(id)"]}
    assert command(result) == "edge bench 'x; rm -rf ~'"
    assert command({}) == "edge bench MODEL"


def test_what_was_expected_stands_beside_what_was_measured():
    text = said(one_level() | {"levels": [one_level()["levels"][0] | {"expected": {"pp512": 180.0, "nothing": 1.0}}]})
    assert "Expected and measured" in text
    assert "pp512 180.0 tok/s 190.2 tok/s 1.06" in re.sub(r"\s+", " ", text)
    result = one_level()
    result["levels"][0]["expected"] = {}
    assert "Expected and measured" not in said(result)


def test_tables_and_charts_are_there_for_what_was_measured():
    assert len(Page(html_report(sustained(sample()))).find("svg")) == 3
    assert len(Page(html_report(one_level())).find("svg")) == 1
    assert len(Page(html_report(sample())).find("table")) == 4
    assert Page(html_report(just_begun())).find("table") == []
    assert "Charts" not in said(just_begun())


def test_one_level_has_nothing_to_be_compared_with():
    result = one_level()
    assert "With a second level" in said(result)
    result["levels"][0] |= {"reference": "Q4_0", "kl": 0.0, "top1": 1.0}  # as a run with one file has it
    assert "With a second level" in said(result)
    assert "With a second level" not in said(sample())


# --- languages


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_say_the_same():
    assert WORDS["en"].keys() == WORDS["zh"].keys()
    for key, text in WORDS["en"].items():
        assert WORDS["zh"][key].strip() and text.strip()
        assert fields(WORDS["zh"][key]) == fields(text), key


def test_every_heading_and_setting_has_words():
    for column in (LEVEL, *SPEED, *QUALITY):
        assert column.header in WORDS["en"]
        assert not column.unit or column.unit in WORDS["en"]
    assert set(SETTINGS.values()) <= WORDS["en"].keys()


def test_a_chinese_report_is_chinese():
    text = said(sample(), "zh")
    assert "各项计时的起止" in text
    for english in ("Speed", "Machine", "Settings", "reference", "tokens/s", "better", "off"):
        assert english not in re.sub(r"around llama_decode.*?(?=如何)", "", text), english


def test_an_unknown_language_is_an_error():
    with pytest.raises(ValueError, match="no language 'fr'; there are en, zh"):
        html_report(sample(), "fr")
    assert words("zh") is WORDS["zh"]


def test_the_hostile_name_needs_escaping():
    assert "<" in HOSTILE and "&" in HOSTILE
