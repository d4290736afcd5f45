"""One file from doubles of both hubs: whole after every fault, never damaged, resumed and not begun again."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from edge.errors import HubError
from edge.hub import download, partial
from edge.hub.download import fetch_file
from edge.hub.huggingface import HuggingFace
from edge.hub.modelscope import ModelScope
from edge.hub.source import RemoteFile, Source
from tests.checkpoints import splitmix64
from tests.hub.content import Repository, repository
from tests.hub.double import Double
from tests.hub.faults import (
    ExpiredLink,
    IgnoreRange,
    RangeAs200,
    Reset,
    RetryLater,
    Rule,
    ShortBody,
    Status,
    WrongBytes,
)
from tests.hub.huggingface import HuggingFaceDouble
from tests.hub.modelscope import ModelScopeDouble

REPO, NAME, SIZE, CHUNK = "Qwen/Tiny", "model.safetensors", 300_000, 1 << 14
DATA = splitmix64(5, SIZE // 8 + 1).tobytes()[:SIZE]
FILE = RemoteFile(NAME, SIZE, hashlib.sha256(DATA).hexdigest())
HUBS = {"huggingface": HuggingFaceDouble, "modelscope": ModelScopeDouble}


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(partial, "CHUNK", CHUNK)
    monkeypatch.setattr(download, "CHUNK", CHUNK)


def tiny() -> Repository:
    return repository(REPO, {NAME: DATA})


def source(hub: Double) -> Source:
    if isinstance(hub, HuggingFaceDouble):
        return HuggingFace(REPO, endpoint=hub.endpoint)
    return ModelScope(REPO, endpoint=hub.endpoint)


FAULTS: dict[str, list[Rule]] = {
    "none": [],
    "short body": [Rule(NAME, ShortBody(70_000), times=3)],
    "reset in mid-body": [Rule(NAME, Reset(50_000), times=2)],
    "reset before the body": [Rule(NAME, Reset(), times=2)],
    "503": [Rule(NAME, Status(503), times=2)],
    "a range as 200": [Rule(NAME, RangeAs200(), times=None)],
    "no ranges": [Rule(NAME, IgnoreRange(), times=None)],
    "no ranges, cut short": [Rule(NAME, ShortBody(100_000)), Rule(NAME, IgnoreRange(), times=None)],
    "416": [Rule(NAME, Status(416), times=2)],
    "429": [Rule(NAME, RetryLater(3), times=2)],
    "expired link": [Rule(NAME, ExpiredLink(), first=2)],
}


@pytest.mark.parametrize("hub_name", HUBS)
@pytest.mark.parametrize("fault", FAULTS)
def test_whole_after_every_fault(fault: str, hub_name: str, tmp_path: Path) -> None:
    waits: list[float] = []
    with HUBS[hub_name]([tiny()], FAULTS[fault]) as hub:
        found = fetch_file([source(hub)], FILE, tmp_path / NAME, connections=3, sleep=waits.append)
    assert found == FILE.sha256
    assert (tmp_path / NAME).read_bytes() == DATA
    assert {path.name for path in tmp_path.iterdir()} == {NAME}
    if fault == "429":
        assert max(waits) >= 3


def test_a_wrong_hash_is_fetched_once_more(tmp_path: Path) -> None:
    with HuggingFaceDouble([tiny()], [Rule(NAME, WrongBytes(5))]) as hub:
        assert fetch_file([source(hub)], FILE, tmp_path / NAME, connections=1) == FILE.sha256


def test_a_hash_that_stays_wrong_names_both(tmp_path: Path) -> None:
    faults = [Rule(NAME, WrongBytes(5), times=None)]
    with (
        HuggingFaceDouble([tiny()], faults) as hub,
        pytest.raises(HubError, match=rf"[0-9a-f]{{64}}, not {FILE.sha256}"),
    ):
        fetch_file([source(hub)], FILE, tmp_path / NAME)
    assert not (tmp_path / NAME).exists()


def test_what_was_fetched_is_not_fetched_again(tmp_path: Path) -> None:
    """A source that fails for good leaves its chunks to the next one, and to the next start."""
    faults = [Rule(NAME, ShortBody(200_000)), Rule(NAME, Status(500), times=None)]
    with HuggingFaceDouble([tiny()], faults) as hub, pytest.raises(HubError, match="500"):
        fetch_file([source(hub)], FILE, tmp_path / NAME, connections=1, sleep=lambda _: None)
    with ModelScopeDouble([tiny()]) as hub:
        assert fetch_file([source(hub)], FILE, tmp_path / NAME, connections=1) == FILE.sha256
        assert sum(request.sent for request in hub.requests if request.server == "cdn") < 120_000


def test_the_next_source_is_tried(tmp_path: Path) -> None:
    with (
        HuggingFaceDouble([tiny()], [Rule(NAME, Status(404), times=None)]) as first,
        ModelScopeDouble([tiny()]) as next,
    ):
        assert fetch_file([source(first), source(next)], FILE, tmp_path / NAME, sleep=lambda _: None) == FILE.sha256


def test_the_token_stays_with_the_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    with HuggingFaceDouble([tiny()], tokens={"hf_secret": True}) as hub:
        fetch_file([source(hub)], FILE, tmp_path / NAME)
        assert any(request.authorization for request in hub.requests if request.server == "hub")
        assert not any(request.authorization for request in hub.requests if request.server == "cdn")


def test_a_torn_list_of_chunks_loses_only_its_last(tmp_path: Path) -> None:
    """A kill in the middle of a line must not make another chunk of it."""
    target = tmp_path / NAME
    with partial.Partial(target, SIZE, FILE.sha256) as some:
        for chunk in range(12):
            some.put(chunk, DATA[chunk * CHUNK : (chunk + 1) * CHUNK])
    text = some.list.read_text()
    some.list.write_text(text[:-2])  # "11\n" becomes "1"
    with partial.Partial(target, SIZE, FILE.sha256) as again:
        assert again.gap(0, SIZE) == (11 * CHUNK, SIZE)


def test_a_resume_after_a_torn_line_starts_a_line_of_its_own(tmp_path: Path) -> None:
    """The bug: what was left of "11" and the 5 noted next became chunk 15, which nobody had fetched."""
    target = tmp_path / NAME
    with partial.Partial(target, SIZE, FILE.sha256) as some:
        some.put(11, DATA[11 * CHUNK : 12 * CHUNK])
    some.list.write_text(some.list.read_text()[:-2])
    with partial.Partial(target, SIZE, FILE.sha256) as again:
        again.put(5, DATA[5 * CHUNK : 6 * CHUNK])
    with partial.Partial(target, SIZE, FILE.sha256) as last:
        assert last.fetched == CHUNK and last.gap(0, SIZE) == (0, 5 * CHUNK)
        assert last.gap(5 * CHUNK, SIZE) == (6 * CHUNK, SIZE)


@pytest.mark.parametrize(
    ("before", "now", "chunk"),
    [
        (FILE.sha256, "f" * 64, CHUNK),
        (FILE.sha256, None, CHUNK),
        (None, None, CHUNK),
        (FILE.sha256, FILE.sha256, CHUNK // 2),
    ],
    ids=["another", "unknown now", "never known", "smaller chunks"],
)
def test_chunks_of_another_content_or_size_do_not_count(
    before: str | None, now: str | None, chunk: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bug: a file of the same size, or the same chunk numbers after an upgrade, passed for what was fetched."""
    with partial.Partial(tmp_path / NAME, SIZE, before) as some:
        some.put(0, DATA[:CHUNK])
    monkeypatch.setattr(partial, "CHUNK", chunk)
    with partial.Partial(tmp_path / NAME, SIZE, now) as other:
        assert other.fetched == 0 and other.gap(0, SIZE) == (0, SIZE)


WRONG = bytes(SIZE)
DEAD = [Rule(NAME, Status(404), times=None, on="link")]
HALF = [Rule(NAME, ShortBody(SIZE // 2)), Rule(NAME, Status(500), times=None)]


def test_the_source_of_a_wrong_hash_is_left_out(tmp_path: Path) -> None:
    """The bug: the first of the list was left out instead, and the wrong one asked again."""
    with (
        HuggingFaceDouble([tiny()], DEAD) as dead,
        ModelScopeDouble([repository(REPO, {NAME: WRONG})]) as wrong,
        HuggingFaceDouble([tiny()]) as right,
    ):
        sources = [source(dead), source(wrong), source(right)]
        assert fetch_file(sources, FILE, tmp_path / NAME, connections=1) == FILE.sha256
        assert len([request for request in wrong.requests if request.server == "cdn"]) == 1


def test_a_right_source_is_not_blamed_for_what_another_began(tmp_path: Path) -> None:
    """The bug: the source that came last was left out, though the wrong bytes were those of the one before it."""
    with HuggingFaceDouble([repository(REPO, {NAME: WRONG})], HALF) as wrong, ModelScopeDouble([tiny()]) as right:
        sources = [source(wrong), source(right)]
        found = fetch_file(sources, FILE, tmp_path / NAME, connections=1, sleep=lambda _: None)
    assert found == FILE.sha256


def test_a_right_source_is_not_blamed_for_what_an_earlier_start_left(tmp_path: Path) -> None:
    """The bug: after a power cut had damaged a chunk, the only source that answers was left out."""
    with partial.Partial(tmp_path / NAME, SIZE, FILE.sha256) as damaged:
        damaged.put(0, bytes(CHUNK))
    with HuggingFaceDouble([tiny()]) as right, ModelScopeDouble([tiny()], DEAD) as dead:
        found = fetch_file([source(right), source(dead)], FILE, tmp_path / NAME, sleep=lambda _: None)
    assert found == FILE.sha256


def test_bytes_of_two_sources_are_not_mixed_where_no_hash_would_show_it(tmp_path: Path) -> None:
    """The bug: the second source went on where the first one stopped, whatever file it had."""
    with HuggingFaceDouble([repository(REPO, {NAME: WRONG})], HALF) as first, ModelScopeDouble([tiny()]) as second:
        sources = [source(first), source(second)]
        fetch_file(sources, RemoteFile(NAME, SIZE), tmp_path / NAME, connections=1, sleep=lambda _: None)
    assert (tmp_path / NAME).read_bytes() == DATA


def test_nobody_waits_ten_minutes_while_another_source_is_left(tmp_path: Path) -> None:
    """The bug: as long as a busy hub asked for."""
    waits: list[float] = []
    with (
        HuggingFaceDouble([tiny()], [Rule(NAME, RetryLater(600), times=None)]) as busy,
        ModelScopeDouble([tiny()]) as other,
    ):
        fetch_file([source(busy), source(other)], FILE, tmp_path / NAME, sleep=waits.append)
    assert (tmp_path / NAME).read_bytes() == DATA and waits == []
