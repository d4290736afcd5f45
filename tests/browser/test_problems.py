"""What goes wrong on the way to an answer, and how the page comes back from it."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from tests.browser.conftest import Open
from tests.browser.scripted import CUT, DONE, Answer, Scripted, delta, event, fails, says
from tests.browser.steps import answer, ask, ask_and_wait


def test_a_key_is_asked_for_once_and_kept_for_the_session(page: Page, server: Scripted) -> None:
    server.will(fails(401, "a key is needed", "invalid_api_key"), says("In."))
    ask(page)
    field = page.get_by_label("API key of this server")
    expect(field).to_have_attribute("type", "password")
    field.fill("s3cret")
    page.keyboard.press("Enter")
    expect(answer(page)).to_have_text("In.")
    assert page.evaluate("JSON.stringify({ ...localStorage })").count("s3cret") == 0
    page.reload()
    ask_and_wait(page, "Again?")
    assert server.keys == [None, "Bearer s3cret", "Bearer s3cret"]


def test_a_wrong_key_can_be_given_up_and_tried_again(page: Page, server: Scripted) -> None:
    server.will(fails(401), fails(401), fails(401), says("In."))
    ask(page)
    page.get_by_label("API key of this server").fill("wrong")
    with page.expect_response("**/v1/chat/completions"):
        page.keyboard.press("Enter")
    expect(page.get_by_label("API key of this server")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator(".problem")).to_contain_text("another key")
    page.get_by_role("button", name="Try again").click()
    page.get_by_label("API key of this server").fill("right")
    page.keyboard.press("Enter")
    expect(answer(page)).to_have_text("In.")


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_asked_again_when_it_wants(page: Page, server: Scripted, status: int) -> None:
    page.clock.install()
    server.will(fails(status, "the server is busy", Retry_After="20"), says("Now."))
    ask(page)
    retry = page.locator(".retry")
    expect(retry).to_have_text("Try again in 20 s")
    expect(retry).to_be_disabled()
    expect(page.locator("#announcer")).to_have_text("The server is busy.")
    page.clock.fast_forward(21_000)
    expect(retry).to_have_text("Try again")
    retry.click()
    expect(answer(page)).to_have_text("Now.")
    expect(page.locator(".message")).to_have_count(2)


def test_a_question_waits_for_a_model_that_loads(open_page: Open, server: Scripted) -> None:
    server.settings["ready"] = False
    page = open_page()
    expect(page.locator("#notice")).to_have_text("The model is loading…")
    server.will(fails(503, "the model is loading", Retry_After="1"), says("Here."))
    ask(page)
    expect(page.locator(".status")).to_contain_text("The model is loading")
    server.settings["ready"] = True
    expect(answer(page)).to_have_text("Here.")
    expect(page.locator("#notice")).to_be_hidden()


def test_waiting_for_the_model_can_be_stopped(open_page: Open, server: Scripted) -> None:
    server.settings["ready"] = False
    page = open_page()
    server.will(fails(503))
    ask(page)
    expect(page.locator(".status")).to_contain_text("The model is loading")
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert len(server.asked) == 1


@pytest.mark.parametrize("end", [[CUT], []], ids=["broken", "ended without [DONE]"])
def test_a_cut_connection_keeps_what_came(page: Page, server: Scripted, end: list[object]) -> None:
    shown = threading.Event()
    server.will(Answer([delta(content="Half an ans"), shown, *end]), says("A whole answer."))
    ask(page)
    expect(answer(page)).to_have_text("Half an ans")
    shown.set()
    expect(page.locator(".problem")).to_contain_text("The connection was cut.")
    expect(answer(page)).to_have_text("Half an ans")
    page.get_by_role("button", name="Try again").click()
    expect(answer(page)).to_have_text("A whole answer.")
    expect(page.locator(".problem")).to_be_hidden()


def test_an_error_in_mid_stream_is_told(page: Page, server: Scripted) -> None:
    error = event({"error": {"message": "out of memory", "type": "server_error", "param": None, "code": None}})
    server.will(Answer([delta(content="Half"), error, DONE]))
    ask(page)
    expect(page.locator(".problem")).to_contain_text("out of memory")
    expect(answer(page)).to_have_text("Half")


def test_a_conversation_too_long_is_told_without_another_try(page: Page, server: Scripted) -> None:
    server.will(fails(400, "maximum context length is 4096 tokens", "context_length_exceeded"))
    ask(page)
    expect(page.locator(".problem")).to_contain_text("longer than the model can read")
    expect(page.locator(".problem")).to_contain_text("4096 tokens")
    expect(page.get_by_role("button", name="Try again")).to_have_count(0)


def test_an_answer_that_did_not_come_is_not_sent_back(page: Page, server: Scripted) -> None:
    server.will(fails(500, "failed"), says("Fine."))
    ask(page, "One?")
    expect(page.locator(".problem")).to_contain_text("failed")
    ask_and_wait(page, "Two?")
    assert [one["content"] for one in server.asked[1]["messages"]] == ["One?", "Two?"]


def test_a_server_that_is_not_there_yet_is_waited_for(context_of: Callable[..., BrowserContext]) -> None:
    page = context_of().new_page()
    up = threading.Event()
    page.route("**/page/settings.json", lambda route: route.continue_() if up.is_set() else route.fulfill(status=502))
    page.goto("/")
    expect(page.locator("#notice")).to_contain_text("cannot be reached")
    up.set()
    expect(page.locator("#question")).to_be_visible()
    expect(page.locator("#notice")).to_be_hidden()
