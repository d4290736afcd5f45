"""One question to a server, and whatever a server may send back."""

from __future__ import annotations

import pytest

from edge.compare.asking import Answer, NoAnswer, Server, ask, is_loopback, models, parse_address
from tests.edge.compare.fake import Reply, end, fake, piece, says

HELLO = [{"role": "user", "content": "你好"}]


def answer_to(reply: Reply) -> Answer:
    with fake(lambda body: reply) as server:
        return ask(Server(server.base, "one"), HELLO)


def test_an_answer_and_its_figures() -> None:
    found = answer_to([piece("你"), piece("好"), *end(prompt=7, tokens=3)])
    assert (found.text, found.finish, found.tokens, found.prompt_tokens) == ("你好", "stop", 3, 7)
    assert found.ttft is not None and 0 < found.ttft < found.seconds
    assert found.rate is not None and found.rate > 0


def test_what_is_asked() -> None:
    with fake(lambda body: says("yes")) as server:
        ask(Server(server.base, "one", key="secret"), HELLO, max_tokens=5, seed=3)
    (body,) = server.asked
    assert body["messages"] == HELLO and (body["max_tokens"], body["seed"], body["model"]) == (5, 3, "one")
    assert body["stream"] is True and body["stream_options"] == {"include_usage": True}
    assert server.keys == ["Bearer secret"]


def test_thoughts_are_the_first_token_but_not_the_answer() -> None:
    thought = {"choices": [{"delta": {"reasoning_content": "hm"}}]}
    found = answer_to([thought, piece("yes"), *end(tokens=9)])
    assert found.text == "yes" and found.rate is not None


def test_a_server_that_counts_nothing() -> None:
    """Some know no stream_options."""
    found = answer_to([piece("a"), piece("b"), b"[DONE]"])
    assert (found.text, found.tokens, found.prompt_tokens) == ("ab", None, None)
    assert found.rate is not None


def test_one_piece_has_no_speed() -> None:
    found = answer_to([piece("a"), *end(tokens=1)])
    assert found.rate is None and found.ttft is not None


def test_an_empty_answer() -> None:
    found = answer_to(end(tokens=0))
    assert (found.text, found.ttft, found.rate) == ("", None, None)


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        ((400, b'{"error": {"message": "too long\\u001b[31m"}}'), r"refused \(400\): too long \[31m"),
        ((500, b"<html>"), r"refused \(500\): <html>"),
        ((302, b""), r"refused \(302\)"),
        ((404, b'{"error": "no such model"}'), "no such model"),
        ((400, b"[" * 3000), r"refused \(400\)"),
        ([piece("a"), {"error": {"message": "out of memory"}}], "broke off: out of memory"),
        ([b"no json"], "sends no events"),
        ([b"[1]"], "sends no events"),
        ([b"[" * 5000], "sends no events"),
    ],
)
def test_no_answer(reply: Reply, says: str) -> None:
    with pytest.raises(NoAnswer, match=says):
        answer_to(reply)


@pytest.mark.parametrize(
    "event",
    [{"choices": "x"}, {"choices": [1]}, {"choices": [{"delta": 1}]}, {"choices": [{"delta": {"content": 1}}]},
     {"choices": [], "usage": 1}, {"choices": [{"delta": {}, "finish_reason": {}}]},
     {"usage": {"completion_tokens": "9"}},
     {"choices": None}],
)  # fmt: skip
def test_events_of_any_shape_break_nothing(event: dict[str, object]) -> None:
    found = answer_to([event, piece("a"), b"[DONE]"])
    assert (found.text, found.tokens) == ("a", None)


def test_nobody_is_there() -> None:
    with fake(lambda body: says("yes")) as server:
        pass
    with pytest.raises(NoAnswer, match="does not answer"):
        ask(Server(server.base, "one"), HELLO)


def test_the_models_of_a_server() -> None:
    with fake(lambda body: says(""), models=("a", "b")) as server:
        assert [one["id"] for one in models(Server(server.base, ""))] == ["a", "b"]


def test_addresses() -> None:
    assert parse_address("http://127.0.0.1:11434/v1#qwen2.5:7b") == ("http://127.0.0.1:11434/v1", "qwen2.5:7b")
    assert parse_address("https://example.org/api/v1/") == ("https://example.org/api/v1", "")
    assert is_loopback("http://[::1]:1/v1") and is_loopback("http://localhost/v1")
    assert not is_loopback("http://10.0.0.1/v1") and not is_loopback("http://localhost.example.org/v1")


@pytest.mark.parametrize("text", ["http://", "http://host:port/v1", "ftp://a/v1", "http://[::1/v1"])
def test_no_address(text: str) -> None:
    from convert.errors import EdgeError

    with pytest.raises(EdgeError, match="is no address"):
        parse_address(text)


def test_a_proxy_is_not_asked_for_a_server_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    assert answer_to(says("yes")).text == "yes"
