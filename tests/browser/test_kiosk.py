"""A public screen: the next visitor sees nothing of the last one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Open
from tests.browser.scripted import END, Answer, Scripted, delta, fails, says
from tests.browser.steps import answer, ask, questions

KIOSK: dict[str, Any] = {
    "title": "City museum",
    "welcome": "Ask about the collection.",
    "language": None,
    "system": "You are a guide.",
    "questions": ["What is new?", "展览几点开门？"],
    "idle_seconds": 60,
    "max_tokens": 200,
}


@pytest.fixture
def kiosk(context_of: Callable[..., BrowserContext], server: Scripted) -> Page:
    """With a clock that the test moves."""
    server.settings["kiosk"] = KIOSK
    page = context_of().new_page()
    page.clock.install()
    page.goto("/")
    expect(page.get_by_role("button", name="What is new?")).to_be_visible()
    return page


def test_a_preset_question_is_asked_by_touch(kiosk: Page, server: Scripted) -> None:
    kiosk.get_by_role("button", name="展览几点开门？").click()
    expect(answer(kiosk)).to_have_text("Hello.")
    asked = server.asked[0]
    assert asked["max_tokens"] == 200
    assert [one["content"] for one in asked["messages"]] == ["You are a guide.", "展览几点开门？"]


def test_it_shows_its_words_and_nothing_private(kiosk: Page) -> None:
    expect(kiosk.get_by_role("heading", name="City museum").last).to_be_visible()
    expect(kiosk.get_by_text("Ask about the collection.")).to_be_visible()
    for name in ("New chat", "Settings", "Open a saved chat", "Open the list of chats"):
        expect(kiosk.get_by_role("button", name=name)).to_have_count(0)
    ask(kiosk)
    expect(answer(kiosk)).to_have_text("Hello.")
    for name in ("Edit", "Copy"):
        expect(kiosk.get_by_role("button", name=name)).to_have_count(0)


def test_left_alone_it_forgets_everything(kiosk: Page, server: Scripted) -> None:
    ask(kiosk, "A private matter")
    expect(answer(kiosk)).to_have_text("Hello.")
    kiosk.locator("#question").fill("A draft")
    kiosk.clock.fast_forward(59_000)
    expect(questions(kiosk)).to_have_text(["A private matter"])
    kiosk.clock.fast_forward(2_000)
    expect(kiosk.get_by_role("button", name="What is new?")).to_be_visible()
    nothing_left(kiosk)
    ask(kiosk, "Next visitor")
    expect(answer(kiosk)).to_have_text("Hello.")
    assert [one["content"] for one in server.asked[1]["messages"]] == ["You are a guide.", "Next visitor"]


def nothing_left(page: Page) -> None:
    expect(page.locator(".message")).to_have_count(0)
    expect(page.locator("#question")).to_have_value("")
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    assert "private" not in page.content()
    page.locator("#question").focus()
    page.keyboard.press("Control+z")
    expect(page.locator("#question")).to_have_value("")


@pytest.mark.parametrize("sign", ["touch", "key", "wheel"])
def test_a_sign_of_life_begins_the_wait_again(kiosk: Page, sign: str) -> None:
    ask(kiosk)
    expect(answer(kiosk)).to_have_text("Hello.")
    kiosk.clock.fast_forward(50_000)
    if sign == "touch":
        answer(kiosk).click()
    elif sign == "key":
        kiosk.keyboard.press("Shift")
    else:
        came = "() => { window.came = new Promise((resolve) => addEventListener('wheel', () => resolve(true))); }"
        kiosk.evaluate(came)
        kiosk.mouse.move(600, 400)
        kiosk.mouse.wheel(0, 10)
        assert kiosk.evaluate("window.came")
    kiosk.clock.fast_forward(50_000)
    expect(questions(kiosk)).to_have_count(1)
    kiosk.clock.fast_forward(11_000)
    expect(questions(kiosk)).to_have_count(0)


def test_an_answer_that_streams_is_not_wiped(kiosk: Page, server: Scripted) -> None:
    go_on = threading.Event()
    server.will(Answer([delta(content="Long"), go_on, delta(content=" story."), *END]))
    ask(kiosk)
    expect(answer(kiosk)).to_have_text("Long")
    kiosk.clock.fast_forward(200_000)
    expect(answer(kiosk)).to_have_text("Long")
    go_on.set()
    expect(answer(kiosk)).to_have_text("Long story.")
    expect(kiosk.get_by_role("button", name="Send")).to_be_visible()
    kiosk.clock.fast_forward(55_000)
    expect(answer(kiosk)).to_have_text("Long story.")  # the wait began when it was there
    kiosk.clock.fast_forward(6_000)
    expect(questions(kiosk)).to_have_count(0)


def test_start_again_wipes_at_once_and_stops_the_server(kiosk: Page, server: Scripted) -> None:
    endless = server.will(Answer([delta(content="A private tale"), threading.Event()]))
    ask(kiosk, "private")
    expect(answer(kiosk)).to_have_text("A private tale")
    kiosk.get_by_role("button", name="Start again").click()
    assert endless.gone.wait(10)
    nothing_left(kiosk)
    expect(kiosk.get_by_role("button", name="Start again")).to_be_hidden()


def test_a_request_that_waits_for_a_key_is_wiped_too(kiosk: Page, server: Scripted) -> None:
    server.will(fails(401))
    ask(kiosk, "private")
    expect(kiosk.get_by_label("API key of this server")).to_be_visible()
    kiosk.keyboard.press("Escape")
    expect(kiosk.locator(".problem")).to_be_visible()
    kiosk.clock.fast_forward(61_000)
    nothing_left(kiosk)


def test_nothing_leads_out_of_the_page(kiosk: Page, server: Scripted) -> None:
    server.will(says("[away](https://e.org)"))
    ask(kiosk)
    away = answer(kiosk).get_by_text("away")
    away.click()
    away.click(button="middle")
    away.click(modifiers=["Control"])
    refused = """(type) => {
        const event = new MouseEvent(type, { bubbles: true, cancelable: true });
        return !document.querySelector(".body").dispatchEvent(event);
    }"""
    assert [kiosk.evaluate(refused, type) for type in ("contextmenu", "dragstart", "dragover", "drop")] == [True] * 4
    assert len(kiosk.context.pages) == 1
    assert kiosk.url.startswith(server.url)


def test_visitors_choose_the_language_and_the_next_finds_it_as_it_was(kiosk: Page) -> None:
    kiosk.get_by_role("button", name="中文").click()
    expect(kiosk.get_by_role("textbox", name="您的问题")).to_be_visible()
    kiosk.clock.fast_forward(61_000)
    expect(kiosk.get_by_role("textbox", name="Your question")).to_be_visible()


def test_a_kiosk_may_have_one_language(open_page: Open, server: Scripted) -> None:
    server.settings["kiosk"] = KIOSK | {"language": "zh"}
    page = open_page()
    expect(page.get_by_role("textbox", name="您的问题")).to_be_visible()
    expect(page.locator("#language")).to_be_hidden()


@pytest.mark.parametrize("size", [(1080, 1920), (1280, 800), (360, 740)])
def test_what_is_touched_is_large(open_page: Open, server: Scripted, size: tuple[int, int]) -> None:
    server.settings["kiosk"] = KIOSK
    page = open_page(viewport={"width": size[0], "height": size[1]}, has_touch=True)
    boxes = """() => [...document.querySelectorAll("button, textarea, summary")]
        .filter((one) => one.checkVisibility())
        .map((one) => [one.getBoundingClientRect(), one.outerHTML])
        .filter(([box]) => box.width < 48 || box.height < 48).map(([, html]) => html)"""
    assert page.evaluate(boxes) == []
    server.will(Answer([delta(reasoning_content="Hm."), delta(content="Yes."), *END]))
    ask(page)
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()
    assert page.evaluate(boxes) == []
