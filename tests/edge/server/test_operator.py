"""The operator's page and the state that it shows: who sees it, what it tells, and what it never does."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import edge
from edge.server.config import Config, Kiosk
from edge.server.errors import Busy, Loading
from edge.server.operator_route import FOLDER
from edge.server.operator_status import root_of, status_of
from edge.server.serving import Serving
from tests.edge.server.running import CHAT, HELLO, Served, ask, error_of, events, running
from tests.edge.server.saying import FAULT, saying

STATUS = "/operator/status"
KEY = {"Authorization": "Bearer operator-key"}


@pytest.fixture(scope="module")
def kiosk(gguf: dict[str, Path]) -> Iterator[Served]:
    config = Config(port=0, queue=7, keys=("api-key",), operator_keys=("operator-key", "second"), kiosk=Kiosk())
    with running(gguf["speaker"], config, slots=2) as one:
        yield one


@pytest.fixture
def client(kiosk: Served) -> Iterator[httpx.Client]:
    with kiosk.client(headers={"Authorization": "Bearer api-key"}) as one:
        yield one


def status(client: httpx.Client) -> dict[str, Any]:
    answer = client.get(STATUS, headers=KEY)
    assert answer.status_code == 200, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return answer.json()


@pytest.mark.parametrize("key", ["", "api-key", "operator-ke", "operator-key2", "wrong"])
def test_other_keys_do_not_open_it(kiosk: Served, key: str) -> None:
    with kiosk.client() as client:
        error = error_of(client.get(STATUS, headers={"x-api-key": key}), 401)
        assert error["code"] == "invalid_api_key"
        error_of(client.get(f"{STATUS}?key=operator-key"), 401)


def test_its_key_opens_nothing_else(kiosk: Served) -> None:
    with kiosk.client(headers=KEY) as client:
        error_of(client.post(CHAT, json={"messages": HELLO}), 401)
        error_of(client.get("/metrics"), 401)
        assert client.get(STATUS).status_code == 200
        assert client.get(STATUS, headers={"Authorization": "Bearer second"}).status_code == 200


def test_without_a_key_there_is_no_such_page(told: httpx.Client) -> None:
    for path in ("/operator", STATUS, "/operator/page/operator.js"):
        error_of(told.get(path, headers=KEY), 404)


def test_without_api_keys_it_needs_its_own(gguf: dict[str, Path]) -> None:
    with running(gguf["speaker"], Config(port=0, operator_keys=("operator-key",))) as served, served.client() as client:
        error_of(client.get(STATUS), 401)
        assert status(client)["model"]["status"] == "ready"


def test_the_page_is_our_own(kiosk: Served) -> None:
    with kiosk.client() as client:
        answer = client.get("/operator")
        assert answer.status_code == 200 and answer.headers["content-type"] == "text/html; charset=utf-8"
        rules = answer.headers["content-security-policy"]
        assert "default-src 'none'" in rules and "unsafe" not in rules
        for name in re.findall(r'(?:src|href)="([^"]+)"', answer.text):
            if not name.startswith("data:"):
                assert name.startswith(("/page/", "/operator/page/")) and client.get(name).status_code == 200, name
        for path in FOLDER.iterdir():
            assert client.get(f"/operator/page/{path.name}").headers["content-security-policy"] == rules
        error_of(client.get("/operator/page/..%2foperator_status.py"), 404)


def test_what_it_tells(kiosk: Served, client: httpx.Client) -> None:
    with saying(kiosk.engine, "one two three", "half" + FAULT):
        ask(client, {"messages": HELLO})
        error_of(client.post(CHAT, json={"messages": HELLO}), 500)
    error_of(client.get("/nowhere"), 404)
    told = status(client)
    assert told["model"] == {
        "name": "speaker",
        "level": kiosk.serving.level,
        "status": "ready",
        "n_ctx": kiosk.engine.ctx,
        "n_params": kiosk.engine.model.n_params,
    }
    assert told["versions"].keys() == {"edge", "llama-cpp-python", "python"}
    assert told["versions"]["edge"] == edge.__version__
    assert told["uptime"] > 0 and told["start"] is None and told["kiosk"] is None
    assert [one["state"] for one in told["slots"]] == ["free", "free"] and told["slots"][0]["tokens"] > 10
    assert told["queue"] == {"waiting": 0, "places": 7}
    answers = told["answers"]
    assert answers["count"] >= 1 and answers["tokens_per_second"] > 0
    assert 0 < answers["first_token"] <= answers["longest_first_token"]
    assert told["errors"]["engine_error"] == 1 and told["refused"]["404"] >= 1 and "500" not in told["refused"]
    machine, disk = told["machine"], told["disk"]
    assert 0 < machine["memory"] <= machine["peak"] * 1.5 and machine["limit"] > machine["memory"]
    assert {"temperature", "clock", "available"} <= machine.keys() and 0 < disk["free"] <= disk["total"]


def test_who_is_at_work(kiosk: Served, client: httpx.Client) -> None:
    body = {"messages": HELLO, "stream": True}
    with saying(kiosk.engine, "slow " * 50, pause=0.05), client.stream("POST", CHAT, json=body) as answer:
        found = events(answer.iter_lines())
        assert next(found) and next(found)
        assert "writes" in [one["state"] for one in status(client)["slots"]]


def test_no_prompt_is_in_it(kiosk: Served, client: httpx.Client) -> None:
    secret = "a-visitors-secret"
    with saying(kiosk.engine, "an-answers-secret"):
        ask(client, {"messages": [{"role": "user", "content": secret}]})
    client.post(CHAT, json={"messages": HELLO, secret: 1})
    client.get(f"/{secret}")
    text = client.get(STATUS, headers=KEY).text
    assert "secret" not in text and "operator-key" not in text and str(Path.home()) not in text


def test_while_the_model_loads() -> None:
    def load() -> Any:
        raise AssertionError("not in this test")

    serving = Serving("x", "Q4_K_M", 1, Config(), load, print)
    serving.note(Loading())
    serving.note(Busy(2))
    told = status_of(serving)
    assert told["errors"] == {"queue_full": 1}, "monitors ask many times whether the model is there"
    assert told["model"]["status"] == "loading" and told["slots"] == [] and told["disk"] is None
    assert told["answers"] == {"count": 0, "tokens_per_second": None, "first_token": None, "longest_first_token": None}


@pytest.mark.skipif(sys.platform != "linux", reason="kiosks are Linux machines")
def test_an_installed_kiosk(gguf: dict[str, Path], tmp_path: Path) -> None:
    path = tmp_path / "slots" / "b" / "model" / "model.gguf"
    path.parent.mkdir(parents=True)
    shutil.copy(gguf["speaker"], path)
    assert root_of(path) is None, "nothing is installed"
    (tmp_path / "current").symlink_to("slots/b")
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "kiosk.log").write_text("".join(f"2026-11-30T08:00:00Z line {n}\n" for n in range(30)))
    reached = tmp_path / "current" / "model" / "model.gguf"
    config = Config(port=0, operator_keys=("operator-key",))
    with running(reached, config) as served, served.client() as client:
        told = status(client)["kiosk"]
    assert told["slot"] == "b" and len(told["log"]) == 20 and told["log"][-1].endswith("line 29")
    assert root_of(gguf["speaker"]) is None
