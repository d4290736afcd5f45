"""The keyboard, input methods, and screen readers."""

from __future__ import annotations

import threading

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.scripted import END, Answer, Scripted, delta, says
from tests.browser.steps import answer, ask, ask_and_wait, questions

PRESS_ENTER = """(field, properties) => field.dispatchEvent(
    new KeyboardEvent("keydown", { key: "Enter", bubbles: true, cancelable: true, ...properties }))"""


def test_enter_sends_and_shift_enter_makes_a_line(page: Page, server: Scripted) -> None:
    page.locator("#question").press_sequentially("one")
    page.keyboard.press("Shift+Enter")
    page.locator("#question").press_sequentially("two")
    page.keyboard.press("Enter")
    expect(questions(page)).to_have_text(["one\ntwo"])
    expect(page.locator("#question")).to_have_value("")


@pytest.mark.parametrize("properties", [{"isComposing": True}, {"keyCode": 229}], ids=["isComposing", "229"])
def test_enter_that_ends_a_chinese_word_sends_nothing(page: Page, properties: dict[str, object]) -> None:
    """Safari tells of the composition only by the code 229."""
    field = page.locator("#question")
    field.fill("nihao")
    field.evaluate(PRESS_ENTER, properties)
    expect(field).to_have_value("nihao")
    field.evaluate(PRESS_ENTER, {})
    expect(field).to_have_value("")
    expect(questions(page)).to_have_text(["nihao"])


def test_a_real_composition_is_not_cut_by_enter(page: Page, server: Scripted) -> None:
    page.locator("#question").focus()
    devtools = page.context.new_cdp_session(page)
    devtools.send("Input.imeSetComposition", {"text": "ni hao", "selectionStart": 6, "selectionEnd": 6})
    enter = {"type": "rawKeyDown", "key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 229}
    devtools.send("Input.dispatchKeyEvent", enter)
    devtools.send("Input.insertText", {"text": "你好"})
    expect(page.locator("#question")).to_have_value("你好")
    assert server.asked == []
    page.keyboard.press("Enter")
    expect(questions(page)).to_have_text(["你好"])


def test_nothing_empty_is_sent(page: Page, server: Scripted) -> None:
    expect(page.get_by_role("button", name="Send")).to_be_disabled()
    ask(page, "  \n ")
    expect(page.locator("#question")).to_have_value("  \n ")
    ask_and_wait(page, "Real")
    assert len(server.asked) == 1


def test_enter_while_an_answer_streams_keeps_the_draft(page: Page, server: Scripted) -> None:
    go_on = threading.Event()
    server.will(Answer([delta(content="a"), go_on, *END]))
    ask(page)
    expect(answer(page)).to_have_text("a")
    ask(page, "Next")
    expect(page.locator("#question")).to_have_value("Next")
    go_on.set()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    expect(page.locator("#question")).to_have_value("Next")
    assert len(server.asked) == 1


def test_only_the_finished_answer_is_announced(page: Page, server: Scripted) -> None:
    go_on = threading.Event()
    server.will(Answer([delta(content="One"), go_on, delta(content=" **two**."), *END]))
    announcer = page.locator("[aria-live=polite]")
    ask(page)
    expect(answer(page)).to_have_text("One")
    expect(announcer).to_have_text("")
    expect(page.locator("#messages")).to_have_attribute("aria-busy", "true")
    go_on.set()
    expect(announcer).to_have_text("Answer: One two.")
    assert page.locator("#messages").get_attribute("aria-busy") is None
    assert page.locator("#messages [aria-live], #messages[aria-live]").count() == 0


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
def test_every_control_has_a_name(open_page: Open, locale: str) -> None:
    page = open_page(locale=locale)
    ask_and_wait_in_any_language(page)
    nameless = """() => [...document.querySelectorAll("button, textarea, input:not([type=file]), select, summary")]
        .filter((one) => !(one.ariaLabel || one.textContent.trim() || one.labels?.[0]?.textContent.trim()))
        .filter((one) => !one.closest("#ask"))
        .map((one) => one.outerHTML)"""
    assert page.evaluate(nameless) == []


def ask_and_wait_in_any_language(page: Page) -> None:
    page.locator("#question").fill("?")
    page.keyboard.press("Enter")
    expect(page.locator(".answer .stats")).to_be_visible()


def test_tab_goes_through_the_page_in_reading_order(page: Page) -> None:
    ask_and_wait(page, "Why?")
    page.get_by_role("link", name="Skip to the question").focus()
    seen = []
    for _ in range(14):
        seen.append(page.evaluate("document.activeElement.ariaLabel || document.activeElement.textContent.trim()"))
        page.keyboard.press("Tab")
    assert seen == [
        *("Skip to the question", "New chat", "Why?", "Rename", "Save as a file", "Delete", "Open a saved chat"),
        *("Settings", "Conversation", "Edit", "Copy", "Copy", "Answer again", "Your question"),
    ]


def test_focus_is_seen(page: Page) -> None:
    page.get_by_role("button", name="New chat").focus()
    page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"


def test_languages_and_directions_are_marked(page: Page, server: Scripted) -> None:
    server.will(says("你好，世界"), says("مرحبا بالعالم"))
    ask_and_wait(page, "Greet me in Chinese")
    expect(answer(page)).to_have_attribute("lang", "zh-CN")
    expect(questions(page)).to_have_attribute("lang", "")
    ask_and_wait(page, "سلام")
    expect(answer(page)).to_have_attribute("dir", "auto")
    assert page.evaluate("getComputedStyle(document.querySelectorAll('.body')[1]).direction") == "rtl"
    assert page.locator("html").get_attribute("lang") == "en"
