"""Several conversations, kept in the browser: whatever the browser does with them."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.scripted import Answer, Scripted, delta, says
from tests.browser.steps import answer, ask, ask_and_wait, conversations, questions

FORBIDDEN = """
    for (const name of ["localStorage", "sessionStorage"]) {
        Object.defineProperty(window, name, { get() { throw new DOMException("no", "SecurityError"); } });
    }
"""
FULL = "Storage.prototype.setItem = () => { throw new DOMException('full', 'QuotaExceededError'); };"


def two(page: Page, server: Scripted) -> None:
    server.will(says("Blue."), says("Green."))
    ask_and_wait(page, "Colour of the sky?")
    page.get_by_role("button", name="New chat").click()
    expect(questions(page)).to_have_count(0)
    ask_and_wait(page, "Colour of grass?")


def test_conversations_outlive_a_reload(page: Page, server: Scripted) -> None:
    two(page, server)
    page.reload()
    expect(answer(page)).to_have_text("Green.")
    expect(conversations(page)).to_have_text(["Colour of grass?", "Colour of the sky?"])
    conversations(page).last.click()
    expect(answer(page)).to_have_text("Blue.")
    expect(page.locator(".answer .stats")).to_contain_text("12.5 tokens/s")
    assert len(server.asked) == 2  # no request for a title


def test_a_new_talk_does_not_know_the_old_one(page: Page, server: Scripted) -> None:
    two(page, server)
    assert [one["content"] for one in server.asked[1]["messages"]] == ["Colour of grass?"]


def test_a_conversation_can_be_renamed(page: Page) -> None:
    ask_and_wait(page, "Why?")
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Title").fill("Reasons")
    page.keyboard.press("Enter")
    expect(conversations(page)).to_have_text(["Reasons"])
    page.reload()
    expect(page.get_by_role("heading", name="Reasons")).to_be_visible()
    ask_and_wait(page, "Because?")
    expect(conversations(page)).to_have_text(["Reasons"])


def test_renaming_does_not_disturb_an_answer(page: Page, server: Scripted) -> None:
    go_on = threading.Event()
    server.will(Answer([delta(content="On"), go_on, *says("ce.").steps]))
    ask(page, "Why?")
    expect(answer(page)).to_have_text("On")
    page.get_by_role("button", name="Rename").click()
    page.get_by_label("Title").fill("Reasons")
    page.keyboard.press("Enter")
    expect(answer(page)).to_have_text("On")
    go_on.set()
    expect(answer(page)).to_have_text("Once.")
    expect(page.get_by_role("button", name="Answer again")).to_be_visible()
    page.reload()
    expect(conversations(page)).to_have_text(["Reasons"])
    expect(answer(page)).to_have_text("Once.")


def test_a_deleted_conversation_is_gone(page: Page, server: Scripted) -> None:
    two(page, server)
    page.get_by_role("button", name="Delete").click()
    page.locator("#ask").get_by_role("button", name="Cancel").click()
    expect(conversations(page)).to_have_count(2)
    page.get_by_role("button", name="Delete").click()
    page.locator("#ask").get_by_role("button", name="Delete").click()
    expect(conversations(page)).to_have_text(["Colour of the sky?"])
    expect(questions(page)).to_have_count(0)
    page.reload()
    expect(conversations(page)).to_have_text(["Colour of the sky?"])


def test_deleting_while_an_answer_streams_does_not_bring_it_back(page: Page, server: Scripted) -> None:
    endless = server.will(Answer([delta(content="Once"), threading.Event()]))
    ask(page, "A tale")
    expect(answer(page)).to_have_text("Once")
    page.get_by_role("button", name="Delete").click()
    page.locator("#ask").get_by_role("button", name="Delete").click()
    assert endless.gone.wait(10)
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    page.reload()
    expect(conversations(page)).to_have_count(0)


def test_leaving_for_another_conversation_stops_the_answer_and_keeps_it(page: Page, server: Scripted) -> None:
    endless = server.will(Answer([delta(content="Once"), threading.Event()]))
    ask(page, "A tale")
    expect(answer(page)).to_have_text("Once")
    page.get_by_role("button", name="New chat").click()
    assert endless.gone.wait(10)
    expect(page.locator(".message")).to_have_count(0)
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    conversations(page).click()
    expect(answer(page)).to_have_text("Once")


def test_half_an_answer_outlives_a_reload(page: Page, server: Scripted) -> None:
    server.will(Answer([delta(content="Once"), threading.Event()]))
    ask(page, "A tale")
    expect(answer(page)).to_have_text("Once")
    page.reload()
    expect(answer(page)).to_have_text("Once")
    expect(page.locator(".answer .stats")).to_contain_text("stopped")


@pytest.mark.parametrize("script", [FORBIDDEN, FULL], ids=["forbidden", "full"])
def test_without_a_store_the_page_works_and_says_what_is_lost(page: Page, server: Scripted, script: str) -> None:
    page.add_init_script(script)
    page.reload()
    two(page, server)
    expect(page.locator("#notice")).to_contain_text("chats are gone when this page closes")
    conversations(page).last.click()
    expect(answer(page)).to_have_text("Blue.")


def test_broken_values_in_the_store_are_passed_over(page: Page) -> None:
    ask_and_wait(page, "Why?")
    page.evaluate("""() => {
        const values = ["{", "null", "[]", "7", '{"messages": 3}', '{"messages": [null, 1, {"role": "tool"}]}'];
        values.forEach((value, index) => localStorage.setItem(`edge.conversation.b${index}`, value));
        localStorage.setItem("edge.settings", '{"temperature": "hot", "theme": 3, "system": {}}');
        sessionStorage.setItem("edge.current", "{");
    }""")
    page.reload()
    expect(conversations(page)).to_have_text(["Why?"])
    ask_and_wait(page, "So?")


def test_another_tab_sees_a_new_conversation(page: Page) -> None:
    other = page.context.new_page()
    other.goto("/")
    ask_and_wait(other, "From the other tab")
    expect(conversations(page)).to_have_text(["From the other tab"])


def test_a_conversation_saved_as_a_file_opens_again(page: Page, server: Scripted, tmp_path: Path) -> None:
    server.will(says("Blue."))
    ask_and_wait(page, "天空是什么颜色?")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save as a file").click()
    file = tmp_path / download.value.suggested_filename
    download.value.save_as(file)
    assert file.name == "天空是什么颜色-.json"
    saved = json.loads(file.read_text(encoding="utf-8"))
    assert [one["content"] for one in saved["messages"]] == ["天空是什么颜色?", "Blue."]
    page.locator("input[type=file]").set_input_files(file)
    expect(conversations(page)).to_have_text(["天空是什么颜色?"] * 2)
    expect(answer(page)).to_have_text("Blue.")


def test_a_file_that_is_no_conversation_is_refused(page: Page, tmp_path: Path) -> None:
    file = tmp_path / "no.json"
    file.write_text("{")
    page.locator("input[type=file]").set_input_files(file)
    expect(page.locator("#notice")).to_have_text("This file holds no chat.")


def test_a_long_first_question_gives_a_short_title(page: Page) -> None:
    ask_and_wait(page, "字" * 100 + "\nmore")
    expect(conversations(page)).to_have_text(["字" * 60 + "…"])
