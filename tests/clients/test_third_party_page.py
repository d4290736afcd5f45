"""Pages of other origins in a real browser: one that the server was told of, and one that it was not."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from tests.browser.conftest import chromium_path
from tests.clients.command import Command, serving

HOSTED = "https://chat.example.org"
ASK = """
async ([url, key, body]) => {
  const headers = { "Content-Type": "application/json", Authorization: `Bearer ${key}` };
  try {
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    const first = (await reader.read()).value;
    let text = first;
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return { status: answer.status, first, text };
      text += value;
    }
  } catch (error) {
    return { failed: String(error) };
  }
}
"""
READ = "(url) => fetch(url).then((answer) => answer.text(), (error) => `failed: ${error}`)"
LONG = {"prompt": "The ticket office", "max_tokens": 400, "ignore_eos": True, "stream": True}


class Blank(BaseHTTPRequestHandler):
    """An empty page of some other site."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()
        self.wfile.write(b"<!doctype html><title>elsewhere</title>")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def site() -> Iterator[str]:
    """Its origin."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Blank)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def named() -> Iterator[str]:
    with site() as origin:
        yield origin


@pytest.fixture(scope="module")
def stranger() -> Iterator[str]:
    with site() as origin:
        yield origin


@pytest.fixture(scope="module")
def asked(home: Path, named: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """A server with a key, which named pages may ask."""
    keys = tmp_path_factory.mktemp("keys") / "keys.txt"
    keys.write_text("sk-page")
    origins = ["--cors-origin", named, "--cors-origin", HOSTED]
    with serving("tiny-qwen", home, "--api-key-file", str(keys), *origins) as server:
        yield server
        assert server.complaints() == []


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path = chromium_path()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    page = browser.new_page()
    yield page
    page.close()


def asked_so_far(server: Command) -> list[str]:
    return [line for line in server.lines if line.startswith("POST")]


def test_a_named_page_streams(page: Page, named: str, asked: Command):
    page.goto(named)
    got = page.evaluate(ASK, [f"{asked.url}/v1/completions", "sk-page", LONG])
    assert got["status"] == 200 and got["text"].endswith("data: [DONE]\n\n"), got
    assert "[DONE]" not in got["first"]


def test_a_named_page_can_read_a_refusal(page: Page, named: str, asked: Command):
    page.goto(named)
    got = page.evaluate(ASK, [f"{asked.url}/v1/completions", "sk-wrong", LONG])
    assert got["status"] == 401 and "invalid_api_key" in got["text"]


def test_a_page_that_was_not_named_gets_nothing(page: Page, stranger: str, asked: Command):
    """Its preflight is refused, so that the request itself is not even sent."""
    page.goto(stranger)
    before = asked_so_far(asked)
    assert "failed" in page.evaluate(ASK, [f"{asked.url}/v1/completions", "sk-page", LONG])
    assert page.evaluate(READ, f"{asked.url}/v1/models").startswith("failed")
    assert page.evaluate(READ, f"{asked.url}/health").startswith("failed")  # public, but not to be read by pages
    assert asked_so_far(asked) == before


def preflight(server: Command, origin: str, **more: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type",
        **more,
    }
    with server.client() as client:
        return client.options("/v1/chat/completions", headers=headers)


def allowances(answer: httpx.Response) -> dict[str, str]:
    return {name: value for name, value in answer.headers.items() if name.startswith("access-control-allow")}


def test_preflight_from_a_hosted_page_to_a_private_network(asked: Command):
    answer = preflight(asked, HOSTED, **{"Access-Control-Request-Private-Network": "true"})
    assert answer.status_code == 204 and answer.headers["vary"] == "Origin"
    assert allowances(answer) == {
        "access-control-allow-origin": HOSTED,
        "access-control-allow-methods": "GET, POST, OPTIONS",
        "access-control-allow-headers": "authorization,content-type",
        "access-control-allow-private-network": "true",
    }


def test_private_networks_are_opened_only_to_who_asks_and_only_over_https(asked: Command, named: str):
    assert "access-control-allow-private-network" not in allowances(preflight(asked, HOSTED))
    plain = preflight(asked, named, **{"Access-Control-Request-Private-Network": "true"})
    assert plain.status_code == 204 and "access-control-allow-private-network" not in allowances(plain)


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "https://chat.example.org.evil.example", "*"])
def test_preflight_of_a_stranger(asked: Command, origin: str):
    answer = preflight(asked, origin, **{"Access-Control-Request-Private-Network": "true"})
    assert answer.status_code == 403 and allowances(answer) == {}
    assert answer.json()["error"]["code"] == "unknown_origin"
