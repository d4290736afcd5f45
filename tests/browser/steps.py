"""What a person does on the page, and where they look."""

from __future__ import annotations

import time
from collections.abc import Callable

from playwright.sync_api import Locator, Page, expect

PATIENCE = 10  # seconds


def ask(page: Page, question: str = "Why?") -> None:
    page.locator("#question").fill(question)
    page.locator("#question").press("Enter")


def ask_and_wait(page: Page, question: str = "Why?") -> None:
    ask(page, question)
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    expect(answer(page)).to_be_visible()


def answer(page: Page) -> Locator:
    """The last answer's text."""
    return page.locator(".answer .body").last


def questions(page: Page) -> Locator:
    return page.locator(".question .text")


def conversations(page: Page) -> Locator:
    return page.locator("#sidebar .title")


def until(page: Page, condition: Callable[[], object]) -> None:
    """Wait for what the page makes happen elsewhere."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it did not come"
        page.evaluate("null")  # lets playwright work
        time.sleep(0.02)
