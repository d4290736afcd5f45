"""Clients that go away at any moment: their slots are free again, and nobody else notices."""

from __future__ import annotations

import json
import random
import socket
import struct
import threading
from typing import Any

import pytest

from tests.clients.command import Command
from tests.clients.raw import ask, connected, post, read_answer, request, send

CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
HELLO = {"messages": [{"role": "user", "content": "Hello"}], "max_tokens": 16}
LONG = {"prompt": "The ticket office is", "max_tokens": 1500, "ignore_eos": True}  # seconds, if nobody stops it


def drop(connection: socket.socket, *, abruptly: bool) -> None:
    """Close it; ``abruptly`` with a reset, as a machine that fails."""
    if abruptly:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def written(server: Command) -> float:
    """Tokens of answers that ended."""
    return server.metric("edge_generated_tokens_total")


@pytest.mark.parametrize("stream", [False, True])
def test_anywhere_in_the_request(tiny: Command, stream: bool):
    draw, data = random.Random(30 + stream), post(CHAT, {**HELLO, "stream": stream})
    for turn in range(60):
        with connected(tiny) as connection:
            send(connection, data[: draw.randrange(len(data) + 1)])
            drop(connection, abruptly=turn % 2 == 0)


def test_anywhere_in_a_stream(tiny: Command):
    draw = random.Random(32)
    for turn in range(16):
        with connected(tiny) as connection:
            send(connection, post(TEXT, {**LONG, "stream": True}))
            received = 0
            for _ in range(draw.choice([0, 1, 2, 5, 20])):
                received += len(connection.recv(100))
            drop(connection, abruptly=turn % 2 == 0)


def test_while_an_answer_is_made_that_does_not_stream(tiny: Command):
    before = written(tiny)
    for _ in range(4):
        with connected(tiny) as connection:
            send(connection, post(TEXT, LONG))
            tiny.wait_for("edge_slots_busy", 1)
    tiny.wait_idle()
    assert written(tiny) - before < 4 * LONG["max_tokens"]


def test_in_the_middle_of_a_long_prompt_and_in_the_queue(tiny: Command):
    """Twelve for four slots; those that wait go without ever having had one."""
    prompt = [draw % 2000 for draw in range(1900)]
    opened = []
    for index in range(12):
        connection = socket.create_connection(tiny.address, timeout=30)
        send(connection, post(TEXT, {**LONG, "prompt": [index, *prompt], "max_tokens": 100, "stream": index % 2 == 0}))
        opened.append(connection)
    tiny.wait_for("edge_queue_length", 8)
    for index, connection in enumerate(opened):
        drop(connection, abruptly=index % 2 == 0)
    tiny.wait_idle()
    answer = ask(tiny, post(CHAT, HELLO))
    assert answer is not None and answer.status == 200


def test_embeddings_are_left(tiny: Command):
    with connected(tiny) as connection:
        texts = [f"The ticket office {index} " * 100 for index in range(60)]
        send(connection, post("/v1/embeddings", {"input": texts}))
        tiny.wait_for("edge_slots_busy", 1)
    tiny.wait_idle()
    answer = ask(tiny, post("/v1/embeddings", {"input": "Hello"}))
    assert answer is not None and answer.status == 200


def test_one_that_goes_takes_nobody_along(tiny: Command):
    """Three clients come and go while a fourth reads a whole answer."""
    body = {**LONG, "max_tokens": 400, "temperature": 0}
    alone = ask(tiny, post(TEXT, body))
    found: list[Any] = []
    reader = threading.Thread(target=lambda: found.append(ask(tiny, post(TEXT, {**body, "stream": True}))))
    reader.start()
    turns = 0
    while reader.is_alive():
        with connected(tiny) as connection:
            send(connection, post(TEXT, {**LONG, "stream": True}))
            connection.recv(300)
            turns += 1
    reader.join()
    assert turns > 1 and alone is not None
    events = [line.removeprefix("data: ") for line in found[0].body.decode().split("\n\n") if line.startswith("data: ")]
    assert events.pop() == "[DONE]"
    choices = [json.loads(event)["choices"][0] for event in events]
    assert [one["finish_reason"] for one in choices if one["finish_reason"]] == ["length"]
    assert len(alone.json()["choices"][0]["text"]) > 100 and "".join(one["text"] for one in choices)


def test_one_that_reads_nothing(tiny: Command):
    """Its answer waits for it, and nobody else does."""
    with connected(tiny) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        send(connection, post(TEXT, {**LONG, "stream": True, "logprobs": 20}))
        answer = ask(tiny, post(CHAT, HELLO))
        assert answer is not None and answer.status == 200


def test_after_the_answer_the_connection_is_used_again(tiny: Command):
    with connected(tiny) as connection, connection.makefile("rb") as file:
        for _ in range(3):
            send(connection, post(CHAT, {**HELLO, "stream": True}))
            answer = read_answer(file)
            assert answer is not None and answer.body.endswith(b"data: [DONE]\n\n")
        send(connection, request("GET", "/health"))
        answer = read_answer(file)
        assert answer is not None and answer.json()["busy"] == 0
