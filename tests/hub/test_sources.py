"""From a locked model to the sources that are tried, in order."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import HubError
from edge.hub.folder import Folder
from edge.hub.huggingface import HuggingFace
from edge.hub.modelscope import ModelScope
from edge.hub.source import Source as HubSource
from edge.hub.sources import caches_of, sources_of
from edge.lock import LockedModel, Source
from edge.pull import pull
from tests.edge.tiny_hub import MODEL, NEEDED, REPO, SMALL, WEIGHTS, asked, content_of, sha256, tiny
from tests.hub.huggingface import HuggingFaceDouble

BOTH = LockedModel("m", sources=(Source("huggingface", "a/M", "rev1"), Source("modelscope", "b/M")))
ONE = LockedModel("m", sources=(Source("huggingface", "a/M"),))


def text(sources: list[HubSource]) -> list[str]:
    return [
        f"{one.where} {one.revision}" if isinstance(one, HuggingFace | ModelScope) else one.where for one in sources
    ]


@pytest.mark.parametrize(
    ("chosen", "wanted"),
    [
        ((), ["Hugging Face a/M rev1", "Hugging Face a/M main", "ModelScope b/M master"]),
        (("modelscope",), ["ModelScope b/M master"]),
        (("huggingface",), ["Hugging Face a/M rev1", "Hugging Face a/M main"]),
        (("stick",), ["folder stick"]),
        (("modelscope", "stick"), ["folder stick", "ModelScope b/M master"]),
    ],
    ids=str,
)
def test_the_order(chosen: tuple[str, ...], wanted: list[str]) -> None:
    assert text(sources_of(BOTH, chosen)) == wanted


def test_offline_leaves_the_folders() -> None:
    assert sources_of(BOTH, offline=True) == []
    assert text(sources_of(BOTH, ("modelscope", "stick"), offline=True)) == ["folder stick"]


def test_a_hub_where_the_model_is_not() -> None:
    with pytest.raises(HubError, match="has no modelscope repository for m; name it as org/repo"):
        sources_of(ONE, ("modelscope",))


def test_a_folder_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert text(sources_of(ONE, ("~/stick",))) == [f"folder {tmp_path / 'stick'}"]


def cached(place: Path, name: str, data: bytes) -> None:
    """``data`` as huggingface-hub keeps it: by its hash, with a link from a snapshot."""
    repo = place / f"models--{REPO.replace('/', '--')}"
    blob, link = repo / "blobs" / sha256(data), repo / "snapshots" / ("c" * 40) / name
    for path in (blob, link):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    try:
        link.symlink_to(blob)
    except OSError:  # as on Windows, where it copies
        link.write_bytes(data)


def test_the_hubs_own_cache_serves_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.hub.huggingface.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    assert caches_of(MODEL) == []
    cached(tmp_path / "cache", WEIGHTS, NEEDED[WEIGHTS])
    caches = caches_of(MODEL)
    assert len(caches) == 1 and isinstance(caches[0], Folder)
    with HuggingFaceDouble([tiny()]) as hub:
        pull(MODEL, tmp_path / "out", [HuggingFace(REPO, endpoint=hub.endpoint)], caches=caches)
        assert set(asked(hub)) == set(SMALL)
    assert content_of(tmp_path / "out") == NEEDED
