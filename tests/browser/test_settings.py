"""Settings: what they send, how they look, and that an empty field is the model's own."""

from __future__ import annotations

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.scripted import Scripted
from tests.browser.steps import ask_and_wait

OWN = {"model", "messages", "stream", "stream_options"}


def change(page: Page, **values: str) -> None:
    page.locator("#settings-open").click()
    for name, value in values.items():
        field = page.locator(f"#settings [name={name}]")
        if field.evaluate("(element) => element.tagName") == "SELECT":
            field.select_option(value)
        else:
            field.fill(value)
    page.locator("#settings button.main").click()


def test_what_is_set_is_sent(page: Page, server: Scripted) -> None:
    change(page, system="Be brief.", temperature="0.3", top_p="0.9", max_tokens="50", thinking="off")
    ask_and_wait(page)
    page.reload()
    ask_and_wait(page)
    for asked in server.asked:
        assert asked["messages"][0] == {"role": "system", "content": "Be brief."}
        assert (asked["temperature"], asked["top_p"], asked["max_tokens"]) == (0.3, 0.9, 50)
        assert asked["chat_template_kwargs"] == {"enable_thinking": False}


def test_what_is_empty_is_not_sent(page: Page, server: Scripted) -> None:
    change(page, temperature="0", system="x")
    ask_and_wait(page)
    assert server.asked[0]["temperature"] == 0
    change(page, temperature="", system=" ")
    ask_and_wait(page)
    assert set(server.asked[1]) == OWN
    assert server.asked[1]["messages"][0]["role"] == "user"


def test_a_value_out_of_range_is_not_taken(page: Page, server: Scripted) -> None:
    change(page, temperature="3")
    expect(page.locator("#settings")).to_be_visible()
    page.locator("#settings").get_by_role("button", name="Cancel").click()
    ask_and_wait(page)
    assert set(server.asked[0]) == OWN


def test_thinking_is_offered_only_where_it_can_be_switched(open_page: Open, server: Scripted) -> None:
    server.settings["thinks"] = False
    page = open_page()
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_label("Temperature")).to_be_visible()
    expect(page.locator("#settings [name=thinking]")).to_be_hidden()


def test_the_browsers_language_is_the_pages(open_page: Open) -> None:
    page = open_page(locale="zh-CN")
    expect(page.get_by_role("button", name="新对话")).to_be_visible()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")


def test_the_language_can_be_changed_with_an_answer_there(page: Page) -> None:
    ask_and_wait(page)
    change(page, language="zh")
    expect(page.get_by_role("button", name="新对话")).to_be_visible()
    expect(page.get_by_role("button", name="重新回答")).to_be_visible()
    expect(page.locator(".stats")).to_contain_text("12.5 token/秒")
    page.reload()
    expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
    change(page, language="")
    expect(page.locator("html")).to_have_attribute("lang", "en")


def test_every_word_is_there_in_both_languages(page: Page) -> None:
    broken = """async () => {
        const text = await (await fetch("/page/words.js")).text();
        const rows = [...text.matchAll(/^  (\\w+): \\["(.*?)", "(.*?)"\\],$/gm)];
        const places = (words) => [...words.matchAll(/\\{\\w+\\}/g)].map(([place]) => place).sort().join();
        const broken = rows.filter(([, , en, zh]) => !en || !zh || places(en) !== places(zh));
        return [rows.length > 50, broken.map(([, key]) => key)];
    }"""
    assert page.evaluate(broken) == [True, []]


@pytest.mark.parametrize(
    ("system", "chosen", "theme"), [("dark", "", "dark"), ("dark", "light", "light"), ("light", "dark", "dark")]
)
def test_light_and_dark(open_page: Open, system: str, chosen: str, theme: str) -> None:
    page = open_page(color_scheme=system)
    change(page, theme=chosen)
    expect(page.locator("html")).to_have_attribute("data-theme", theme)
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", theme)


def test_the_theme_follows_the_system_as_it_changes(open_page: Open) -> None:
    page = open_page(color_scheme="light")
    expect(page.locator("html")).to_have_attribute("data-theme", "light")
    page.emulate_media(color_scheme="dark")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
