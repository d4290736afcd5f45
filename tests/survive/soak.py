"""A server with eight clients that come, go, hang up in the middle, send half a request, or rubbish.

    python -m tests.survive.soak [--minutes 30] [--clients 8] [--model PATH | NAME] [--seed 1] [--growth 1.03]

``edge serve`` of the real Qwen2.5-Coder-0.5B at Q4_0 (converted the first time), as a kiosk with four small slots and a
short queue. Each client draws what to do next: a stream that it reads to its end; one that it leaves after some events
or in the prefill; an answer without a stream; one that it does not wait for; half a request, and then silence, the end,
or a reset; random bytes; a request with some bytes changed; requests that are refused; health, metrics and the page.
Prompts differ in length and share beginnings; a page that is left has the server forget.

Violations: the process ends, or complains in its log; a 5xx; an accepted stream that ends neither with [DONE] nor with
an error event, unless the client left it; an answer that is refused with no error in OpenAI's shape; a request that is
not answered within two minutes; after the end of all clients a slot or a place in the queue that is not free again
within a minute, or a stream in each slot at once that does not come; more slots busy than there are; memory (RSS of the
process, read every two seconds) whose mean in the last quarter is more than 3 % above that of the second quarter.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import statistics
import struct
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.clients.command import Command, serving
from tests.clients.raw import connected, post, read_answer, send
from tests.survive.common import Tally

SLOTS, QUEUE = 4, 6
KIOSK = """\
title = "Museum of Rivers"
language = "en"
answer_seconds = 20
system = "You are the guide of the Museum of Rivers. Answer in two sentences."
questions = ["When do you open?", "Where is the lift?"]
idle_seconds = 60
max_tokens = 48
"""
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
PATIENCE = 120  # seconds for what is waited for
LOOK = 2.0  # seconds between two looks at the memory
GROWTH = 1.03
SYSTEM = {"role": "system", "content": "You are the guide of the Museum of Rivers. Answer in two sentences."}
WORDS = [
    "river",
    "bridge",
    "water",
    "lift",
    "ticket",
    "museum",
    "河",
    "门票",
    "where",
    "when",
    "open",
    "is",
    "the",
    "a",
    "of",
]
BAD_BODIES: tuple[Any, ...] = (
    {},
    {"messages": []},
    {"messages": [{"role": "nobody", "content": "x"}]},
    {"messages": "x"},
    {"messages": [{"role": "user", "content": "x " * 9000}]},
    {"messages": [{"role": "user", "content": "x"}], "max_tokens": -1},
    {"messages": [{"role": "user", "content": "x"}], "temperature": "hot"},
    {"messages": [{"role": "user", "content": "x"}], "unknown": 1},
    {"messages": [{"role": "user", "content": "x"}], "grammar": "root ::= ("},
    [1, 2],
    "x",
    None,
)


class Wrong(Exception):
    """What the server did is a violation."""


class Client:
    """One visitor, drawn at random."""

    def __init__(self, server: Command, tally: Tally, rng: random.Random) -> None:
        self._server, self._tally, self._rng = server, tally, rng
        self._acts: list[tuple[int, Callable[[], None]]] = [
            (6, self.whole_stream),
            (4, self.left_stream),
            (3, self.whole_answer),
            (2, self.left_answer),
            (2, self.half_request),
            (2, self.rubbish),
            (2, self.changed_request),
            (2, self.refused),
            (1, self.looking),
            (1, self.wipe),
        ]

    def live(self, until: float) -> None:
        weights, acts = zip(*self._acts, strict=True)
        while time.monotonic() < until:
            (act,) = self._rng.choices(acts, weights)
            name = act.__name__.replace("_", " ")
            self._tally.add(name, "times")
            try:
                act()
            except (Wrong, AssertionError, httpx.HTTPError, ValueError) as error:
                self._tally.violation(name, f"{type(error).__name__}: {error}")
            except OSError as error:
                # A reset of a connection that was misused is an answer; a timeout is none.
                if isinstance(error, TimeoutError):
                    self._tally.violation(name, f"no answer in {PATIENCE} s")
            if self._rng.random() < 0.3:
                time.sleep(self._rng.expovariate(2))

    # --- what is asked

    def body(self, *, stream: bool) -> dict[str, Any]:
        rng = self._rng
        question = " ".join(rng.choices(WORDS, k=rng.choice((2, 8, 8, 8, 60, 200))))
        messages: list[dict[str, str]] = [SYSTEM] if rng.random() < 0.7 else []
        body: dict[str, Any] = {
            "messages": [*messages, {"role": "user", "content": question}],
            "max_tokens": rng.choice((1, 8, 24, 48)),
            "temperature": rng.choice((0, 0.8)),
        }
        if rng.random() < 0.1:
            body |= {"response_format": {"type": "json_object"}}
        if rng.random() < 0.1:
            body |= {"logprobs": True, "top_logprobs": 3}
        if rng.random() < 0.1:
            body |= {"n": 2}
        return body | ({"stream": True} if stream else {})

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self._server.url, timeout=PATIENCE, trust_env=False)

    # --- decent ones

    def whole_stream(self) -> None:
        with self.client() as client, client.stream("POST", CHAT, json=self.body(stream=True)) as answer:
            if answer.status_code != 200:
                answer.read()
                self.check_busy(answer)
                return
            last = ""
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    last = line.removeprefix("data: ")
            if last != "[DONE]" and "error" not in json.loads(last or "{}"):
                raise Wrong(f"an accepted stream ended with {last[:200]!r}")
            self._tally.add("whole stream", "ended well")

    def whole_answer(self) -> None:
        with self.client() as client:
            answer = client.post(CHAT, json=self.body(stream=False))
        if answer.status_code != 200:
            self.check_busy(answer)
        elif not answer.json()["choices"]:
            raise Wrong("an answer without choices")
        else:
            self._tally.add("whole answer", "ended well")

    def check_busy(self, answer: httpx.Response) -> None:
        """Where it is not answered, because others are before it."""
        if answer.status_code != 429 or not answer.json()["error"]["message"]:
            raise Wrong(f"status {answer.status_code}: {answer.text[:300]}")
        self._tally.add("whole stream", "told to wait")
        time.sleep(self._rng.random())

    def looking(self) -> None:
        with self.client() as client:
            for path in ("/health", "/metrics", "/", "/v1/models", "/page/settings.json"):
                if (answer := client.get(path)).status_code != 200:
                    raise Wrong(f"{path}: status {answer.status_code}")

    def wipe(self) -> None:
        """A visitor's page was left; the others' answers go on."""
        with self.client() as client:
            if (answer := client.post("/kiosk/wipe", json={})).status_code != 200:
                raise Wrong(f"status {answer.status_code}: {answer.text[:300]}")

    def refused(self) -> None:
        with self.client() as client:
            answer = client.post(self._rng.choice((CHAT, TEXT)), json=self._rng.choice(BAD_BODIES))
        if not 400 <= answer.status_code < 500 or not answer.json()["error"]["message"]:
            raise Wrong(f"status {answer.status_code}: {answer.text[:300]}")

    # --- those that go

    def left_stream(self) -> None:
        with connected(self._server) as connection:
            send(connection, post(CHAT, self.body(stream=True)))
            connection.settimeout(PATIENCE)
            received = b""
            for _ in range(self._rng.choice((0, 0, 1, 2, 5, 15))):
                received += (data := connection.recv(400))
                if not data or b"[DONE]" in received or not received.startswith(b"HTTP/1.1 200"):
                    break  # nothing more may come
            if self._rng.random() < 0.3:
                time.sleep(self._rng.random())
            self.drop(connection)

    def left_answer(self) -> None:
        with connected(self._server) as connection:
            send(connection, post(CHAT, self.body(stream=False)))
            time.sleep(self._rng.choice((0, 0.05, 0.5)))
            self.drop(connection)

    def half_request(self) -> None:
        data = post(CHAT, self.body(stream=self._rng.random() < 0.5))
        with connected(self._server) as connection:
            send(connection, data[: self._rng.randrange(len(data))])
            if self._rng.random() < 0.3:
                time.sleep(self._rng.choice((0.1, 1, 3)))
            self.drop(connection)

    def drop(self, connection: socket.socket) -> None:
        """Close it, or reset it as a machine that fails."""
        if self._rng.random() < 0.5:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    # --- those that send rubbish

    def rubbish(self) -> None:
        data = self._rng.randbytes(self._rng.choice((1, 100, 5000))) + self._rng.choice((b"", b"\r\n\r\n"))
        self.check_answered(data)

    def changed_request(self) -> None:
        """Some stay right; a long answer may come then."""
        data = bytearray(post(CHAT, self.body(stream=self._rng.random() < 0.5)))
        for _ in range(self._rng.choice((1, 2, 8))):
            data[self._rng.randrange(len(data))] = self._rng.randrange(256)
        self.check_answered(bytes(data))

    def check_answered(self, data: bytes) -> None:
        with connected(self._server) as connection:
            connection.settimeout(PATIENCE)
            send(connection, data)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as file:
                answer = read_answer(file)
        if answer is not None and answer.status >= 500:
            raise Wrong(f"status {answer.status}")


class Watcher:
    """Reads the process's memory, and whether more is busy than there is."""

    def __init__(self, server: Command, tally: Tally) -> None:
        self._server, self._tally = server, tally
        self._process = psutil.Process(server.process.pid)
        self.memory: list[int] = []

    def watch(self, until: float) -> None:
        while time.monotonic() < until:
            time.sleep(LOOK)
            try:
                self.memory.append(self._process.memory_info().rss)
                if (busy := self._server.metric("edge_slots_busy")) > SLOTS:
                    self._tally.violation("slots", f"{busy} of {SLOTS} are busy")
            except (psutil.Error, httpx.HTTPError) as error:
                self._tally.violation("process", f"{type(error).__name__}: {error}")
                return

    def quarter(self, number: int) -> float:
        """The mean of one, counted from 1, in bytes."""
        size = max(1, len(self.memory) // 4)
        return statistics.fmean(self.memory[(number - 1) * size : number * size] or [0])


def check_slots(server: Command, tally: Tally) -> None:
    """All are free, and each can be used."""
    try:
        server.wait_idle()
    except AssertionError as error:
        tally.violation("slots", str(error))
    done: list[str] = []

    def ask() -> None:
        body = {"messages": [{"role": "user", "content": "Count to twenty."}], "max_tokens": 24, "stream": True}
        with httpx.Client(base_url=server.url, timeout=PATIENCE, trust_env=False) as client:
            done.append(client.post(CHAT, json=body).text.rstrip().rpartition("\n")[2])

    run_all([ask] * SLOTS)
    if done != ["data: [DONE]"] * SLOTS:
        tally.violation("slots", f"not every slot answers at the end: {done}")


def run_all(works: list[Callable[[], None]]) -> None:
    threads = [threading.Thread(target=work, daemon=True) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def survive(model: str, minutes: float, clients: int, seed: int, growth: float) -> Tally:
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="survive-") as folder:
        (kiosk := Path(folder) / "kiosk.toml").write_text(KIOSK)
        options = ["--kiosk", str(kiosk), "--slots", str(SLOTS), "--queue", str(QUEUE), "--ctx", "1024"]
        with serving(model, Path(folder), *options) as server:
            before = server.statuses()  # 503 among them, while it loaded
            until = time.monotonic() + minutes * 60
            watcher = Watcher(server, tally)
            visitors = [Client(server, tally, random.Random(f"{seed} {number}")) for number in range(clients)]
            run_all([lambda: watcher.watch(until), *(lambda one=one: one.live(until) for one in visitors)])
            check_slots(server, tally)
            for status, number in server.statuses().items():
                number -= before.get(status, 0)
                tally.add("statuses", status, number)
                if number and status.startswith("5"):
                    tally.violation("statuses", f"{number} times {status}")
            for line in server.complaints():
                tally.violation("process", f"its log says: {line}")
            second, last = watcher.quarter(2), watcher.quarter(4)
    tally.figures |= {"minutes": minutes, "clients": clients, "RSS second quarter": round(second)}
    tally.figures |= {"RSS last quarter": round(last), "ratio": round(last / second, 4) if second else 0}
    if second and last > growth * second:
        tally.violation("memory", f"{last / second:.3f} times as much in the last quarter as in the second")
    return tally


def real_model() -> str:
    from benchmarks.engine import default_model

    return str(default_model())


def main() -> int:
    made = argparse.ArgumentParser(description="Eight bad clients of one server.")
    made.add_argument("--minutes", type=float, default=30.0)
    made.add_argument("--clients", type=int, default=8)
    made.add_argument("--model", help="a GGUF, or a name such as tiny-qwen (default: the real 0.5B at Q4_0)")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--growth", type=float, default=GROWTH, help="most of the last quarter's memory by the second's")
    options = made.parse_args()
    return survive(
        options.model or real_model(), options.minutes, options.clients, options.seed, options.growth
    ).finish("soak")


if __name__ == "__main__":
    sys.exit(main())
