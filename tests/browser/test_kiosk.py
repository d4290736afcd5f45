"""A public screen: the next visitor sees nothing of the last one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Open
from tests.browser.scripted import END, Answer, Scripted, comment, delta, fails, says
from tests.browser.steps import answer, ask, questions, until

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


def test_the_server_forgets_with_the_page(kiosk: Page, server: Scripted) -> None:
    """Once at the start, for a page before this one may have crashed; then for each visitor who asked something."""
    until(kiosk, lambda: server.wipes == [0])
    kiosk.clock.fast_forward(61_000)
    ask(kiosk, "A private matter")
    expect(answer(kiosk)).to_have_text("Hello.")
    kiosk.clock.fast_forward(61_000)
    nothing_left(kiosk)
    until(kiosk, lambda: server.wipes == [0, 1])
    ask(kiosk)
    expect(answer(kiosk)).to_have_text("Hello.")
    kiosk.get_by_role("button", name="Start again").click()
    until(kiosk, lambda: server.wipes == [0, 1, 2])
    kiosk.clock.fast_forward(200_000)
    expect(kiosk.get_by_role("button", name="What is new?")).to_be_visible()
    assert server.wipes == [0, 1, 2]


def test_a_server_that_did_not_hear_is_told_again(kiosk: Page, server: Scripted) -> None:
    until(kiosk, lambda: server.wipes == [0])
    server.wipe_status = 503
    ask(kiosk)
    expect(answer(kiosk)).to_have_text("Hello.")
    kiosk.clock.fast_forward(61_000)
    until(kiosk, lambda: server.wipes == [0, 1])
    server.wipe_status = 200
    kiosk.clock.fast_forward(61_000)
    until(kiosk, lambda: server.wipes == [0, 1, 1])


def test_the_server_forgets_when_the_page_closes(kiosk: Page, server: Scripted) -> None:
    endless = server.will(Answer([delta(content="A private tale"), threading.Event()]))
    ask(kiosk, "private")
    expect(answer(kiosk)).to_have_text("A private tale")
    kiosk.goto("about:blank")
    assert endless.gone.wait(10)
    until(kiosk, lambda: server.wipes == [0, 1])


WAITS = {
    "en-US": ("In the queue: 2 before you", "You are next", "Reading the question: 46 %", "Reading the question"),
    "zh-CN": ("排队中：前面还有 2 位", "下一位就是您", "正在读取问题：46%", "正在读取问题"),
}


@pytest.mark.parametrize("locale", WAITS)
def test_who_waits_sees_and_hears_when_it_is_their_turn(open_page: Open, server: Scripted, locale: str) -> None:
    """Percents are not said aloud: they would never end."""
    server.settings["kiosk"] = KIOSK
    page = open_page(locale=locale, viewport={"width": 1080, "height": 1920}, has_touch=True)
    following, reading, answering = (threading.Event() for _ in range(3))
    steps = [comment("queue 2"), following, comment("queue 0"), reading, comment("prefill 512/1100"), answering]
    server.will(Answer([*steps, delta(content="Now."), *END]))
    page.get_by_role("button", name="What is new?").tap()
    status, aloud = page.locator(".answer .status"), page.get_by_role("status").and_(page.locator("#announcer"))
    queued, follows, read, said = WAITS[locale]
    expect(status).to_have_text(queued)
    expect(aloud).to_have_text(queued)
    size = "(element) => parseFloat(getComputedStyle(element).fontSize)"
    assert status.evaluate(size) >= 18
    following.set()
    expect(status).to_have_text(follows)
    expect(aloud).to_have_text(follows)
    reading.set()
    expect(status).to_have_text(read)
    expect(page.get_by_role("progressbar")).to_have_attribute("max", "1100")
    expect(aloud).to_have_text(said)
    answering.set()
    expect(answer(page)).to_have_text("Now.")
    expect(status).to_be_hidden()
    expect(aloud).to_contain_text("Now.")


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
