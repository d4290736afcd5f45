"""Sizes, contrast and pictures. EDGE_SHOTS names a folder in which to keep the pictures."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import Open
from tests.browser.scripted import END, Answer, Scripted, comment, delta
from tests.browser.steps import ask, ask_and_wait
from tests.browser.test_kiosk import KIOSK

LONG = """## 安装步骤

在**小机器**上运行模型，需要三步（详见 [说明](https://example.org/guide)）：

1. 下载并转换模型
   - 选择 `Q4_K_M`
   - 检查哈希
2. 启动服务器

```python
def fits(memory: int, weights: int) -> bool:
    return weights * 1.2 < memory  # a line longer than any screen is wide, so that it scrolls inside its box
```

| Level | Size | Speed |
|:------|-----:|------:|
| Q4_K_M | 4.7 GB | 8.1 tokens/s |
| Q8_0 | 8.1 GB | 4.9 tokens/s |

> A quote, and averyveryverylongwordwithoutanybreakthatwouldotherwisemakethepagewiderthanthescreenis.
"""
OVERFLOW = (
    "['html', 'body', '#scroller'].map((one) => document.querySelector(one)).map((e) => e.scrollWidth - e.clientWidth)"
)
CONTRAST = Path(__file__).with_name("contrast.js").read_text(encoding="utf-8")


def full(page: Page, server: Scripted) -> None:
    server.will(Answer([delta(reasoning_content="想一想。"), delta(content=LONG), *END]))
    ask_and_wait(page, "How do I install it on a small machine? 请用中文回答。")
    expect(page.locator(".stats")).to_be_visible()


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_no_width_scrolls_sideways(open_page: Open, server: Scripted, width: int) -> None:
    page = open_page(viewport={"width": width, "height": 740})
    full(page, server)
    assert page.evaluate(OVERFLOW) == [0, 0, 0]
    page.get_by_role("button", name="Edit").click()
    assert page.evaluate(OVERFLOW) == [0, 0, 0]


def test_on_a_phone_the_list_is_a_drawer(open_page: Open, server: Scripted) -> None:
    page = open_page(viewport={"width": 360, "height": 740}, has_touch=True)
    ask_and_wait(page, "First")
    menu = page.get_by_role("button", name="Open the list of chats")
    assert page.locator("#sidebar").evaluate("(element) => element.inert")  # shut: not for screen readers either
    menu.click()
    expect(page.get_by_role("button", name="New chat")).to_be_focused()
    expect(page.get_by_role("button", name="First")).to_be_in_viewport()
    assert page.evaluate(OVERFLOW) == [0, 0, 0]
    page.keyboard.press("Escape")
    expect(menu).to_be_focused()
    expect(menu).to_have_attribute("aria-expanded", "false")
    menu.click()
    page.get_by_role("button", name="New chat").click()
    expect(page.locator("#question")).to_be_focused()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast_is_aa(open_page: Open, server: Scripted, scheme: str) -> None:
    page = open_page(color_scheme=scheme)
    full(page, server)
    server.will(Answer([delta(content="Half")]))
    ask(page)
    expect(page.locator(".problem").last).to_be_visible()
    page.locator(".thinking summary").first.click()
    page.mouse.move(640, 1)  # what the mouse is over has a colour of its own
    assert page.evaluate(CONTRAST) == []
    page.get_by_role("button", name="Settings").click()
    page.mouse.move(640, 1)  # what the mouse is over has a colour of its own
    assert page.evaluate(CONTRAST) == []


def test_lines_are_not_too_long(open_page: Open, server: Scripted) -> None:
    page = open_page(viewport={"width": 2560, "height": 1440})
    full(page, server)
    width = page.evaluate("document.querySelector('.answer').clientWidth")
    assert width <= 48 * page.evaluate("parseFloat(getComputedStyle(document.body).fontSize)")


def test_motion_can_be_turned_off(open_page: Open) -> None:
    page = open_page(viewport={"width": 360, "height": 740}, reduced_motion="reduce")
    assert page.evaluate("getComputedStyle(document.getElementById('sidebar')).transitionDuration") == "0s"


PICTURES: dict[str, dict[str, Any]] = {
    "desktop-light": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "light"},
    "desktop-dark": {"viewport": {"width": 1280, "height": 800}, "color_scheme": "dark", "locale": "zh-CN"},
    "phone": {"viewport": {"width": 390, "height": 844}, "reduced_motion": "reduce", "locale": "zh-CN"},
    "kiosk": {"viewport": {"width": 1080, "height": 1920}, "has_touch": True, "locale": "zh-CN"},
}


@pytest.mark.parametrize("name", PICTURES)
def test_pictures(open_page: Open, server: Scripted, tmp_path: Path, name: str) -> None:
    folder = Path(os.environ.get("EDGE_SHOTS") or tmp_path)
    folder.mkdir(exist_ok=True)
    if name == "kiosk":
        server.settings["kiosk"] = KIOSK | {"title": "城市博物馆", "welcome": "想了解哪件展品？"}
    page = open_page(**PICTURES[name])

    def shoot(what: str) -> None:
        page.screenshot(path=folder / f"{name}-{what}.png")

    shoot("welcome")
    server.will(Answer([delta(reasoning_content="想一想。"), delta(content=LONG), *END]))
    ask(page, "How do I install it on a small machine? 请用中文回答。")
    expect(page.get_by_role("link")).to_have_count(2)
    page.locator("#scroller").evaluate("(element) => element.scrollTo(0, 0)")
    shoot("answer")
    server.will(Answer([comment("prefill 512/1100"), server.closing]))
    ask(page, "And then?")
    expect(page.get_by_role("progressbar")).to_be_visible()
    shoot("prefill")
    page.keyboard.press("Escape")
    if name == "kiosk":
        return
    if name == "phone":
        page.locator("#menu").click()
        expect(page.locator("#new")).to_be_focused()
        shoot("drawer")
    page.locator("#settings-open").click()
    shoot("settings")
    assert len(list(folder.glob(f"{name}-*.png"))) >= 4
