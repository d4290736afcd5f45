"""Whether the hubs answer, asked of their doubles on loopback."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge.doctor import hubs
from edge.doctor.check import Check
from edge.doctor.hubs import REPO, ask, hub_checks, is_object
from tests.hub.content import repository
from tests.hub.faults import Redirect, Rule, Stall, Status
from tests.hub.huggingface import HuggingFaceDouble
from tests.hub.modelscope import ModelScopeDouble

FILES = {"config.json": b"{}"}


def hugging_face(*faults: Rule) -> HuggingFaceDouble:
    return HuggingFaceDouble([repository(REPO, FILES)], faults)


@pytest.fixture
def scope(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelScopeDouble]:
    with ModelScopeDouble([repository(REPO, FILES)]) as hub:
        monkeypatch.setenv("MODELSCOPE_DOMAIN", hub.endpoint)
        yield hub


@pytest.fixture
def face(monkeypatch: pytest.MonkeyPatch) -> Iterator[HuggingFaceDouble]:
    with hugging_face() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        yield hub


def by_name(checks: list[Check]) -> tuple[Check, Check]:
    found = {check.name: check for check in checks}
    assert list(found) == ["Hugging Face", "ModelScope"]
    return found["Hugging Face"], found["ModelScope"]


def test_both_answer(face: HuggingFaceDouble, scope: ModelScopeDouble, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    for check in hub_checks(""):
        assert check.status == "ok", check
        assert check.found.startswith("127.0.0.1 answers in ")
        assert check.found.endswith(" ms")
    assert len(face.requests) == len(scope.requests) == 1, "one request each"
    assert face.requests[0].authorization is None
    assert face.requests[0].status == scope.requests[0].status == 200


def test_nothing_is_asked_where_the_network_is_forbidden(face: HuggingFaceDouble, scope: ModelScopeDouble):
    [check] = hub_checks("HF_HUB_OFFLINE")
    assert check.found == "not tried: HF_HUB_OFFLINE forbids the network"
    assert face.requests == scope.requests == []


def test_one_hub_is_enough(face: HuggingFaceDouble, scope: ModelScopeDouble, monkeypatch: pytest.MonkeyPatch):
    with face.down():
        here, there = by_name(hub_checks(""))
    assert (here.status, there.status) == ("warn", "ok")
    assert "cannot be reached" in here.found
    assert "another mirror in HF_ENDPOINT, or --source modelscope" in here.todo
    with scope.down():
        here, there = by_name(hub_checks(""))
    assert (here.status, there.status) == ("ok", "warn")
    assert "--source huggingface" in there.todo


def test_no_hub_at_all(face: HuggingFaceDouble, scope: ModelScopeDouble, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("ALL_PROXY", "")
    with face.down(), scope.down():
        for check in hub_checks(""):
            assert check.status == "bad"
            assert "check the network" in check.todo
            assert "--offline" in check.todo


def test_a_mirror_is_named_to_those_who_have_none(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    monkeypatch.delenv("MODELSCOPE_DOMAIN", raising=False)
    here, there = hubs.probes()
    assert (here.host, there.host) == ("huggingface.co", "www.modelscope.cn")
    assert "HF_ENDPOINT=https://hf-mirror.com" in here.instead


@pytest.mark.parametrize(
    ("fault", "words", "hint"),
    [
        (Status(503), "answers 503", "try again later"),
        (Status(407), "answers 407", "check the network"),
        (Status(200, body=b"<html>Log in to the hotel's network</html>"), "not the hub's", "log-in page"),
        (Redirect("{path}"), "cannot be reached (TooManyRedirects)", "check the network"),
        (Stall(0), "no answer in 0.5 s", "check the network"),
    ],
)
def test_answers_that_are_none(fault, words: str, hint: str, scope: ModelScopeDouble, monkeypatch: pytest.MonkeyPatch):
    with hugging_face(Rule("*", fault, on="api", times=None)) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        here, _ = by_name(hub_checks("", seconds=0.5))
    assert here.status == "warn"
    assert words in here.found
    assert hint in here.todo


def test_a_hub_that_lost_the_repository_was_reached_all_the_same(monkeypatch: pytest.MonkeyPatch):
    with HuggingFaceDouble([]) as face, ModelScopeDouble([], error_status=404) as scope:
        monkeypatch.setenv("HF_ENDPOINT", face.endpoint)
        monkeypatch.setenv("MODELSCOPE_DOMAIN", scope.endpoint)
        assert [check.status for check in hub_checks("")] == ["ok", "ok"]
        assert (face.requests[0].status, scope.requests[0].status) == (401, 404)


def test_an_address_that_is_none(scope: ModelScopeDouble, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "hf-mirror.com")
    here, _ = by_name(hub_checks(""))
    assert "is no sound address" in here.found
    assert "https://HOST" in here.todo


def test_a_server_that_speaks_no_tls(face: HuggingFaceDouble):
    outcome = ask(face.endpoint.replace("http:", "https:"), 5)
    assert "certificate" in outcome.why
    assert "REQUESTS_CA_BUNDLE" in outcome.hint


def test_a_proxy_that_is_down(scope: ModelScopeDouble, monkeypatch: pytest.MonkeyPatch):
    """Port 9 of this machine is a proxy for all but loopback."""
    monkeypatch.setenv("HF_ENDPOINT", "http://hub.invalid")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    here, there = by_name(hub_checks(""))
    assert (here.found, there.status) == ("hub.invalid is not reached through the proxy", "ok")
    assert "the proxy that http_proxy names" in here.todo


def test_a_password_in_an_address_is_not_shown(scope: ModelScopeDouble, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://me:secret@127.0.0.1:9")
    here, _ = by_name(hub_checks(""))
    assert here.status == "warn"
    assert "secret" not in here.found + here.todo


def test_is_object():
    assert is_object(b'{"id": 1}')
    assert not any(map(is_object, (b"", b"[]", b"<html>", b"\xff", b"[" * 100_000)))
