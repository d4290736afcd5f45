"""The hub's own client takes the double for the hub."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile, RepoFolder

from tests.hub.content import StoredFile, repository
from tests.hub.faults import RevisionGone, Rule
from tests.hub.huggingface import HuggingFaceDouble

NAME = "Org/Small"
WEIGHTS = bytes(range(256)) * 40
FILES = {"config.json": b"{}", "model.safetensors": WEIGHTS, "sub/deep/notes.txt": b"notes"}
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()


@pytest.fixture(autouse=True)
def no_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else its first call asks the public hub for a list of coding agents, whatever `endpoint` says."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_TELEMETRY", True)


def test_model_info() -> None:
    repo = repository(NAME, FILES, licence="mit")
    with HuggingFaceDouble([repo]) as hub:
        info = HfApi(endpoint=hub.endpoint, token=False).model_info(NAME, revision="main", files_metadata=True)
    assert (info.id, info.sha, info.gated) == (NAME, repo.head, False)
    assert info.card_data is not None and info.card_data.license == "mit"
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
    assert {path: sibling.size for path, sibling in siblings.items()} == {k: len(v) for k, v in FILES.items()}
    assert siblings["config.json"].blob_id == StoredFile(b"{}").blob_id and siblings["config.json"].lfs is None
    lfs = siblings["model.safetensors"].lfs
    assert lfs is not None and (lfs.sha256, lfs.size) == (SHA256, len(WEIGHTS))


def test_a_tree_in_pages() -> None:
    with HuggingFaceDouble([repository(NAME, FILES)], page_size=2) as hub:
        api = HfApi(endpoint=hub.endpoint, token=False)
        tree = list(api.list_repo_tree(NAME, recursive=True))
        inside = list(api.list_repo_tree(NAME, "sub/deep", revision=hub.repositories[NAME].head))
    assert {entry.path for entry in tree if isinstance(entry, RepoFolder)} == {"sub", "sub/deep"}
    files = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    assert set(files) == set(FILES)
    lfs = files["model.safetensors"].lfs
    assert lfs is not None and lfs.sha256 == SHA256
    assert [entry.path for entry in inside] == ["sub/deep/notes.txt"]


@pytest.mark.parametrize("redirect", [True, False])
def test_metadata_and_downloads(tmp_path: Path, redirect: bool) -> None:
    repo = repository(NAME, FILES, gated=True)
    with HuggingFaceDouble([repo], tokens={"hf_me": True}, redirect_small=redirect) as hub:
        url = f"{hub.endpoint}/{NAME}/resolve/main/"
        large = get_hf_file_metadata(url + "model.safetensors", token="hf_me")
        small = get_hf_file_metadata(url + "config.json", token="hf_me")
        for path, content in FILES.items():
            got = hf_hub_download(NAME, path, endpoint=hub.endpoint, cache_dir=tmp_path, token="hf_me")
            assert Path(got).read_bytes() == content
    assert (large.commit_hash, large.etag, large.size) == (repo.head, SHA256, len(WEIGHTS))
    assert (small.commit_hash, small.etag, small.size) == (repo.head, StoredFile(b"{}").blob_id, 2)
    at_cdn = [request for request in hub.requests if request.server == "cdn"]
    assert at_cdn and all(request.authorization is None for request in at_cdn)


def test_errors() -> None:
    repos = [repository(NAME, FILES), repository("Org/Gated", FILES, gated=True)]
    with HuggingFaceDouble(repos, tokens={"hf_new": False}) as hub:
        api = HfApi(endpoint=hub.endpoint, token=False)
        with pytest.raises(RepositoryNotFoundError):
            api.model_info("No/Such")
        with pytest.raises(RevisionNotFoundError):
            api.model_info(NAME, revision="nope")
        with pytest.raises(RevisionNotFoundError):
            list(api.list_repo_tree(NAME, revision="nope"))
        with pytest.raises(EntryNotFoundError):
            get_hf_file_metadata(f"{hub.endpoint}/{NAME}/resolve/main/nope", token=False)
        for token, status in ((False, 401), ("hf_new", 403)):
            with pytest.raises(GatedRepoError) as gated:
                get_hf_file_metadata(f"{hub.endpoint}/Org/Gated/resolve/main/config.json", token=token)
            assert gated.value.response.status_code == status
        with pytest.raises(HfHubHTTPError, match="Invalid credentials"):
            api.model_info(NAME, token="hf_unknown")
        assert api.model_info("Org/Gated").gated == "manual"


def test_a_revision_that_vanishes() -> None:
    with HuggingFaceDouble([repository(NAME, FILES)], [Rule("/api/*", RevisionGone(), first=2, on="api")]) as hub:
        api = HfApi(endpoint=hub.endpoint, token=False)
        commit = api.model_info(NAME).sha
        with pytest.raises(RevisionNotFoundError):
            for _ in range(2):
                api.model_info(NAME, revision=commit)
