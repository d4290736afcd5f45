from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.browser.scripted import Scripted

ROOT = Path(__file__).resolve().parents[2]
DESKTOP = {"width": 1280, "height": 800}
WATCH = """
    window.violations = [];
    window.ran = [];
    const note = (event) => window.violations.push(`${event.violatedDirective} ${event.blockedURI}`);
    addEventListener("securitypolicyviolation", note);
"""

Open = Callable[..., Page]


def chromium_path() -> str:
    spec = importlib.util.spec_from_file_location("edge_chromium", ROOT / "tools" / "chromium.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    path = module.get()
    if path is None:
        pytest.exit("there is no Chromium here: see tools/chromium.py", returncode=3)
    return path


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium_path()
    expect.set_options(timeout=10_000)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def server() -> Iterator[Scripted]:
    script = Scripted()
    yield script
    script.close()


@pytest.fixture
def context_of(browser: Browser, server: Scripted) -> Iterator[Callable[..., BrowserContext]]:
    """Contexts whose pages ran no script of a model's, broke no policy, and asked nobody but this server."""
    contexts: list[BrowserContext] = []
    strangers: list[str] = []
    errors: list[str] = []

    def make(**options: Any) -> BrowserContext:
        context = browser.new_context(**{"locale": "en-US", "viewport": DESKTOP, "base_url": server.url, **options})
        context.add_init_script(WATCH)
        context.on("request", lambda request: note_stranger(request.url))
        context.on("weberror", lambda error: errors.append(str(error.error)))
        contexts.append(context)
        return context

    def note_stranger(url: str) -> None:
        if not url.startswith((server.url + "/", "data:image/svg+xml", "blob:" + server.url)):
            strangers.append(url)

    yield make
    for context in contexts:
        for page in context.pages:
            assert page.evaluate("[window.violations, window.ran]") == [[], []]
        context.close()
    assert (strangers, errors) == ([], [])


@pytest.fixture
def open_page(context_of: Callable[..., BrowserContext]) -> Open:
    """Opens the page in a browser of its own, with the options of a playwright context."""

    def open_it(**options: Any) -> Page:
        page = context_of(**options).new_page()
        page.goto("/")
        expect(page.locator("body")).not_to_have_class("starting")
        return page

    return open_it


@pytest.fixture
def page(open_page: Open) -> Page:
    return open_page()
