"""The operator's page, on a real server. EDGE_SHOTS names a folder in which to keep the pictures."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from edge.server.config import Config, Kiosk
from tests.browser.steps import until
from tests.browser.test_looks import CONTRAST
from tests.edge.server import saying
from tests.edge.server.running import HELLO, Served, running

KEY = "operators-key-7"
SIZES = {"desktop": (1280, 800), "phone": (360, 740)}
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """Of an installed box, as far as the page can tell."""
    root = tmp_path_factory.mktemp("root")
    path = root / "slots" / "a" / "model" / "model.gguf"
    path.parent.mkdir(parents=True)
    (root / "current").symlink_to("slots/a")
    (root / "log").mkdir()
    (root / "log" / "kiosk.log").write_text(
        "2026-11-30T08:00:00Z installed qwen2.5-0.5b Q4_K_M 1.0.0 into slot a\n"
        "2026-12-14T09:30:12Z refused a box: it is signed by a key that is not trusted here, "
        "3f0c1d5e8a7b9246d0e1f2a3b4c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7\n"
    )
    config = Config(port=0, kiosk=Kiosk(), operator_keys=(KEY,))
    with running(saying.speaker(path), config, slots=2) as served:
        with saying.saying(served.engine, "Hello, visitor."):
            served.sdk().chat.completions.create(model="x", messages=HELLO)  # pyright: ignore[reportArgumentType]
        yield served


@pytest.fixture
def server(real: Served) -> Served:
    return real


@pytest.fixture
def operator(context_of: Callable[..., BrowserContext]) -> Callable[..., Page]:
    def open_it(**options: object) -> Page:
        page = context_of(**options).new_page()
        page.goto("/operator")
        return page

    return open_it


def enter(page: Page, key: str = KEY, name: str = "Operator key") -> None:
    page.get_by_label(name).fill(key)
    page.keyboard.press("Enter")


def test_the_key_is_asked_for_and_stays_out_of_sight(operator: Callable[..., Page]) -> None:
    page = operator()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    expect(page.get_by_label("Operator key")).to_have_attribute("type", "password")
    expect(page.get_by_role("heading", name="Machine")).to_have_count(0)
    for wrong in ("wrong", "密钥"):
        enter(page, wrong)
        expect(page.get_by_role("status")).to_have_text("The key is not right.")
        expect(page.get_by_label("Operator key")).to_have_value("")
    enter(page)
    expect(page.get_by_role("heading", name="Machine")).to_be_visible()
    expect(page.get_by_role("status")).to_be_hidden()
    assert KEY not in page.content() and not any(KEY in url for url in [page.url, *asked])
    assert page.evaluate("[localStorage.length, sessionStorage.length, document.cookie]") == [0, 0, ""]
    page.reload()
    expect(page.get_by_label("Operator key")).to_be_focused()


def test_it_is_locked_by_hand_and_by_itself(operator: Callable[..., Page]) -> None:
    page = operator()
    page.clock.install()
    page.reload()
    enter(page)
    page.get_by_role("button", name="Lock").click()
    expect(page.get_by_label("Operator key")).to_be_focused()
    assert "visitor" not in page.content() and page.locator("dd").count() == 0
    enter(page)
    expect(page.get_by_role("heading", name="Machine")).to_be_visible()
    page.clock.fast_forward(901_000)
    expect(page.get_by_label("Operator key")).to_be_visible()
    assert page.locator("dd").count() == 0


def test_it_shows_what_is_so_now(operator: Callable[..., Page], real: Served) -> None:
    page = operator()
    page.clock.install()
    page.reload()
    enter(page)
    row = page.locator("#slots dd")
    expect(row).to_have_count(3)
    with saying.saying(real.engine, "slow " * 100, pause=0.02), real.sdk() as sdk:
        stream = sdk.chat.completions.create(model="x", messages=HELLO, stream=True)  # pyright: ignore
        assert next(stream) and next(stream)
        page.clock.run_for(3100)
        expect(page.locator("#slots")).to_contain_text("writes an answer")
        stream.close()
    page.route("**/operator/status", lambda route: route.abort())
    page.clock.run_for(3100)
    expect(page.get_by_role("status")).to_contain_text("cannot be reached")
    page.unroute("**/operator/status")
    page.clock.run_for(3100)
    expect(page.get_by_role("status")).to_be_hidden()


@pytest.mark.parametrize("locale", ["en-US", "zh-CN"])
@pytest.mark.parametrize("size", SIZES)
def test_how_it_looks(operator: Callable[..., Page], tmp_path: Path, size: str, locale: str) -> None:
    folder = Path(os.environ.get("EDGE_SHOTS") or tmp_path)
    folder.mkdir(exist_ok=True)
    width, height = SIZES[size]
    chinese = locale == "zh-CN"
    page = operator(
        viewport={"width": width, "height": height}, locale=locale, color_scheme="dark" if chinese else "light"
    )
    page.screenshot(path=folder / f"operator-{size}-{locale}-key.png")
    assert page.evaluate(OVERFLOW) == 0 and page.evaluate(CONTRAST) == []
    enter(page, name="运维密钥" if chinese else "Operator key")
    shown = page.locator("#answers")
    expect(shown).to_contain_text("token/秒" if chinese else "tokens/s")
    expect(page.locator("#server")).to_contain_text("就绪" if chinese else "ready")
    expect(page.locator("#log")).to_contain_text("not trusted")
    assert page.evaluate(OVERFLOW) == 0 and page.evaluate(CONTRAST) == []
    page.screenshot(path=folder / f"operator-{size}-{locale}.png", full_page=True)
    small = """() => [...document.querySelectorAll("button, input")].filter((one) => one.checkVisibility())
        .filter((one) => one.getBoundingClientRect().height < 44).length"""
    assert page.evaluate(small) == 0
    page.get_by_role("button", name="English" if chinese else "中文").click()
    expect(page.locator("#server")).to_contain_text("ready" if chinese else "就绪")
    until(page, lambda: page.evaluate("document.documentElement.lang") == ("en" if chinese else "zh-CN"))
