"""The real 0.5B files from doubles of both hubs: by name through ``make``, killed on the way, to an answer.

Slow (some minutes) and needs about 3 GB of disk beside the checkpoint, which is fetched when it is missing.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.child import environment, of_weights, start, wait_until, write_lock
from tests.hub.content import Repository, repository_of
from tests.hub.double import Double
from tests.hub.faults import Reset, Rule, ShortBody, Status
from tests.hub.huggingface import HuggingFaceDouble
from tests.hub.modelscope import ModelScopeDouble
from tests.real import fetch

MODEL, REPO, WEIGHTS = "qwen2.5-0.5b", "Qwen/Qwen2.5-0.5B-Instruct", "model.safetensors"
ROOT = Path(__file__).parents[2]
SLACK = 64 << 20  # bytes that a cut may cost: a chunk of each connection, and what the sockets held


@pytest.fixture(scope="module")
def real() -> Repository:
    return repository_of(REPO, fetch.real_checkpoint())


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The models take gigabytes, so they go when the test ends."""
    yield tmp_path
    shutil.rmtree(tmp_path)


def lock(home: Path) -> str:
    """Without hashes: the real files come from a quantized model, and are not the ones that the project's lock pins."""
    return str(write_lock(home / "test.lock", MODEL, REPO, ("huggingface", "modelscope")))


def edge(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "edge", *arguments]
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=600)


def fetched(hub: Double) -> int:
    return sum(request.sent for request in of_weights(hub))


@pytest.mark.skipif(os.name == "nt", reason="no make there")
def test_make_convert_is_killed_resumed_converted_and_answers(real: Repository, home: Path) -> None:
    size = real.revisions[real.head][WEIGHTS].size
    python = f"PYTHON={sys.executable}"
    subprocess.run(["make", "setup", python], cwd=ROOT, check=True)  # may take long; quick below `make real-test`
    command = ["make", "convert", f"MODEL={MODEL}", "QUANT=Q4_0", python]
    with HuggingFaceDouble([real], [Rule(WEIGHTS, Reset(50_000_000), first=6, times=2)]) as hub:
        env = environment(home, [hub], EDGE_LOCK=lock(home))
        child = start(command, env, cwd=ROOT, start_new_session=True)
        assert wait_until(lambda: fetched(hub) > 400_000_000, child), child.communicate()
        os.killpg(child.pid, signal.SIGKILL)
        child.communicate()
        before = fetched(hub)
        assert before < size
        again = start(command, env, cwd=ROOT)
        output, errors = again.communicate(timeout=900)
        assert again.returncode == 0, errors
        assert "qwen2.5-0.5b-Q4_0.gguf" in output and "gate: passed" in output
        assert fetched(hub) - before < size - 400_000_000 + SLACK
        assert hub.script.unmet() == []
        requests = len(hub.requests)
        answer = edge("run", "qwen2.5:0.5b", "请用中文介绍一下北京。", "-q", env=env)
        assert answer.returncode == 0 and "北京" in answer.stdout, answer.stderr
        checked = edge("verify", MODEL, env=env)
        assert checked.returncode == 0, checked.stdout + checked.stderr
        assert len(hub.requests) == requests


def test_modelscope_goes_on_where_hugging_face_gave_up(real: Repository, home: Path) -> None:
    stored = real.revisions[real.head][WEIGHTS]
    faults = [
        Rule(WEIGHTS, ShortBody(150_000_000), times=4),
        Rule(WEIGHTS, Status(404), first=5, times=None, on="link"),
    ]
    with HuggingFaceDouble([real], faults) as first, ModelScopeDouble([real]) as second:
        env = environment(home, [first, second], EDGE_LOCK=lock(home))
        done = edge("pull", MODEL, env=env)
        assert done.returncode == 0, done.stderr
        assert first.script.unmet() == []
        assert 0 < fetched(second) < stored.size - fetched(first) + SLACK
    checked = edge("verify", MODEL, env=env)
    assert checked.returncode == 0 and stored.sha256 in (home / "models" / "models.lock").read_text()


def test_the_projects_own_lock_refuses_these_files(real: Repository, home: Path) -> None:
    """Its hashes are those of Qwen's own repository; the error names both values, and no weights are asked for."""
    with HuggingFaceDouble([real]) as first, ModelScopeDouble([real]) as second:
        env = environment(home, [first, second])
        env.pop("EDGE_LOCK", None)
        done = edge("pull", MODEL, env=env)
        assert done.returncode == 1
        assert f"is locked as 988097824, but the source lists {real.revisions[real.head][WEIGHTS].size}" in done.stderr
        assert fetched(first) == fetched(second) == 0
    assert not list(home.rglob(f"{WEIGHTS}*"))
