"""A question, its answer as it streams, and what can be done with them."""

from __future__ import annotations

import json
import re
import threading

import pytest
from playwright.sync_api import Page, expect

from tests.browser.scripted import DONE, END, Answer, Scripted, comment, delta, event, says, usage
from tests.browser.steps import answer, ask, ask_and_wait, questions


def test_an_answer_shows_while_it_streams(page: Page, server: Scripted) -> None:
    go_on = threading.Event()
    server.will(Answer([delta(role="assistant", content=""), delta(content="Hel"), go_on, delta(content="lo."), *END]))
    ask(page, "Say hello")
    expect(answer(page)).to_have_text("Hel")
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    go_on.set()
    expect(answer(page)).to_have_text("Hello.")
    expect(page.get_by_role("button", name="Send")).to_be_visible()
    assert server.asked[0] == {
        "model": "qwen2.5-7b",
        "messages": [{"role": "user", "content": "Say hello"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_the_next_question_carries_the_talk_so_far(page: Page, server: Scripted) -> None:
    server.will(says("Four."), says("Five."))
    ask_and_wait(page, "2 + 2?")
    ask_and_wait(page, "and one more?")
    assert [(one["role"], one["content"]) for one in server.asked[1]["messages"]] == [
        ("user", "2 + 2?"),
        ("assistant", "Four."),
        ("user", "and one more?"),
    ]


@pytest.mark.parametrize("way", ["button", "Escape"])
def test_stopping_reaches_the_server_and_keeps_what_came(page: Page, server: Scripted, way: str) -> None:
    endless = server.will(Answer([delta(content="Once upon"), threading.Event()]))
    ask(page)
    expect(answer(page)).to_have_text("Once upon")
    if way == "button":
        page.get_by_role("button", name="Stop").click()
    else:
        page.keyboard.press("Escape")
    assert endless.gone.wait(10)
    expect(page.locator(".answer .stats")).to_contain_text("stopped")
    expect(answer(page)).to_have_text("Once upon")
    ask_and_wait(page, "Go on")
    assert server.asked[1]["messages"][1] == {"role": "assistant", "content": "Once upon"}


def test_answer_again_replaces_the_answer(page: Page, server: Scripted) -> None:
    server.will(says("One."), says("Two."))
    ask_and_wait(page)
    page.get_by_role("button", name="Answer again").click()
    expect(answer(page)).to_have_text("Two.")
    expect(page.locator(".answer")).to_have_count(1)
    assert server.asked[0]["messages"] == server.asked[1]["messages"]


def test_an_edited_question_replaces_what_followed(page: Page, server: Scripted) -> None:
    server.will(says("A cat."), says("Grey."), says("A dog."))
    ask_and_wait(page, "Name a pet")
    ask_and_wait(page, "Its colour?")
    page.get_by_role("button", name="Edit").first.click()
    page.get_by_role("textbox", name="Edit the question").fill("Name another pet")
    page.locator(".editing").get_by_role("button", name="Send").click()
    expect(answer(page)).to_have_text("A dog.")
    expect(questions(page)).to_have_text(["Name another pet"])
    assert [one["content"] for one in server.asked[2]["messages"]] == ["Name another pet"]


def test_an_edit_while_an_answer_streams_ends_that_answer(page: Page, server: Scripted) -> None:
    endless = server.will(Answer([delta(content="Once upon"), threading.Event()]))
    server.will(says("Short."))
    ask(page, "A tale")
    expect(answer(page)).to_have_text("Once upon")
    page.get_by_role("button", name="Edit").click()
    page.get_by_role("textbox", name="Edit the question").fill("A short tale")
    page.keyboard.press("Enter")
    assert endless.gone.wait(10)
    expect(page.locator(".message")).to_have_count(2)
    expect(answer(page)).to_have_text("Short.")


def test_an_edit_can_be_dropped(page: Page) -> None:
    ask_and_wait(page, "Why?")
    page.get_by_role("button", name="Edit").click()
    page.keyboard.press("Escape")
    expect(questions(page)).to_have_text(["Why?"])
    expect(page.get_by_role("button", name="Edit")).to_be_focused()


def test_waiting_tells_the_place_in_the_queue_and_how_much_is_read(page: Page, server: Scripted) -> None:
    queued, reading = threading.Event(), threading.Event()
    steps = [comment("queue 2"), queued, comment("prefill 512/1100"), reading, delta(content="Now."), *END]
    server.will(Answer(steps))
    ask(page)
    status = page.locator(".answer .status")
    expect(status).to_contain_text("2 before you")
    queued.set()
    expect(status).to_contain_text("46 %")
    expect(page.get_by_role("progressbar")).to_have_attribute("value", "512")
    reading.set()
    expect(answer(page)).to_have_text("Now.")
    expect(status).to_be_hidden()


def test_speed_and_time_to_the_first_token_stand_under_the_answer(page: Page) -> None:
    ask_and_wait(page)
    stats = page.locator(".answer .stats")
    expect(stats).to_contain_text("12.5 tokens/s")
    expect(stats).to_contain_text(re.compile(r"first token after \d+\.\d\d s"))
    expect(stats).to_contain_text("40 of 140 prompt tokens from the cache")


def test_an_answer_cut_by_the_token_limit_says_so(page: Page, server: Scripted) -> None:
    server.will(Answer([delta(content="Once"), delta("length"), usage(), DONE]))
    ask_and_wait(page)
    expect(page.locator(".answer .stats")).to_contain_text("stopped at the token limit")


def test_thinking_is_folded_and_not_sent_back(page: Page, server: Scripted) -> None:
    go_on = threading.Event()
    server.will(Answer([delta(reasoning_content="Let me **see**."), go_on, delta(content="Yes."), *END]))
    ask(page)
    thinking = page.locator(".thinking")
    expect(thinking.locator("summary")).to_have_text("Thinking…")
    expect(thinking.locator(".markdown")).to_be_hidden()
    go_on.set()
    expect(thinking.locator("summary")).to_contain_text("Thought for")
    thinking.locator("summary").click()
    expect(thinking.locator("strong")).to_have_text("see")
    ask_and_wait(page, "Sure?")
    assert server.asked[1]["messages"][1] == {"role": "assistant", "content": "Yes."}


def test_tool_calls_are_put_together_and_readable(page: Page, server: Scripted) -> None:
    first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
    parts = ('{"city":"北', '京","id":', "12345678901234567890}")
    fragments = [{"index": 0, "function": {"arguments": part}} for part in parts]
    second = {"index": 1, "id": "call_2", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    calls = [delta(tool_calls=[call]) for call in (first, *fragments, second)]
    server.will(Answer([*calls, delta("tool_calls"), usage(), DONE]))
    ask_and_wait_for_calls(page)
    expect(page.locator(".call")).to_have_text(["Tool call: weather", "Tool call: now"])
    expect(page.locator(".calls pre").first).to_have_text('{\n  "city": "北京",\n  "id": 12345678901234567890\n}')


def ask_and_wait_for_calls(page: Page) -> None:
    ask(page)
    expect(page.locator(".calls figure")).to_have_count(2)
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()


def test_an_answer_that_is_json_is_laid_out(page: Page, server: Scripted) -> None:
    server.will(says('{"a":[1,', '2],"b":{}}'))
    ask_and_wait(page)
    expect(answer(page).locator("pre")).to_have_text('{\n  "a": [\n    1,\n    2\n  ],\n  "b": {}\n}')


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_stream_may_be_cut_anywhere(page: Page, server: Scripted, size: int) -> None:
    """Half a Chinese character or half a CR LF at the end of a piece made U+FFFD or an empty event."""
    events = [comment("queue 1"), delta(content="你好，"), delta(content="世界😀"), *END]
    whole = b"".join(events).replace(b"\n", b"\r\n")
    server.will(Answer([whole[at : at + size] for at in range(0, len(whole), size)]))
    ask_and_wait(page)
    expect(answer(page)).to_have_text("你好，世界😀")


def test_an_event_of_several_lines_is_one(page: Page, server: Scripted) -> None:
    body = json.dumps({"choices": [{"delta": {"content": "Hi"}}]}, indent=1)
    several = "".join(f"data: {line}\n" for line in body.splitlines()).encode() + b"\n"
    server.will(Answer([event({"choices": [{"delta": {"role": "assistant", "content": None}}]}), several, *END]))
    ask_and_wait(page)
    expect(answer(page)).to_have_text("Hi")


def test_copying_gives_the_source_and_code_its_text(page: Page, server: Scripted) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    server.will(says("**Run**\n\n```sh\nls -l\n```"))
    ask_and_wait(page)
    page.get_by_role("button", name="Copy code").click()
    expect(page.get_by_role("button", name="Copy code")).to_have_attribute("data-said", "Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "ls -l"
    page.locator(".answer").get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator(".answer .actions [data-said]")).to_have_count(1)
    assert page.evaluate("navigator.clipboard.readText()") == "**Run**\n\n```sh\nls -l\n```"


def test_the_end_is_followed_until_the_reader_scrolls_up(page: Page, server: Scripted) -> None:
    more, rest = threading.Event(), threading.Event()
    lines = "\n\n".join(f"Line {number}" for number in range(60))
    parts = [delta(content=text) for text in (lines, f"\n\n{lines}", "\n\nlast")]
    server.will(Answer([parts[0], more, parts[1], rest, parts[2], *END]))
    ask(page)
    expect(page.get_by_text("Line 59")).to_be_in_viewport()
    expect(page.get_by_role("button", name="To the end")).to_be_hidden()

    page.locator("#scroller").hover()
    page.mouse.wheel(0, -600)
    to_end = page.get_by_role("button", name="To the end")
    expect(to_end).to_be_visible()
    before = page.evaluate("document.getElementById('scroller').scrollTop")
    more.set()
    expect(page.get_by_text("Line 59")).to_have_count(2)
    assert page.evaluate("document.getElementById('scroller').scrollTop") == before

    to_end.click()
    expect(page.get_by_text("Line 59").last).to_be_in_viewport()
    rest.set()
    expect(page.get_by_text("last", exact=True)).to_be_in_viewport()


def test_a_long_answer_keeps_the_elements_that_are_done(page: Page, server: Scripted) -> None:
    """Each frame made the whole answer anew: the reader's selection was lost, and long answers became slow."""
    go_on = threading.Event()
    parts = [delta(content=text) for text in ("First.\n\n- one\n- two\n\nThird", " and more.\n\nEnd.")]
    server.will(Answer([parts[0], go_on, parts[1], *END]))
    ask(page)
    expect(answer(page)).to_contain_text("Third")
    page.evaluate("for (const element of document.querySelectorAll('.body *')) element.seen = true")
    go_on.set()
    expect(answer(page)).to_contain_text("End.")
    new = "[...document.querySelectorAll('.body *')].filter((one) => !one.seen).map((one) => one.textContent)"
    assert page.evaluate(new) == ["End."]
