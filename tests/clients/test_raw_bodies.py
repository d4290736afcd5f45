"""Bodies that are no JSON, and JSON that no client would write."""

from __future__ import annotations

import codecs
import json
import select
import time
from typing import Any

import pytest

from tests.clients.command import Command
from tests.clients.raw import Answer, ask, check_refused, connected, post, read_answer, request, send

CHAT = "/v1/chat/completions"
MESSAGES = [{"role": "user", "content": "Hello"}]
# endpoint -> a good body of it
ENDPOINTS: dict[str, dict[str, Any]] = {
    CHAT: {"messages": MESSAGES, "max_tokens": 4},
    "/v1/completions": {"prompt": "Hello", "max_tokens": 4},
    "/v1/embeddings": {"input": "Hello"},
    "/tokenize": {"content": "Hello"},
    "/detokenize": {"tokens": [1, 2]},
    "/apply-template": {"messages": MESSAGES},
}
DEEP = 10_000
# No JSON, or none that is to be read. {} stands for a good body without its braces.
BROKEN = {
    "nothing": b"",
    "a space": b" ",
    "null": b"null",
    "a list": b"[]",
    "a text": b'"a"',
    "a number": b"1",
    "half": b'{"messages": [',
    "no object": b"{]",
    "single quotes": b"{'a': 1}",
    "a comma too many": b"{{},}",
    "a remark": b"{{} /* a */}",
    "more behind it": b"{{}} 1",
    "two of them": b"{{}}{{}}",
    "a byte order mark": codecs.BOM_UTF8 + b"{{}}",
    "a NUL behind it": b"{{}}\0",
    "a raw NUL": b'{{}, "user": "\0"}',
    "a raw line break": b'{{}, "user": "\n"}',
    "bad UTF-8": b'{{}, "user": "\xff"}',
    "half a character in UTF-8": b'{{}, "user": "\xe4\xb8"}',
    "an overlong character": b'{{}, "user": "\xc0\xaf"}',
    "a surrogate in UTF-8": b'{{}, "user": "\xed\xa0\x80"}',
    "a lone surrogate": rb'{{}, "user": "\ud83d"}',
    "a lone low surrogate": rb'{{}, "user": "\uDE00"}',
    "a lone surrogate in a key": rb'{{}, "\ud83d": null}',
    "a lone surrogate, deep": rb'{{}, "metadata": {"a": [{"b": "\uD83D"}]}}',
    "NaN": b'{{}, "user": NaN}',
    "infinity": b'{{}, "user": -Infinity}',
    "a number of 5,000 digits": b'{{}, "user": ' + b"1" * 5000 + b"}",
    "a deep list": b'{{}, "user": ' + b"[" * DEEP + b"]" * DEEP + b"}",
    "a deep object": b'{{}, "user": ' + b'{"a": ' * DEEP + b"1" + b"}" * DEEP + b"}",
    "a list without end": b"[" * 1_000_000,
    "a hundred levels": b'{{}, "metadata": ' + b"[" * 100 + b"]" * 100 + b"}",
    "UTF-16": '{"messages": []}'.encode("utf-16"),
    "UTF-32": '{"messages": []}'.encode("utf-32"),
    "latin-1": '{"user": "ä"}'.encode("latin-1"),
    "gzip": b"\x1f\x8b\x08\0\0\0\0\0\0\0\0\0",
    "a form": b"prompt=hello&n=1",
}


def filled(template: bytes, good: dict[str, Any]) -> bytes:
    return template.replace(b"{}", json.dumps(good).encode()[1:-1], 1).replace(b"{}", b"")


@pytest.mark.parametrize("path", ENDPOINTS)
def test_broken(tiny: Command, path: str):
    for name, template in BROKEN.items():
        answer = ask(tiny, request("POST", path, filled(template, ENDPOINTS[path])))
        assert answer is not None, name
        check_refused(answer, 400)


def test_one_body_in_many_chunks(tiny: Command):
    """Cut anywhere, also within a character."""
    body = json.dumps({"content": "Wo ist das Büro? 售票处在哪里？"}, ensure_ascii=False).encode()
    whole = ask(tiny, request("POST", "/tokenize", body))
    chunks = b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in body) + b"0\r\n\r\n"
    head = b"POST /tokenize HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    head += b"Transfer-Encoding: chunked\r\n\r\n"
    chunked = ask(tiny, head + chunks)
    assert whole is not None and chunked is not None and whole.status == 200
    assert whole.json() == chunked.json()


def check_fair(answer: Answer | None) -> None:
    """Answered, or refused with a word."""
    assert answer is not None
    if answer.status != 200:
        check_refused(answer, 400)


@pytest.mark.parametrize("path", ENDPOINTS)
def test_keys_that_come_twice(tiny: Command, path: str):
    """JSON's readers disagree; the last one is meant here."""
    good = json.dumps(ENDPOINTS[path])
    key = next(iter(ENDPOINTS[path]))
    twice = ask(tiny, request("POST", path, (f'{{"{key}": 17, ' + good[1:]).encode()))
    assert twice is not None and twice.status == 200
    check_refused(ask(tiny, request("POST", path, (good[:-1] + f', "{key}": {{"a": 1}}}}').encode())), 400)


HUGE = 10**4000
ODD: list[Any] = [
    *(None, True, 0, 1, -1, 0.5, -0.0, 1e308, 5e-324, 2**31, 2**32, 2**63, 2**64, -(2**63), HUGE, -HUGE),
    *("", "a", "1", "\0", "<|im_end|>", "a" * 100_000, "\u202e\ufeff\ufffe", "😀" * 1000),
    *([], [1], ["a"], [""], [None], [[]], [[1]], ["a"] * 3000, [0] * 3000, [HUGE], {}, {"a": 1}, {"": ""}, {"1": HUGE}),
]
FIELDS = {
    CHAT: (
        "messages model stream stream_options max_tokens max_completion_tokens temperature top_p top_k min_p "
        "repeat_penalty presence_penalty frequency_penalty seed stop n logit_bias service_tier logprobs top_logprobs "
        "tools tool_choice parallel_tool_calls response_format modalities reasoning_effort chat_template_kwargs "
        "thinking_budget grammar user store metadata functions function_call audio prediction nonsense"
    ),
    "/v1/completions": "prompt suffix echo logprobs ignore_eos best_of logit_bias stop max_tokens n",
    "/v1/embeddings": "input encoding_format dimensions model user",
    "/tokenize": "content add_special parse_special with_pieces",
    "/detokenize": "tokens",
    "/apply-template": "messages tools chat_template_kwargs add_generation_prompt",
}


ALL_FIELDS = [(path, field) for path, fields in FIELDS.items() for field in fields.split()]


@pytest.mark.parametrize(("path", "field"), ALL_FIELDS)
def test_odd_values(tiny: Command, path: str, field: str):
    for value in ODD:
        if (field, value) == ("n", 1) or (field in ("max_tokens", "max_completion_tokens") and value is None):
            continue  # nothing odd, and long
        body = {**ENDPOINTS[path], field: value}
        check_fair(ask(tiny, post(path, body)))


MESSAGE_FIELDS = ("role", "content", "name", "tool_calls", "tool_call_id", "reasoning_content", "reasoning", "refusal")


@pytest.mark.parametrize("field", MESSAGE_FIELDS)
def test_odd_messages(tiny: Command, field: str):
    for value in ODD:
        for role in ("user", "assistant", "tool"):
            message = {"role": role, "content": "Hello", field: value}
            check_fair(ask(tiny, post(CHAT, {"messages": [message], "max_tokens": 1})))


ODD_PARTS: list[Any] = [
    {"type": "text"},
    {"type": "text", "text": None},
    {"type": "text", "text": 1},
    {"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/"}},
    {"type": "input_audio", "input_audio": {}},
    {"type": "file", "file": {"file_id": "/etc/passwd"}},
    {"type": 1},
    {"text": "no type"},
    "text",
    None,
]


@pytest.mark.parametrize("part", ODD_PARTS, ids=lambda part: json.dumps(part)[:30])
def test_a_part_that_is_no_text_is_refused(tiny: Command, part: Any):
    check_refused(ask(tiny, post(CHAT, {"messages": [{"role": "user", "content": [part]}]})), 400)


SCHEMAS: list[Any] = [
    *({"type": "no"}, {"$ref": "#/nowhere"}, {"$ref": "http://127.0.0.1:1/a"}, {"$ref": "file:///etc/passwd"}),
    *({"type": "object", "required": ["a" * 10_000]}, {"pattern": "("}, {"pattern": "(a+)+$"}, {"minItems": HUGE}),
    *({"type": "string", "maxLength": 2**62}, {"enum": []}, {"enum": list(range(50_000))}, {"not": {}}, {"oneOf": []}),
    *({"type": "array", "minItems": 5, "maxItems": 2}, {"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}),
    *({"allOf": [{"type": "string"}, {"type": "number"}]}, {"properties": {"a" * 5000: {}}}, {"const": "\0"}),
    {"type": []},
    {"anyOf": [{"type": "object", "properties": {f"{i}{j}": {} for j in range(40)}} for i in range(40)]},
]


@pytest.mark.parametrize("place", ["response_format", "tools", "strict tools"])
def test_odd_schemas(served, tiny: Command, place: str):
    server: Command = served("tiny-glm-tools") if "tools" in place else tiny
    for schema in SCHEMAS:
        body: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 4}
        if place == "response_format":
            body["response_format"] = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
        else:
            function = {"name": "f", "parameters": schema, "strict": place == "strict tools"}
            body |= {"tools": [{"type": "function", "function": function}]}
            body |= {"tool_choice": "auto" if place == "strict tools" else "required"}
        check_fair(ask(server, post(CHAT, body)))
    server.check_well()


GRAMMARS = (
    *("", "root", "root ::=", "\0", 'a ::= "b"'),
    *('root ::= "a" root', 'root ::= root "a"', r"root ::= [^\x00-\U0010ffff]"),
)


@pytest.mark.parametrize("grammar", GRAMMARS)
def test_odd_grammars(tiny: Command, grammar: str):
    check_fair(ask(tiny, post(CHAT, {"messages": MESSAGES, "max_tokens": 4, "grammar": grammar})))


def test_more_messages_than_any_context_holds(tiny: Command):
    """Half a million of them took twenty seconds to render, and a place meanwhile."""
    answer = ask(tiny, post(CHAT, {"messages": MESSAGES * 40_000, "max_tokens": 1}))
    check_refused(answer, 400)
    assert answer is not None and answer.json()["error"]["code"] == "invalid_value"


def test_others_are_answered_while_a_large_body_is_worked_on(tiny: Command):
    """Everything stood still for as long as it took to put a million tokens together."""
    waits = []
    with connected(tiny) as connection, connection.makefile("rb") as file:
        send(connection, post("/detokenize", {"tokens": [1] * 1_000_000}))
        while not select.select([connection], [], [], 0)[0]:
            began = time.monotonic()
            answer = ask(tiny, request("GET", "/v1/models"))
            assert answer is not None and answer.status == 200
            waits.append(time.monotonic() - began)
        answer = read_answer(file)
    assert answer is not None and answer.status == 200 and max(waits) < sum(waits) / 2
