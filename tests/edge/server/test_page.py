"""What the server does for the chat page; the page itself is tried in a browser, by ``tests/browser``."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from edge.server.config import Config, Kiosk
from edge.server.page_route import PAGE
from tests.edge.server.running import Served, error_of, running


def test_the_page_is_our_own(client: httpx.Client) -> None:
    answer = client.get("/")
    assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
    rules = answer.headers["content-security-policy"]
    assert "default-src 'none'" in rules and "unsafe" not in rules and "http" not in rules
    assert answer.headers["x-content-type-options"] == "nosniff" and answer.headers["referrer-policy"] == "no-referrer"
    named = re.findall(r'(?:src|href)="([^"]+)"', answer.text)
    assert any(name.endswith(".js") for name in named)
    for name in named:
        assert not name.startswith(("http", "//")), "nothing from elsewhere"
        if not name.startswith("data:"):
            assert client.get(httpx.URL(client.base_url).join("/").join(name).path).status_code == 200, name


@pytest.mark.parametrize("path", [path.name for path in sorted(PAGE.iterdir()) if path.is_file()])
def test_its_files(client: httpx.Client, path: str) -> None:
    answer = client.get(f"/page/{path}")
    kinds = {".js": "text/javascript", ".css": "text/css", ".html": "text/html", ".svg": "image/svg+xml"}
    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == kinds[Path(path).suffix]
    assert answer.headers["content-security-policy"] and answer.headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/page/", "/page/x.js", "/page/..%2fapp.py", "/page/%2e%2e%2fapp.py", "/page/app.py"])
def test_other_files_are_not_told(client: httpx.Client, path: str) -> None:
    error_of(client.get(path), 404)


def test_what_the_page_needs_to_know(served: Served, client: httpx.Client) -> None:
    assert client.get("/page/settings.json").json() == {
        "model": served.serving.name,
        "quant": "Q8_0",
        "n_ctx": served.engine.ctx,
        "key_needed": False,
        "thinks": False,
        "ready": True,
        "kiosk": None,
    }


def test_what_a_kiosk_needs_to_know(gguf: dict[str, Path]) -> None:
    kiosk = Kiosk(title="Museum", language="zh", questions=["Where?"])
    with (
        running(gguf["speaker"], Config(port=0, keys=("secret",), kiosk=kiosk)) as served,
        served.client() as client,
    ):
        answer = client.get("/page/settings.json")
    told = answer.json()
    assert told["key_needed"] is True and told["thinks"] is True and "secret" not in answer.text
    assert told["kiosk"]["title"] == "Museum" and told["kiosk"]["questions"] == ["Where?"]
    assert told["kiosk"].keys() == Kiosk.model_fields.keys() - {"golden"}
