"""The kiosk's page on a real server: turns, and what is left of a visitor in the engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from playwright.sync_api import BrowserContext, Page, expect

from edge.server.config import Config, Kiosk
from tests.browser.steps import answer, ask, until
from tests.edge.server import saying
from tests.edge.server.running import Served, running


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    path = saying.speaker(tmp_path_factory.mktemp("real") / "speaker.gguf")
    kiosk = Kiosk(title="City museum", questions=["What is new?"], idle_seconds=60)
    with running(path, Config(port=0, kiosk=kiosk), slots=1) as served:
        yield served


@pytest.fixture
def server(real: Served) -> Served:
    return real


def visitor(context_of: Callable[..., BrowserContext], locale: str = "en-US") -> Page:
    page = context_of(locale=locale).new_page()
    page.clock.install()
    page.goto("/")
    expect(page.get_by_role("button", name="What is new?")).to_be_visible()
    return page


def is_empty(served: Served) -> bool:
    return all(not slot.tokens for slot in served.engine._core.slots) and served.engine.context.memory_last(0) == -1


def test_a_page_left_alone_is_forgotten_by_the_engine(context_of: Callable[..., BrowserContext], real: Served) -> None:
    page = visitor(context_of)
    with saying.saying(real.engine, "Hello."):
        ask(page, "A private matter")
        expect(answer(page)).to_have_text("Hello.")
        until(page, lambda: real.idle and not is_empty(real))
        page.clock.fast_forward(61_000)
        expect(page.locator(".message")).to_have_count(0)
        until(page, lambda: is_empty(real))


def test_a_page_that_closes_is_forgotten_by_the_engine(context_of: Callable[..., BrowserContext], real: Served) -> None:
    page = visitor(context_of)
    with saying.saying(real.engine, "slow " * 1000, pause=0.01):
        ask(page, "A private matter")
        expect(answer(page)).to_contain_text("slow")
        page.goto("about:blank")
        until(page, lambda: real.idle and is_empty(real))


def test_turns_are_shown(
    context_of: Callable[..., BrowserContext], real: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.server.stream.QUIET", 0.1)
    first, second, third = (visitor(context_of, locale) for locale in ("en-US", "en-US", "zh-CN"))
    with saying.saying(real.engine, "slow " * 1000, "Two.", "Three.", pause=0.05) as go:
        for page in (first, second):
            ask(page)
        expect(answer(first)).to_contain_text("slow")
        expect(second.locator(".status")).to_have_text("You are next")
        ask(third)
        expect(third.locator(".status")).to_have_text("排队中：前面还有 1 位")
        first.locator(".stop").click()
        go.set()
        expect(answer(second)).to_have_text("Two.")
        expect(answer(third)).to_have_text("Three.")
