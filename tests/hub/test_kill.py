"""``edge pull`` in a process of its own that is killed, interrupted, or waited for: it resumes, and accepts no damage.

The double runs in the test's process, so that its record goes on from one child to the next.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from edge.hub.partial import CHUNK
from tests.checkpoints import splitmix64
from tests.hub.child import environment, of_weights, sent, start, wait_until, write_lock
from tests.hub.content import repository
from tests.hub.double import Double
from tests.hub.faults import Fault, Reset, RetryLater, Rule, ShortBody, Slow, Stall, Status
from tests.hub.huggingface import HuggingFaceDouble

REPO, MODEL, SHARD = "Qwen/Big", "big", "model-0000{}-of-00003.safetensors"
SIZES = (20_000_000, 9_000_000, 15_000_001)
CONNECTIONS = 4
FAST_ENOUGH = Rule("*", Slow(8_000_000), times=None)  # bytes/s on each connection: a run can be met in its middle


def shards() -> dict[str, bytes]:
    words = splitmix64(9, sum(SIZES) // 8 + 1).tobytes()
    ends = [sum(SIZES[: i + 1]) for i in range(len(SIZES))]
    return {SHARD.format(i + 1): words[end - size : end] for i, (size, end) in enumerate(zip(SIZES, ends, strict=True))}


def checkpoint() -> dict[str, bytes]:
    """The small files of an embedded model, so that its config is understood; weights that nothing here reads."""
    tiny = files("edge.models") / "tiny-qwen"
    small = {name: (tiny / name).read_bytes() for name in ("config.json", "tokenizer.json", "tokenizer_config.json")}
    weights = shards()
    index = {"metadata": {}, "weight_map": {f"tensor{i}": name for i, name in enumerate(weights)}}
    return {**small, "model.safetensors.index.json": json.dumps(index).encode(), **weights}


FILES = checkpoint()
TOTAL = sum(len(content) for content in FILES.values())
SHA256 = {name: hashlib.sha256(content).hexdigest() for name, content in FILES.items()}


class Home:
    """A models folder of one test, a lock that knows the model by name, and children that work in there."""

    def __init__(self, path: Path) -> None:
        self.path, self.lock = path, write_lock(path / "shipped.lock", MODEL, REPO)
        self.folder = path / "models" / MODEL / "checkpoint"

    def start(self, hub: Double) -> subprocess.Popen[str]:
        """``edge pull`` of the model, from ``hub``."""
        env = environment(self.path, [hub], EDGE_LOCK=str(self.lock))
        return start([sys.executable, "-m", "edge", "pull", MODEL], env)

    def pull(self, hub: Double) -> str:
        """What a whole run prints."""
        output, errors = self.start(hub).communicate(timeout=60)
        assert errors == ""
        return output

    def check(self, *, whole: bool) -> None:
        """Everything under a final name is right; if ``whole``, all of it is there, and nothing else."""
        there = {p.name: p for p in self.folder.iterdir()} if self.folder.is_dir() else {}
        for name in FILES.keys() & there.keys():
            assert hashlib.sha256(there[name].read_bytes()).hexdigest() == SHA256[name], name
        others = there.keys() - FILES.keys()
        if whole:
            assert FILES.keys() <= there.keys() and others == {".edge-pull.json"}
        else:
            assert {name.rsplit(".", 1)[1] for name in others} <= {"partial", "chunks", "json"}


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def kill(child: subprocess.Popen[str]) -> None:
    """SIGKILL, or what Windows has for it."""
    child.kill()
    child.communicate()


INTERRUPTED = "interrupted; what was fetched is kept, and the same command goes on from there\n"


def chunks_noted(partial: Path) -> int:
    """How many chunks are counted as whole."""
    noted = partial.with_suffix(".chunks")
    return max(0, noted.read_text().count("\n") - 1) if noted.exists() else 0


FAULTS = [
    Rule(SHARD.format(1), Status(500), first=2),
    Rule(SHARD.format(1), ShortBody(1_500_000), first=5),
    Rule(SHARD.format(1), Reset(700_000), first=6),
    Rule(SHARD.format(2), Reset(), first=3),
    Rule(SHARD.format(2), ShortBody(2_100_000)),
    Rule(SHARD.format(3), Status(503), first=2),
    Rule(SHARD.format(3), Reset(1_200_000), first=4),
    Rule("config.json", ShortBody(100)),
    Rule("tokenizer.json", Reset(), on="link"),
]


def test_killed_at_random_moments_it_ends_whole(home: Home) -> None:
    moments, kills = random.Random(2), 0
    with HuggingFaceDouble([repository(REPO, FILES)], [*FAULTS, FAST_ENOUGH]) as hub:
        while True:
            before, after = sent(hub), moments.choice([1, *(moments.randrange(11_000_000) for _ in range(5))])
            child = home.start(hub)
            if not wait_until(lambda start=before, enough=after: sent(hub) - start >= enough, child):
                break
            kill(child)
            kills += 1
            home.check(whole=False)
            assert kills < 60, "it does not come to an end"
        assert child.communicate()[1] == "" and child.returncode == 0
        home.check(whole=True)
        assert kills >= 5 and hub.script.unmet() == []
        assert sent(hub) < 2 * TOTAL
        requests = len(hub.requests)
        assert "nothing to fetch" in home.pull(hub)
        assert len(hub.requests) == requests


def flip_bytes(partial: Path) -> None:
    """As a failing disk may: in every chunk, so that those that are counted as whole are among them."""
    content = bytearray(partial.read_bytes())
    for at in range(1000, len(content), CHUNK):
        content[at] ^= 0xFF
    partial.write_bytes(content)


def claim_all_chunks(partial: Path) -> None:
    chunks = partial.with_suffix(".chunks")
    chunks.write_text("".join(f"{i}\n" for i in range(-(-SIZES[0] // CHUNK))))


@pytest.mark.parametrize("damage", [flip_bytes, claim_all_chunks])
def test_damage_between_two_runs_is_not_accepted(damage: Callable[[Path], None], home: Home) -> None:
    repositories = [repository(REPO, FILES)]
    partial = home.folder / f"{SHARD.format(1)}.partial"
    with HuggingFaceDouble(repositories, [FAST_ENOUGH]) as hub:
        child = home.start(hub)
        assert wait_until(lambda: chunks_noted(partial) >= CONNECTIONS, child), child.communicate()
        kill(child)
    damage(partial)
    with HuggingFaceDouble(repositories) as hub:
        home.pull(hub)
        home.check(whole=True)
        assert sum(request.sent for request in of_weights(hub)) >= sum(SIZES)  # the damaged one once more, whole


@pytest.mark.skipif(os.name == "nt", reason="no SIGINT to send there")
@pytest.mark.parametrize(
    ("fault", "kept"), [(Stall(2_500_000), 2 * CONNECTIONS), (RetryLater(600), 0)], ids=["stalled", "told to wait"]
)
def test_ctrl_c_ends_it_at_once_and_it_resumes(fault: Fault, kept: int, home: Home) -> None:
    """However long the connections have nothing to say."""
    repositories = [repository(REPO, FILES)]
    partial = home.folder / f"{SHARD.format(1)}.partial"
    with HuggingFaceDouble(repositories, [Rule("*.safetensors", fault, times=None)]) as hub:
        child = home.start(hub)
        assert wait_until(lambda: len(of_weights(hub)) == CONNECTIONS, child), child.communicate()
        assert wait_until(lambda: chunks_noted(partial) == kept, child), child.communicate()
        child.send_signal(signal.SIGINT)
        output, errors = child.communicate(timeout=10)
    assert (child.returncode, output, errors) == (130, "", INTERRUPTED)
    home.check(whole=False)
    with HuggingFaceDouble(repositories) as hub:
        home.pull(hub)
        home.check(whole=True)
        assert sum(request.sent for request in of_weights(hub)) == sum(SIZES) - kept * CHUNK


def test_a_second_process_waits_and_fetches_nothing(home: Home) -> None:
    with HuggingFaceDouble([repository(REPO, FILES)], [Rule("config.json", Stall(100))]) as hub:
        first = home.start(hub)
        assert wait_until(lambda: any(r.status == 206 and r.sent for r in hub.requests), first)
        requests = len(hub.requests)
        second = home.start(hub)
        assert second.stderr is not None
        assert second.stderr.readline() == f"another process works on {MODEL}; waiting for it to end\n"
        assert len(hub.requests) == requests
        with hub.down():  # the stalled connection is cut: the first goes on
            pass
        output, errors = first.communicate(timeout=60)
        assert (first.returncode, errors) == (0, "") and "fetched" in output
        output, errors = second.communicate(timeout=60)
        assert (second.returncode, errors) == (0, "") and "nothing to fetch" in output
        assert sum(request.sent for request in of_weights(hub)) == sum(SIZES)
        home.check(whole=True)
