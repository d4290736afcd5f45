"""``edge serve`` with a state folder: what its starts say, and that they end."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import httpx

from convert.errors import EdgeError
from edge.api import Engine
from edge.warm import Warm
from tests.edge.server.running import PATIENCE, ask, running, samples, until
from tests.edge.server.test_life import ended, posix, process

SYSTEM = "You are the guide of the harbour museum. " * 6
KIOSK = f'title = "Museum"\nsystem = "{SYSTEM}"\nquestions = ["Where is the exit?"]\n'


@posix
def test_a_cold_start_and_a_warm_one(gguf: dict[str, Path], tmp_path: Path) -> None:
    (kiosk := tmp_path / "kiosk.toml").write_text(KIOSK)
    messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": "Where are the ships?"}]
    seen = []
    for _ in range(2):
        options = ("--kiosk", kiosk, "--state-dir", tmp_path / "state", "-t", 1)
        with (
            process(gguf["tiny-qwen"], *options) as (child, address),
            httpx.Client(base_url=address, timeout=PATIENCE, trust_env=False) as client,
        ):
            until(lambda client=client: client.get("/health").status_code == 200)
            answer = ask(client, {"messages": messages, "temperature": 0, "max_tokens": 8})
            cached = samples(client.get("/metrics").text)["edge_cached_tokens_total"]
            child.send_signal(signal.SIGTERM)
            seen.append((answer["choices"][0]["message"]["content"], cached, ended(child)))
    (cold, was_there, (code, said)), (warm, is_there, (code_again, said_again)) = seen
    assert (code, code_again) == (0, 0) and warm == cold and is_there > 40 and was_there > 40
    assert said.startswith("cold start: ") and said.count("\n") == 1
    assert said_again.startswith("warm start: ") and said_again.count("\n") == 1


def test_a_server_may_end_while_it_computes_the_prefix(gguf: dict[str, Path]) -> None:
    """Bug: ending waited for the whole of a long system prompt, until the service manager killed it."""

    class Endless(Warm):
        def compute(self, engine: Engine) -> None:
            try:
                while True:
                    engine.generate(["x"], max_tokens=1)
            except EdgeError:
                self.over = True

    warm = Endless(None, "", (), print)
    with running(gguf["tiny-qwen"], warm=warm) as served, served.client() as client:
        assert client.get("/health").status_code == 200, "others are served meanwhile"
    assert warm.over


def test_a_server_may_end_while_it_loads(gguf: dict[str, Path]) -> None:
    """Bug: told to end before the model was there, it computed the whole system prompt first."""

    class Asked(Warm):
        computed = False

        def compute(self, engine: Engine) -> None:
            self.computed = True

    loads, go = threading.Event(), threading.Event()

    def load() -> Engine:
        loads.set()
        assert go.wait(PATIENCE)
        return Engine(gguf["tiny-qwen"])

    warm = Asked(None, "", (), print)
    with running(gguf["tiny-qwen"], load=load, warm=warm) as served:
        assert loads.wait(PATIENCE)
        ends = threading.Thread(target=lambda: (until(lambda: served.serving.ending), go.set()))
        ends.start()
    ends.join(PATIENCE)
    assert served.serving.loaded is not None and not warm.computed
