"""Lines 28-31 of what clients depend on: errors, and what OpenAI's client makes of them."""

from __future__ import annotations

from typing import Any

import httpx
import openai
import pytest

from convert.errors import EdgeError
from edge.chat.template import TemplateError
from edge.engine.types import ContextLengthError, EngineError, RequestError
from edge.json_schema import ConstraintError
from edge.server.errors import Busy, Fault, Loading, TooLate, fault_of
from edge.wire.fields import WireError
from tests.edge.server.running import CHAT, HELLO, TEXT, Served, ask, error_of, until
from tests.edge.server.saying import FAULT, replaced, saying

JSON = {"Content-Type": "application/json"}


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (WireError("x", "stop", "c"), 400, "c"),
        (ContextLengthError(9, 5), 400, "context_length_exceeded"),
        (ConstraintError("x"), 400, "invalid_schema"),
        (TemplateError("x"), 400, None),
        (RequestError("x"), 400, None),
        (Busy(3.2), 429, "queue_full"),
        (Loading(), 503, "model_loading"),
        (TooLate(), 503, "deadline_exceeded"),
        (EngineError("x"), 500, "engine_error"),
        (EdgeError("x"), 500, "engine_error"),
        (ValueError("secret"), 500, "internal_error"),
    ],
)
def test_29_statuses(error: Exception, status: int, code: str | None) -> None:
    fault = fault_of(error)
    assert (fault.status, fault.code) == (status, code)
    assert ("Retry-After" in fault.headers) is (status in (429, 503)), "31: only these may be tried again"
    assert "secret" not in fault.message
    body = fault.body()["error"]
    assert body.keys() >= {"message", "type", "param", "code"}
    assert body["type"] == ("invalid_request_error" if status == 400 else body["type"])


def test_retry_after_is_whole_seconds() -> None:
    assert [fault_of(Busy(seconds)).headers["Retry-After"] for seconds in (0.2, 3.2, 60.0)] == ["1", "4", "60"]


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/page/../secret", 404),
        ("GET", "/page/nothing.js", 404),
        ("GET", CHAT, 405),
        ("DELETE", "/v1/models", 405),
        ("POST", "/v1/models", 405),
        ("PUT", CHAT, 405),
    ],
)
def test_28_one_shape_also_for_what_is_not_there(client: httpx.Client, method: str, path: str, status: int) -> None:
    answer = client.request(method, path, headers=JSON)
    error = error_of(answer, status)
    assert error["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
    assert ("allow" in answer.headers) is (status == 405)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"hello",
        b"[]",
        b'"x"',
        b"null",
        b"\xff\xfe",
        b'{"messages": NaN}',
        b'{"messages": Infinity}',
        b'{"a": ' * 100 + b"1" + b"}" * 100,
        b"[" * 100_000,
        b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        b'{"messages": [{"role": "user", "content": "x"}], "seed": ' + b"9" * 5000 + b"}",
    ],
)
@pytest.mark.parametrize("path", [CHAT, TEXT, "/v1/embeddings", "/tokenize"])
def test_28_bodies_that_are_none(client: httpx.Client, path: str, body: bytes) -> None:
    assert error_of(client.post(path, content=body, headers=JSON), 400)["type"] == "invalid_request_error"


def test_28_a_whole_surrogate_pair_is_a_character(client: httpx.Client) -> None:
    answer = client.post("/tokenize", content=b'{"content": "\\ud83d\\ude00"}', headers=JSON)
    tokens = answer.json()["tokens"]
    assert ask(client, {"tokens": tokens}, "/detokenize")["content"] == "😀"


@pytest.mark.parametrize("streams", [False, True])
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_30_too_long(served: Served, client: httpx.Client, path: str, streams: bool) -> None:
    ctx, long = served.engine.ctx, "long " * 3000
    body = {"messages": [{"role": "user", "content": long}]} if path == CHAT else {"prompt": long}
    error = error_of(client.post(path, json={**body, "stream": streams}), 400)
    assert error["code"] == "context_length_exceeded"
    assert f"maximum context length is {ctx} tokens" in error["message"]
    assert "exceeds the available context size" in error["message"]
    assert error["n_ctx"] == ctx and error["n_prompt_tokens"] >= 3000
    assert str(error["n_prompt_tokens"]) in error["message"]


def test_30_the_longest_prompt_is_taken_whole(served: Served, client: httpx.Client) -> None:
    (token,) = served.engine.model.tokenize("A")
    most = served.engine.ctx - 1
    answer = ask(client, {"prompt": [token] * most, "max_tokens": 5}, TEXT)
    assert answer["usage"]["prompt_tokens"] == most
    error_of(client.post(TEXT, json={"prompt": [token] * (most + 1)}), 400)


def test_31_a_failing_answer(speaker: Served, told: httpx.Client, told_sdk: openai.OpenAI) -> None:
    with saying(speaker.engine, f"hello{FAULT}"):
        error = error_of(told.post(CHAT, json={"messages": HELLO}), 500)
        assert error["type"] == "server_error"
        with pytest.raises(openai.InternalServerError) as caught:
            told_sdk.chat.completions.create(model="x", messages=HELLO)
    assert caught.value.code == error["code"]
    until(lambda: speaker.idle)


def test_28_a_bug_tells_nothing_of_a_request(speaker: Served, told: httpx.Client) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("the prompt was: secret")

    with replaced(speaker.engine, "prepare_chat", broken):
        answer = told.post(CHAT, json={"messages": HELLO})
        assert error_of(answer, 500)["code"] == "internal_error" and "secret" not in answer.text
    until(lambda: speaker.idle)
    until(lambda: any("ZeroDivisionError in test_errors.py" in line for line in speaker.log))
    assert not any("secret" in line for line in speaker.log)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"messages": []}, openai.BadRequestError),
        ({"temperature": "x"}, openai.BadRequestError),
        ({"extra_body": {"unheard_of": 1}}, openai.BadRequestError),
        ({"extra_headers": {"Host": "evil.example"}}, openai.PermissionDeniedError),
        ({"extra_headers": {"Content-Type": "text/plain"}}, openai.APIStatusError),
    ],
)
def test_29_openais_classes(sdk: openai.OpenAI, change: dict[str, Any], kind: type[openai.APIStatusError]) -> None:
    with pytest.raises(kind) as caught:
        sdk.chat.completions.create(**{"model": "x", "messages": HELLO, **change})
    assert type(caught.value) is kind and caught.value.message and caught.value.type


def test_29_a_body_that_is_too_large(sdk: openai.OpenAI, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.server.guard.MOST_BODY", 1000)
    with pytest.raises(openai.APIStatusError) as caught:
        sdk.chat.completions.create(model="x", messages=[{"role": "user", "content": "x" * 2000}])
    assert caught.value.status_code == 413 and caught.value.code == "too_large"


def test_faults_of_all_statuses_have_a_type() -> None:
    for status in (400, 401, 403, 404, 405, 408, 413, 415, 418, 429, 500, 502, 503):
        assert str(Fault(status, "x").body()["error"]["type"]).endswith("_error")
