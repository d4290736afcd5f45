"""Which files of a listing are fetched: pure, by name alone."""

from __future__ import annotations

import pytest

from edge.errors import HubError
from edge.hub.source import Listing, RemoteFile
from edge.lock import LockedFile, LockedModel
from edge.wanted import chosen, locked_listing, small, weights

MODEL = LockedModel("m", files=(LockedFile("model.safetensors", 10, "a" * 64),))


def listing(*names: str) -> Listing:
    return Listing(tuple(RemoteFile(name, 10) for name in names))


def names(files: list[RemoteFile]) -> list[str]:
    return [file.name for file in files]


def test_the_config_comes_first() -> None:
    found = small(listing("additional_chat_templates/tools.jinja", "chat_template.jinja", "config.json", "q.tiktoken"))
    assert names(found) == ["config.json", "additional_chat_templates/tools.jinja", "chat_template.jinja", "q.tiktoken"]


@pytest.mark.parametrize("name", ["vocab.json", "sub/config.json", "sub/q.tiktoken", "tokenization_qwen.py"])
def test_what_no_conversion_reads(name: str) -> None:
    assert names(small(listing("config.json", name))) == ["config.json"]


def test_a_repository_of_ggufs_names_one() -> None:
    with pytest.raises(HubError, match=r"no config\.json; it has GGUF files; name one, such as m-q4\.gguf"):
        small(listing("m-q4.gguf"))


@pytest.mark.parametrize(
    ("shards", "wanted"),
    [
        (None, ["model-1.safetensors", "model.safetensors"]),
        ({"model-1.safetensors"}, ["model-1.safetensors"]),
        ({"other.safetensors"}, ["other.safetensors"]),
    ],
    ids=["no index", "one of two", "a name of its own"],
)
def test_weights(shards: set[str] | None, wanted: list[str]) -> None:
    here = listing("model.safetensors", "model-1.safetensors", "other.safetensors", "onnx/model.safetensors")
    assert names(weights(here, shards)) == wanted


def test_an_index_may_not_name_code() -> None:
    with pytest.raises(HubError, match="none of the kinds that are ever fetched"):
        weights(listing("model.safetensors", "evil.py"), {"evil.py"})


def test_a_repository_without_weights() -> None:
    with pytest.raises(HubError, match=r"no model\*\.safetensors: no weights"):
        weights(listing("config.json"), None)


def test_chosen_files_come_once() -> None:
    assert names(chosen(MODEL, listing("a.json", "b.json"), ["b.json", "*.json"])) == ["b.json", "a.json"]


def test_the_lock_adds_the_hash_that_the_source_does_not_tell() -> None:
    locked = locked_listing(MODEL, listing("model.safetensors", "config.json"))
    assert [file.sha256 for file in locked.files] == ["a" * 64, None]
