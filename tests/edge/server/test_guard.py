"""Lines 34 and 37 of what clients depend on: who may ask, from where, and how; and that what is typed is text."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from edge.server import guard, protocol
from edge.server.config import Config
from tests.edge.server.running import CHAT, HELLO, TEXT, Served, ask, error_of, running, until
from tests.edge.server.saying import saying, watching

KEYS = ("first-key", "second-key")
PAGE = "https://chat.example.org"
PLAIN_PAGE = "http://chat.example.org:3000"


@pytest.fixture(scope="module")
def guarded(gguf: dict[str, Path]) -> Iterator[Served]:
    """A server that asks for keys, and lets two pages elsewhere ask."""
    config = Config(port=0, keys=KEYS, origins=(PAGE, PLAIN_PAGE), hosts=("kiosk.example.org",))
    with running(gguf["tiny-qwen"], config) as one:
        yield one


@pytest.fixture
def stranger(guarded: Served) -> Iterator[httpx.Client]:
    """A client without a key."""
    with guarded.client() as one:
        yield one


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


# --- keys


@pytest.mark.parametrize("headers", [bearer(KEYS[0]), bearer(KEYS[1]), {"x-api-key": KEYS[1]}])
def test_34_any_of_the_keys(stranger: httpx.Client, headers: dict[str, str]) -> None:
    for scheme in ("Bearer", "bearer"):
        given = {name: value.replace("Bearer", scheme) for name, value in headers.items()}
        assert stranger.get("/v1/models", headers=given).status_code == 200


WRONG: list[dict[str, str]] = [
    {},
    bearer("third-key"),
    bearer(KEYS[0][:-1]),
    bearer(KEYS[0] + "x"),
    {"Authorization": "Bearer"},
    {"Authorization": KEYS[0]},
    {"Authorization": f"Basic {KEYS[0]}"},
    {"x-api-key": "third-key"},
    {"x-api-key": "sch\u00f6n".encode("latin-1")},
]


@pytest.mark.parametrize("headers", WRONG)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models"),
        ("POST", CHAT),
        ("POST", TEXT),
        ("GET", "/metrics"),
        ("GET", "/openapi.json"),
        ("GET", "/x"),
    ],
)
def test_29_no_key_no_answer(stranger: httpx.Client, method: str, path: str, headers: dict[str, str]) -> None:
    answer = stranger.request(method, path, headers=headers)
    error = error_of(answer, 401)
    assert error["code"] == "invalid_api_key" and error["type"] == "authentication_error" and error["param"] is None
    assert answer.headers["www-authenticate"] == "Bearer" and "key" not in answer.request.url.query.decode()
    assert not any(key in answer.text for key in (*KEYS, "third-key"))


def test_29_openais_client_and_keys(guarded: Served) -> None:
    with guarded.sdk(KEYS[1]) as known:
        assert known.models.list().data
    with guarded.sdk("third-key") as unknown, pytest.raises(openai.AuthenticationError):
        unknown.chat.completions.create(model="x", messages=HELLO)


@pytest.mark.parametrize("path", ["/health", "/v1/health", "/", "/page/settings.json", "/favicon.ico"])
def test_34_the_page_and_health_are_public(stranger: httpx.Client, path: str) -> None:
    assert stranger.get(path).status_code in (200, 404)


@pytest.mark.parametrize("path", ["/page/../v1/models", "/page/%2e%2e/v1/models", "//v1/models", "/page/../../x"])
def test_no_way_around_the_key(guarded: Served, path: str) -> None:
    with guarded.connect() as raw:
        raw.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
        answer = received(raw)
    assert answer.split()[1] in (b"401", b"404") and guarded.serving.name.encode() not in answer


def test_keys_tell_clients_apart(guarded: Served, stranger: httpx.Client) -> None:
    with watching(guarded.engine) as seen:
        for key in (*KEYS, KEYS[0]):
            answer = stranger.post(CHAT, json={"messages": HELLO, "max_tokens": 2}, headers=bearer(key))
            assert answer.status_code == 200
    names = [one.request.client for one in seen]
    assert names[0] == names[2] != names[1] and not any(key in name for key in KEYS for name in names)


def test_without_keys_addresses_do(served: Served, client: httpx.Client) -> None:
    with watching(served.engine) as seen:
        ask(client, {"messages": HELLO, "max_tokens": 2})
    assert seen[0].request.client == "127.0.0.1"


# --- names of this server


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "127.0.0.1.evil.example", "", "a b"]
)
@pytest.mark.parametrize("path", ["/", "/v1/models"])
def test_37_an_unknown_host(stranger: httpx.Client, host: str, path: str) -> None:
    """A page elsewhere can point a name of its own here, and would be of one origin with us."""
    error = error_of(stranger.get(path, headers={"Host": host, **bearer(KEYS[0])}), 403)
    assert error["code"] == "unknown_host" and error["type"] == "permission_error"


OWN = ["localhost", "LOCALHOST:8080", "localhost.", "127.0.0.1", "127.0.0.1:9", "[::1]", "[::1]:8080", "192.168.0.7:80"]


@pytest.mark.parametrize("host", [*OWN, "kiosk.example.org", "Kiosk.Example.Org:8080", socket.gethostname()])
def test_37_own_names(stranger: httpx.Client, host: str) -> None:
    assert stranger.get("/health", headers={"Host": host}).status_code == 200


# --- pages elsewhere


def preflight(client: httpx.Client, origin: str, **more: str) -> httpx.Response:
    headers = {"Origin": origin, "Access-Control-Request-Method": "POST", **more}
    return client.options(CHAT, headers={"Access-Control-Request-Headers": "authorization,content-type", **headers})


@pytest.mark.parametrize("origin", [PAGE, PLAIN_PAGE, PAGE.upper()])
def test_34_a_preflight_needs_no_key(stranger: httpx.Client, origin: str) -> None:
    answer = preflight(stranger, origin)
    assert answer.status_code == 204 and answer.content == b""
    assert answer.headers["access-control-allow-origin"] == origin
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "authorization,content-type"
    assert "access-control-allow-private-network" not in answer.headers


def test_37_private_networks(stranger: httpx.Client) -> None:
    name = "access-control-allow-private-network"
    asks = {"Access-Control-Request-Private-Network": "true"}
    assert preflight(stranger, PAGE, **asks).headers[name] == "true"
    assert name not in preflight(stranger, PLAIN_PAGE, **asks).headers, "only for https"
    assert name not in preflight(stranger, "https://evil.example", **asks).headers


@pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{PAGE}.evil.example", ""])
def test_34_pages_that_nobody_named(stranger: httpx.Client, origin: str) -> None:
    refused = preflight(stranger, origin)
    assert error_of(refused, 403)["code"] == "unknown_origin"
    asked = stranger.get("/health", headers={"Origin": origin})
    for answer in (refused, asked):
        assert not any(name.startswith("access-control") for name in answer.headers)


def test_34_answers_to_named_pages(stranger: httpx.Client) -> None:
    """Also errors, which the page could not read."""
    for headers, status in ((bearer(KEYS[0]), 200), ({}, 401)):
        answer = stranger.get("/v1/models", headers={"Origin": PAGE, **headers})
        assert answer.status_code == status
        assert answer.headers["access-control-allow-origin"] == PAGE and answer.headers["vary"] == "Origin"
        assert "access-control-allow-credentials" not in answer.headers
        assert "Retry-After" in answer.headers["access-control-expose-headers"]


# --- bodies


@pytest.mark.parametrize(
    "kind", [None, "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"]
)
def test_37_bodies_are_json_by_name(client: httpx.Client, kind: str | None) -> None:
    """A page can send the others anywhere without asking."""
    headers = {"Content-Type": kind} if kind else {}
    answer = client.post(CHAT, content=b'{"messages": []}', headers=headers)
    assert error_of(answer, 415)["code"] == "invalid_content_type"


@pytest.mark.parametrize(
    "kind", ["application/json", "application/json; charset=utf-8", "Application/JSON;charset=utf-8"]
)
def test_json_with_an_encoding(client: httpx.Client, kind: str) -> None:
    assert client.post("/tokenize", content=b'{"content": "x"}', headers={"Content-Type": kind}).status_code == 200


def test_29_a_large_body_is_not_read(served: Served) -> None:
    with served.connect() as raw:
        raw.sendall(head_of(guard.MOST_BODY + 1))
        answer = received(raw)
    assert answer.startswith(b"HTTP/1.1 413 ") and b'"too_large"' in answer and b"16 MiB" in answer


def test_29_a_large_body_of_unknown_length(client: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "MOST_BODY", 1000)
    for size, status in ((300, 200), (1100, 413)):
        parts = [b'{"content": "', *[b"x" * 100] * (size // 100), b'"}']
        answer = client.post("/tokenize", content=iter(parts), headers={"Content-Type": "application/json"})
        assert answer.status_code == status
    assert error_of(answer, 413)["code"] == "too_large"


@pytest.mark.parametrize("method", ["POST", "GET"])
def test_a_body_of_two_lengths(served: Served, method: str) -> None:
    """A proxy before us may see another end of it, and what follows as the next request."""
    with served.connect() as raw:
        chunked = b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n"
        raw.sendall(head_of(5).replace(b"POST", method.encode()).removesuffix(b"\r\n") + chunked)
        answer = received(raw)
    assert answer.startswith(b"HTTP/1.1 400 ") and answer.count(b"HTTP/1.1 ") == 1


def test_a_slow_body(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.05)
    with served.connect() as raw:
        raw.sendall(head_of(100) + b"{")
        answer = received(raw)
    assert answer.startswith(b"HTTP/1.1 408 ") and b'"request_timeout"' in answer


@pytest.mark.parametrize("streams", [False, True])
def test_the_time_for_a_body_is_none_for_an_answer(
    speaker: Served, told: httpx.Client, monkeypatch: pytest.MonkeyPatch, streams: bool
) -> None:
    monkeypatch.setattr(guard, "BODY_SECONDS", 0.5)
    with saying(speaker.engine, "x" * 30, pause=0.03):
        answer = told.post(CHAT, json={"messages": HELLO, "stream": streams})
    assert answer.status_code == 200 and answer.elapsed.total_seconds() > guard.BODY_SECONDS


@pytest.mark.parametrize("parts", [[], [b"GET /heal"], [b"GET /heal", b"th HTTP/1.1\r\n", b"Host: "]])
def test_a_slow_head(served: Served, monkeypatch: pytest.MonkeyPatch, parts: list[bytes]) -> None:
    """The second piece of a head ended the watch over it, and the connection stayed for ever."""
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    with served.connect() as raw:
        for part in parts:
            raw.sendall(part)
            assert served.serving.metrics.text()  # a moment, so that they come apart
        assert received(raw) == b"", "the connection is closed"


def test_a_second_head_on_a_connection(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    request = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with served.connect() as raw:
        raw.sendall(request)
        answer = b""
        while not answer.endswith(b"}"):
            answer += raw.recv(4096)
        assert answer.startswith(b"HTTP/1.1 200 ")
        raw.sendall(request[:20])
        assert received(raw) == b""


@pytest.mark.parametrize("data", [b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n" * 4])
def test_28_what_is_no_http(served: Served, data: bytes) -> None:
    with served.connect() as raw:
        raw.sendall(data)
        answer = received(raw)
    assert answer.startswith(b"HTTP/1.1 400 ") and b"content-type: application/json" in answer.lower()
    assert b'"invalid_request_error"' in answer


def test_a_client_that_goes_in_mid_body(served: Served, client: httpx.Client) -> None:
    """It was told of as a failure of the server."""
    before = len(served.log)
    with served.connect() as raw:
        raw.sendall(head_of(100) + b"{")
    until(lambda: len(served.log) > before)
    assert not any("failed" in line for line in served.log[before:])


def head_of(length: int) -> bytes:
    lines = [
        "POST /tokenize HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def received(raw: socket.socket) -> bytes:
    """All that comes until the server closes the connection."""
    data = b""
    while part := raw.recv(65536):
        data += part
    return data


# --- what is typed


def test_37_what_is_typed_is_text(served: Served, client: httpx.Client) -> None:
    model = served.engine.model

    def controls(text: str) -> list[int]:
        with watching(served.engine) as seen:
            messages = [
                {"role": "system", "content": text},
                {"role": "user", "content": [{"type": "text", "text": text}]},
            ]
            ask(client, {"messages": messages, "max_tokens": 1})
        return [token for token in seen[0].request.tokens if model.is_control(token)]

    harmless = controls("x y")
    assert harmless
    for text in model.control_texts:
        assert controls(f"x{text}y") == harmless, text


def test_no_header_tells_of_the_program(client: httpx.Client) -> None:
    answer: Any = client.get("/health")
    assert "server" not in answer.headers
