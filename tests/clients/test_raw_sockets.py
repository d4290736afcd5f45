"""What is no HTTP, or hardly: each time a clean refusal or a closed connection, and the server goes on."""

from __future__ import annotations

import random
import select

import pytest

from tests.clients.command import Command
from tests.clients.raw import (
    HOST,
    Answer,
    ask,
    check_refused,
    connected,
    end_sending,
    post,
    read_answer,
    request,
    send,
)

CHAT = "/v1/chat/completions"
HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 4}
GET = b"GET /v1/models HTTP/1.1\r\n"
POST = b"POST /tokenize HTTP/1.1\r\n" + HOST + b"Content-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
BODY = b'{"content": "a"}'
CLIENT_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(190))

REFUSED = {
    "huge header": GET + HOST + b"X: " + b"a" * 200_000 + b"\r\n\r\n",
    "many headers": GET + HOST + b"".join(b"X-%d: 1\r\n" % i for i in range(20_000)) + b"\r\n",
    "huge path": b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "endless first line": b"a" * 200_000,
    "bad UTF-8 in the path": b"GET /v1/\xff\xfe HTTP/1.1\r\n" + HOST + b"\r\n",
    "bad UTF-8 in the path, escaped": request("GET", "/v1/models/%ff%fe"),
    "NUL in the path": request("GET", "/v1/models/%00"),
    "bad UTF-8 in a header's name": GET + HOST + b"X\xff: 1\r\n\r\n",
    "NUL in a header": GET + HOST + b"X: a\0b\r\n\r\n",
    "space before a colon": GET + HOST + b"X : 1\r\n\r\n",
    "no colon": GET + HOST + b"nothing\r\n\r\n",
    "no host": GET + b"\r\n",
    "two hosts": GET + HOST + HOST + b"\r\n",
    "another host": GET + b"Host: evil.example\r\n\r\n",
    "broken host": GET + b"Host: [::1\r\n\r\n",
    "host of bytes": GET + b"Host: \xff\xfe\r\n\r\n",
    "absolute address of elsewhere": request("GET", "http://evil.example/v1/models"),
    "HTTP/0.9": b"GET /v1/models\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "HTTP/one": b"GET / HTTP/one\r\n" + HOST + b"\r\n",
    "small letters": b"get /v1/models http/1.1\r\n" + HOST + b"\r\n",
    "TLS": CLIENT_HELLO,
    "SSH": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "redis": b"*1\r\n$4\r\nPING\r\n\r\n",
    "SOCKS": b"\x05\x01\x00",
    "BREW": request("BREW", "/v1/models"),
    "lower-case method": request("get", "/v1/models"),
    "TRACE": request("TRACE", "/"),
    "CONNECT": b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org:443\r\n\r\n",
    "CONNECT to itself": b"CONNECT 127.0.0.1:80 HTTP/1.1\r\n" + HOST + b"\r\n",
    "OPTIONS of all": request("OPTIONS", "*"),
    "DELETE": request("DELETE", "/v1/models/tiny-qwen"),
    "PUT": request("PUT", CHAT, BODY),
    "GET of a POST": request("GET", CHAT),
    "POST of a GET": request("POST", "/v1/models", BODY),
    "GET with a body": request("GET", CHAT, BODY),
    "path upwards": request("GET", "/page/..%2f..%2fapp.py"),
    "path upwards, unescaped": request("GET", "/page/../../app.py"),
    "web socket": request("GET", CHAT, headers=b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    "upgrade with a body": request("POST", CHAT, b"", headers=b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    "bad chunk size": CHUNKED + b"zz\r\n" + BODY,
    "negative chunk": CHUNKED + b"-5\r\n" + BODY,
    "huge chunk size": CHUNKED + b"f" * 40 + b"\r\n" + BODY,
    "chunk that is longer than its size": CHUNKED + b"3\r\n" + BODY + b"\r\n0\r\n\r\n",
    "chunk size of 100,000 digits": CHUNKED + b"0" * 100_000 + b"\r\n",
    "two lengths": POST + b"Content-Length: 16\r\nContent-Length: 17\r\n\r\n" + BODY,
    "lengths in one": POST + b"Content-Length: 16, 17\r\n\r\n" + BODY,
    "negative length": POST + b"Content-Length: -1\r\n\r\n" + BODY,
    "length with a sign": POST + b"Content-Length: +16\r\n\r\n" + BODY,
    "hexadecimal length": POST + b"Content-Length: 0x10\r\n\r\n" + BODY,
    "length of 5,000 digits": POST + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n" + BODY,
    "length of 20 digits": POST + b"Content-Length: " + b"9" * 20 + b"\r\n\r\n" + BODY,
    "length and chunks": CHUNKED.replace(HOST, HOST + b"Content-Length: 16\r\n") + b"10\r\n" + BODY + b"\r\n0\r\n\r\n",
    "length and chunks of a GET": GET + HOST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunks twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n10\r\n" + BODY,
    "unknown coding": POST + b"Transfer-Encoding: gzip\r\n\r\n" + BODY,
    "chunks within a coding": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + BODY,
    "too large by its length": POST + b"Content-Length: 1000000000\r\n\r\n" + BODY,
    "too large in chunks": CHUNKED + b"".join(b"100000\r\n" + bytes(1 << 20) + b"\r\n" for _ in range(20)),
    "no content type": b"POST /tokenize HTTP/1.1\r\n" + HOST + b"Content-Length: 16\r\n\r\n" + BODY,
    "form": request("POST", "/tokenize", BODY).replace(b"application/json", b"application/x-www-form-urlencoded"),
    "text": request("POST", "/tokenize", BODY).replace(b"application/json", b"text/plain"),
    "file": request("POST", "/tokenize", BODY).replace(b"application/json", b"multipart/form-data; boundary=a"),
    "compressed": request("POST", "/tokenize", b"\x1f\x8b\x08\0\0\0\0\0", headers=b"Content-Encoding: gzip\r\n"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(tiny: Command, name: str):
    check_refused(ask(tiny, REFUSED[name]))


WITH_A_WORD = ("huge header", "bad chunk size", "two lengths", "length and chunks", "TLS", "no content type", "BREW")


@pytest.mark.parametrize("name", WITH_A_WORD)
def test_refused_with_a_word(tiny: Command, name: str):
    """A closed connection alone would leave the one who debugs a client without help."""
    answer = ask(tiny, REFUSED[name])
    assert answer is not None
    check_refused(answer)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "TRACE", "BREW"])
def test_every_method_of_every_path_is_answered(tiny: Command, method: str):
    for path in ("/", "/health", "/metrics", "/v1/models", CHAT, "/openapi.json", "/nothing", "//", "/v1/"):
        answer = ask(tiny, request(method, path))
        assert answer is not None and answer.status < 500
        if answer.status >= 400 and method != "HEAD":
            check_refused(answer)


def test_bytes_in_headers_are_no_failure(tiny: Command):
    odd = b"Authorization: Bearer \xff\xfe\r\nX-Api-Key: \xc3\xa4\r\nOrigin: \xff\r\nCookie: \xff\r\nAccept: \xff\r\n"
    answer = ask(tiny, request("GET", "/v1/models", headers=odd))
    assert answer is not None and answer.status == 200
    preflight = b"Access-Control-Request-Method: \xff\r\nOrigin: \xff\r\n"
    check_refused(ask(tiny, request("OPTIONS", CHAT, headers=preflight)), 403)


def test_old_http(tiny: Command):
    """Without a chunked coding a stream ends with its connection."""
    answer = ask(tiny, b"GET /health HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n")
    assert answer is not None and answer.status == 200
    check_refused(ask(tiny, b"GET /health HTTP/1.0\r\n\r\n"), 403)
    data = post(CHAT, {**HELLO, "stream": True}).replace(b"HTTP/1.1", b"HTTP/1.0")
    streamed = ask(tiny, data)
    assert streamed is not None and streamed.body.endswith(b"data: [DONE]\n\n")
    assert streamed.headers["transfer-encoding"] is None


def test_an_upgrade_is_not_taken_up(tiny: Command):
    answer = ask(tiny, request("GET", "/v1/models", headers=b"Connection: Upgrade\r\nUpgrade: websocket\r\n"))
    assert answer is not None and answer.status == 200


def test_a_client_that_waits_to_be_told_to_go_on(tiny: Command):
    body = BODY
    with connected(tiny) as connection, connection.makefile("rb") as file:
        send(connection, request("POST", "/tokenize", body, headers=b"Expect: 100-continue\r\n")[: -len(body)])
        assert file.readline().startswith(b"HTTP/1.1 100")
        assert file.readline() == b"\r\n"
        send(connection, body)
        answer = read_answer(file)
    assert answer is not None and answer.status == 200


def test_a_client_that_waits_is_refused_before_it_sends(tiny: Command):
    head = POST + b"Expect: 100-continue\r\nContent-Length: 1000000000\r\n\r\n"
    check_refused(ask(tiny, head), 413)


def test_one_after_the_other_on_one_connection(tiny: Command):
    """Refusals do not end it, where the next request can be found."""
    with connected(tiny) as connection, connection.makefile("rb") as file:
        for data, status in (
            (request("GET", "/v1/models"), 200),
            (request("GET", "/nothing"), 404),
            (post("/tokenize", {"content": 1}), 400),
            (post(CHAT, HELLO), 200),
            (post("/tokenize", {"content": "a"}), 200),
        ):
            send(connection, data)
            answer = read_answer(file)
            assert answer is not None and answer.status == status


def test_pipelined(tiny: Command):
    """Twenty requests before the first answer: all are answered, in order."""
    with connected(tiny) as connection, connection.makefile("rb") as file:
        send(connection, b"".join(post("/detokenize", {"tokens": [index]}) + post(CHAT, HELLO) for index in range(10)))
        for index in range(10):
            one, other = read_answer(file), read_answer(file)
            assert one is not None and other is not None
            expected = ask(tiny, post("/detokenize", {"tokens": [index]}))
            assert expected is not None and one.json() == expected.json()
            assert other.json()["object"] == "chat.completion"


def test_a_stream_and_what_is_pipelined_behind_it(tiny: Command):
    with connected(tiny) as connection, connection.makefile("rb") as file:
        send(connection, post(CHAT, {**HELLO, "stream": True}) + request("GET", "/v1/models") + b"rubbish\r\n\r\n")
        first, second, third = read_answer(file), read_answer(file), read_answer(file)
        assert first is not None and first.body.endswith(b"data: [DONE]\n\n")
        assert second is not None and second.json()["object"] == "list"
        check_refused(third)
        assert read_answer(file) is None


@pytest.mark.parametrize("part", ["head", "body", "chunk"])
def test_half_a_request_and_the_end(tiny: Command, part: str):
    whole = post(CHAT, HELLO)
    data = {"head": whole.partition(b"\r\n\r\n")[0], "body": whole, "chunk": CHUNKED + b"ff\r\n" + BODY}[part]
    for size in (1, len(data) // 2, len(data) - 1):
        check_refused(ask(tiny, data[:size], end=True))


def test_random_bytes(tiny: Command):
    draw = random.Random(20)
    for _ in range(60):
        data = draw.randbytes(draw.choice([1, 10, 100, 1000, 20_000]))
        check_refused(ask(tiny, data + draw.choice([b"", b"\r\n", b"\r\n\r\n", b"\n\n"]), end=True))


def test_requests_with_random_bytes_in_them(tiny: Command):
    """Some stay right: what matters is that none is the server's failure."""
    draw, good = random.Random(21), post("/tokenize", {"content": "Where is the office?", "add_special": True})
    answered = 0
    for _ in range(200):
        data = bytearray(good)
        for _ in range(draw.choice([1, 2, 8])):
            data[draw.randrange(len(data))] = draw.randrange(256)
        answer = ask_for_a_while(tiny, bytes(data))
        if answer is None or answer.status >= 400:
            check_refused(answer)
        else:
            answered += 1
    assert answered > 0


def ask_for_a_while(server: Command, data: bytes) -> Answer | None:
    """It may be waiting for more, by what now stands in the head."""
    with connected(server) as connection:
        send(connection, data)
        if not select.select([connection], [], [], 0.5)[0]:
            end_sending(connection)
        with connection.makefile("rb") as file:
            return read_answer(file, without_body=data.startswith(b"HEAD"))


def test_many_connections_that_say_nothing(tiny: Command):
    opened = [connected(tiny) for _ in range(300)]
    for one in opened:
        one.__enter__()
    try:
        answer = ask(tiny, post(CHAT, HELLO))
        assert answer is not None and answer.status == 200
    finally:
        for one in opened:
            one.__exit__(None, None, None)
