"""A hostile model, title or file runs no script and asks nobody: conftest.py looks after each test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import ROOT, Open
from tests.browser.scripted import END, Answer, Scripted, delta, says
from tests.browser.steps import answer, ask, ask_and_wait, conversations

ELSEWHERE = "http://elsewhere.invalid"
ATTACKS = [
    "<script>window.ran.push(1)</script>",
    "<img src=x onerror='window.ran.push(1)'>",
    f"<img src='{ELSEWHERE}/a.png'>",
    "<svg onload='window.ran.push(1)'><a xlink:href='javascript:window.ran.push(1)'><text>x</text></a></svg>",
    "<svg/onload=window.ran.push(1)>",
    "<iframe srcdoc='<script>parent.window.ran.push(1)</script>'></iframe>",
    "<style>* { background: url(http://elsewhere.invalid/b) }</style>",
    "<base href='http://elsewhere.invalid'><meta http-equiv=refresh content='0;url=http://elsewhere.invalid'>",
    "</code></pre><script>window.ran.push(1)</script>",
    "&lt;script&gt;window.ran.push(1)&lt;/script&gt;",
    "&#60;img src=x onerror=window.ran.push(1)&#62;",
    "[a](javascript:window.ran.push(1))",
    "[a](JaVaScRiPt:window.ran.push(1))",
    "[a]( javascript:window.ran.push(1) )",
    "[a](<java&#115;cript:window.ran.push(1)>)",
    "[a](java\tscript:window.ran.push(1))",
    "[a](data:text/html,<script>window.ran.push(1)</script>)",
    "[a](vbscript:x) [b](file:///etc/passwd) [c](blob:x) [d](//elsewhere.invalid)",
    "<javascript:window.ran.push(1)>",
    f"![a]({ELSEWHERE}/c.png) ![b](javascript:window.ran.push(1))",
    f"[![c]({ELSEWHERE}/d.png)](javascript:window.ran.push(1))",
    '[a](https://e.org "onmouseover=window.ran.push(1)")',
    "[a](https://e.org/\"onclick='window.ran.push(1)')",
    "```<script>window.ran.push(1)</script>\n</code><script>window.ran.push(1)</script>\n```",
    "|<script>window.ran.push(1)</script>|b|\n|-|-|\n|<img src=x onerror=window.ran.push(1)>|[x](javascript:x)|",
    "# <img src=x onerror=window.ran.push(1)>\n> <svg onload=window.ran.push(1)>\n- <script>x</script>",
    "{{constructor.constructor('window.ran.push(1)')()}} ${window.ran.push(1)}",
]
BATTERY = "\n\n".join(ATTACKS)
SAFE = [[protocol, "noopener noreferrer", "_blank"] for protocol in ("http:", "https:")]
ACTIVE = (
    "script, img, iframe, style, base, meta, object, embed, form:not(.editing), [onclick], [onerror], [onload], [style]"
)


def harmless(page: Page) -> None:
    """No element of a kind that acts, no link but the safe ones; then every link is tried."""
    assert page.locator("#messages").locator(ACTIVE).count() == 0
    links = page.locator("#messages a")
    links = links.evaluate_all("(all) => all.map((a) => [new URL(a.href).protocol, a.rel, a.target])")
    assert all(link in SAFE for link in links)
    page.evaluate("for (const a of document.querySelectorAll('.markdown :not(a, a *, button, button *)')) a.click()")
    page.evaluate("new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(resolve)))")
    assert page.evaluate("window.ran") == []


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_in_an_answer(page: Page, server: Scripted, attack: str) -> None:
    server.will(says(*attack))
    ask_and_wait(page)
    harmless(page)


def test_attacks_in_thoughts_and_tool_calls(page: Page, server: Scripted) -> None:
    call = {"index": 0, "id": "c", "function": {"name": BATTERY, "arguments": json.dumps({"a": BATTERY})}}
    server.will(Answer([delta(reasoning_content=BATTERY), delta(content="."), delta(tool_calls=[call]), *END]))
    ask_and_wait(page)
    page.locator(".thinking summary").click()
    harmless(page)


def test_attacks_in_a_question_and_the_title_made_of_it(page: Page) -> None:
    ask_and_wait(page, "<img src=x onerror=window.ran.push(1)> " + BATTERY)
    expect(conversations(page).first).to_contain_text("<img src=x")
    page.get_by_role("button", name="Edit").click()
    harmless(page)
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#ask h2")).to_contain_text("<img src=x")


def test_attacks_in_the_system_prompt(page: Page, server: Scripted) -> None:
    page.get_by_role("button", name="Settings").click()
    page.get_by_label("System prompt").fill(BATTERY)
    page.get_by_role("button", name="Save", exact=True).click()
    page.reload()
    page.get_by_role("button", name="Settings").click()
    expect(page.get_by_label("System prompt")).to_have_value(BATTERY)
    page.keyboard.press("Escape")
    ask_and_wait(page)
    assert server.asked[0]["messages"][0] == {"role": "system", "content": BATTERY}
    harmless(page)


def test_attacks_from_the_server(open_page: Open, server: Scripted) -> None:
    server.settings |= {"model": "<img src=x onerror=window.ran.push(1)>", "quant": BATTERY}
    page = open_page()
    error = {"error": {"message": BATTERY}}
    server.will(Answer([delta(content="a"), b"data: " + json.dumps(error).encode() + b"\n\n"]))
    ask(page)
    expect(page.locator(".problem .detail")).to_contain_text("<script>")
    harmless(page)


def test_attacks_in_a_file_and_in_the_browsers_store(page: Page, tmp_path: Path) -> None:
    attacked = {
        "id": "../x",
        "title": BATTERY,
        "__proto__": {"ran": 1},
        "messages": [
            {"role": "user", "content": BATTERY},
            {"role": "assistant", "content": BATTERY, "reasoning": BATTERY, "problem": {"kind": BATTERY}},
            {"role": "assistant", "content": {"tag": "script"}, "calls": [{"name": BATTERY}, None]},
        ],
    }
    file = tmp_path / "chat.json"
    file.write_text(json.dumps(attacked))
    page.locator("input[type=file]").set_input_files(file)
    expect(page.locator(".message")).to_have_count(3)
    harmless(page)
    page.reload()
    expect(page.locator(".message")).to_have_count(3)
    harmless(page)


def test_a_link_leaves_without_a_way_back(page: Page, server: Scripted) -> None:
    """What is opened gets no handle on the page, and the page itself stays."""
    server.will(says(f"[here]({server.url}/page/words.js)"))
    ask_and_wait(page)
    with page.expect_popup() as popup:
        answer(page).get_by_role("link").click()
    assert popup.value.evaluate("window.opener") is None
    popup.value.close()


@pytest.mark.parametrize("path", sorted((ROOT / "edge" / "server" / "page").glob("*.*")), ids=lambda path: path.name)
def test_the_page_makes_no_markup_of_text_and_names_no_other_host(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    words = ("nnerHTML", "outerHTML", "AdjacentHTML", "document.write", "DOMParser", "eval(", "Function(", "setHTML")
    assert [word for word in words if word in text] == []
    hosts = text.replace("http://www.w3.org/2000/svg", "").replace("https?://", "")
    assert "http://" not in hosts
    assert "https://" not in hosts
