"""A folder as a source: files by name, below a folder, or by content."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import HubError
from edge.hub.download import fetch_file
from edge.hub.folder import Folder
from edge.hub.source import RemoteFile, SourceFailed
from edge.pull import pull
from tests.edge.tiny_hub import MODEL, NEEDED, UNWANTED, WEIGHTS, content_of, sha256

DATA = NEEDED[WEIGHTS]
FILE = RemoteFile(WEIGHTS, len(DATA), sha256(DATA))


def put(folder: Path, name: str, data: bytes = DATA) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return folder


@pytest.mark.parametrize("name", [WEIGHTS, f"models/tiny/{WEIGHTS}", "download (1)"])
def test_by_name_below_a_folder_and_renamed(name: str, tmp_path: Path) -> None:
    stick = put(tmp_path / "stick", name)
    assert fetch_file([Folder(stick)], FILE, tmp_path / WEIGHTS) == FILE.sha256
    assert (tmp_path / WEIGHTS).read_bytes() == DATA


def test_the_right_one_among_files_of_one_size(tmp_path: Path) -> None:
    stick = put(tmp_path / "stick", "a", bytes(len(DATA)))
    put(stick, "b")
    assert fetch_file([Folder(stick)], FILE, tmp_path / WEIGHTS) == FILE.sha256


def test_the_nearest_to_the_top_of_several_with_the_name(tmp_path: Path) -> None:
    stick = put(tmp_path / "stick", "config.json", b"mine!")
    put(stick, "a/config.json", b"other")
    put(stick, "a/my-config.json", b"else!")
    with Folder(stick).open(RemoteFile("config.json", 5), 0, 5) as body:
        assert (body.first, b"".join(body.blocks)) == (0, b"mine!")


def test_by_name_alone_where_no_hash_is_known(tmp_path: Path) -> None:
    stick = put(tmp_path / "stick", "a/my-config.json", b"other")
    wanted = RemoteFile("config.json", 5)
    with pytest.raises(SourceFailed), Folder(stick).open(wanted, 0, 5):
        pass
    put(stick, "models/tiny/config.json", b"mine!")
    with Folder(stick).open(wanted, 0, 5) as body:
        assert b"".join(body.blocks) == b"mine!"


def test_from_any_byte_on(tmp_path: Path) -> None:
    with Folder(put(tmp_path / "stick", WEIGHTS)).open(FILE, 1_000, 2_000) as body:
        assert body.first == 1_000 and b"".join(body.blocks).startswith(DATA[1_000:2_000])


def test_bytes_with_another_hash_are_refused(tmp_path: Path) -> None:
    stick = put(tmp_path / "stick", WEIGHTS, bytes(len(DATA)))
    with pytest.raises(HubError, match=f"has SHA-256 {sha256(bytes(len(DATA)))}, not {FILE.sha256}"):
        fetch_file([Folder(stick)], FILE, tmp_path / WEIGHTS)
    assert not (tmp_path / WEIGHTS).exists()


@pytest.mark.parametrize("sha256", [None, "f" * 64], ids=["hash unknown", "hash known"])
def test_what_is_not_there(sha256: str | None, tmp_path: Path) -> None:
    source = Folder(put(tmp_path / "stick", "other.name"))
    with (
        pytest.raises(SourceFailed, match=rf"has no {WEIGHTS} of {len(DATA)} bytes"),
        source.open(RemoteFile(WEIGHTS, len(DATA), sha256), 0, 10),
    ):
        pass


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(HubError, match=r"there is no folder .*--source wants huggingface, modelscope, or a folder"):
        Folder(tmp_path / "nowhere").listing()


def test_a_whole_model_from_a_stick(tmp_path: Path) -> None:
    for name, data in {**NEEDED, **UNWANTED}.items():
        put(tmp_path / "stick", name, data)
    pulled = pull(MODEL, tmp_path / "out", [Folder(tmp_path / "stick")])
    assert content_of(tmp_path / "out") == NEEDED
    assert pulled.model.sources == MODEL.sources, "a folder is no place where others find it"


def test_a_link_out_of_the_folder_is_only_a_file(tmp_path: Path) -> None:
    """A person's own links are followed, as in the hubs' caches; a broken one is no file."""
    put(tmp_path / "blobs", "abc")
    stick = tmp_path / "stick"
    stick.mkdir()
    try:
        (stick / WEIGHTS).symlink_to(tmp_path / "blobs" / "abc")
        (stick / "broken.json").symlink_to(tmp_path / "nowhere")
    except OSError:
        pytest.skip("this system lets only administrators make links")
    assert [file.name for file in Folder(stick).listing().files] == [WEIGHTS]
