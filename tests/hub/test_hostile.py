"""Servers that answer with anything: what they may cost, and that nothing of it gets out of hand."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from edge.errors import HubError
from edge.hub import http
from edge.hub.backoff import patiently
from edge.hub.download import fetch_file
from edge.hub.folder import Folder
from edge.hub.huggingface import HuggingFace
from edge.hub.modelscope import ModelScope
from edge.hub.source import Body, RemoteFile, Source, SourceFailed
from edge.lock_file import read_lock, write_lock
from edge.pull import pull
from tests.edge.tiny_hub import MODEL, NAME, NEEDED, REPO, WEIGHTS, asked, content_of, sha256, tiny
from tests.hub.double import Double
from tests.hub.faults import Redirect, RetryLater, Rule, Status, WrongBytes
from tests.hub.huggingface import HuggingFaceDouble
from tests.hub.modelscope import ModelScopeDouble

HUBS = {"huggingface": HuggingFaceDouble, "modelscope": ModelScopeDouble}
FILE = RemoteFile(WEIGHTS, len(NEEDED[WEIGHTS]), sha256(NEEDED[WEIGHTS]))


def at(hub: Double) -> Source:
    if isinstance(hub, HuggingFaceDouble):
        return HuggingFace(REPO, endpoint=hub.endpoint)
    return ModelScope(REPO, endpoint=hub.endpoint)


# --- bodies

ENDLESS = 48 << 20  # bytes after which the server gives up; what lies between in sockets is less


@contextmanager
def endless(status: int, data: bytes) -> Iterator[tuple[str, list[int]]]:
    """A server whose body goes on after ``data``: its address, and how much it sent on each connection."""
    sent: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self.send_response(status)
            if status == 206:
                self.send_header("Content-Range", f"bytes 0-{len(data) - 1}/{len(data)}")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            nbytes, block = 0, data
            with suppress(OSError):
                while nbytes < ENDLESS:
                    self.wfile.write(b"%x\r\n%b\r\n" % (len(block), block))
                    nbytes, block = nbytes + len(block), bytes(1 << 20)
                self.wfile.write(b"0\r\n\r\n")
            sent.append(nbytes)
            self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = False  # so that closing it waits for what was sent
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", sent
        server.shutdown()


class Anywhere:
    """A source at one URL."""

    where = "a server"

    def __init__(self, url: str) -> None:
        self._url = url

    def listing(self) -> Any:
        raise NotImplementedError

    @contextmanager
    def open(self, file: RemoteFile, start: int, end: int) -> Iterator[Body]:
        with http.get(self.where, self._url, file, start, end) as body:
            yield body


@pytest.mark.parametrize("status", [206, 200])
def test_a_body_that_does_not_end(status: int, tmp_path: Path) -> None:
    """The bug: all that a server sent was kept in memory, until it had none left."""
    with endless(status, NEEDED[WEIGHTS]) as (url, sent):
        assert fetch_file([Anywhere(url)], FILE, tmp_path / WEIGHTS) == FILE.sha256
    assert (tmp_path / WEIGHTS).read_bytes() == NEEDED[WEIGHTS]
    assert len(sent) == 1 and sent[0] < ENDLESS, "it hung up"


def test_a_folder_gives_no_more_than_the_span(tmp_path: Path) -> None:
    """The bug: each of four connections read to the end of the file."""
    (tmp_path / WEIGHTS).write_bytes(NEEDED[WEIGHTS])
    with Folder(tmp_path).open(FILE, 1_000, 2_000) as body:
        assert (body.first, b"".join(body.blocks)) == (1_000, NEEDED[WEIGHTS][1_000:2_000])


# --- listings

Entry = dict[str, Any]
KEYS = {"huggingface": ("rfilename", "size"), "modelscope": ("Path", "Size")}


def listed(hub_name: str, change: Callable[[Entry], object], **more: object) -> list[Rule]:
    """The tiny model's listing, with each entry changed, in place of the hub's own."""
    with HUBS[hub_name]([tiny()]) as hub:
        content = listing_of(hub)
    entries = content["siblings"] if hub_name == "huggingface" else content["Data"]["Files"]
    for entry in entries:
        change(entry)
    return [Rule("*", Status(200, body=json.dumps({**content, **more}).encode()), on="api", times=None)]


def listing_of(hub: Double) -> dict[str, Any]:
    path = f"api/models/{REPO}/revision/main?blobs=true"
    if isinstance(hub, ModelScopeDouble):
        path = f"api/v1/models/{REPO}/repo/files?Revision=master&Recursive=True"
    with http.Session() as session:
        return session.get(f"{hub.endpoint}/{path}", timeout=5).json()


@pytest.mark.parametrize("hub_name", HUBS)
@pytest.mark.parametrize(("which", "value"), [(1, None), (1, -1), (1, "abc"), (1, 1.5), (1, True), (0, 7), (0, None)])
def test_a_listing_that_makes_no_sense(which: int, value: object, hub_name: str, tmp_path: Path) -> None:
    """The bug: a size that was missing counted as none, and empty files were a success."""
    rules = listed(hub_name, lambda entry: entry.update({KEYS[hub_name][which]: value}))
    with HUBS[hub_name]([tiny()], rules) as hub, pytest.raises(HubError, match=f"{REPO} lists '") as caught:
        pull(MODEL, tmp_path, [at(hub)])
    assert "\n" not in str(caught.value) and content_of(tmp_path) == {}


@pytest.mark.parametrize(
    "body",
    [
        b'{"Success": true, "Data": {"Files": 5}}',
        b'{"Success": true, "Data": {"Files": {"a": 1}}}',
        b'{"Success": true, "Data": {"Files": "config.json"}}',
        b"[" * 100_000,
    ],
    ids=["number", "table", "text", "deep"],
)
def test_a_listing_of_modelscope_of_another_kind(body: bytes, tmp_path: Path) -> None:
    """The bug: a traceback."""
    rules = [Rule("*", Status(200, body=body), on="api", times=None)]
    with ModelScopeDouble([tiny()], rules) as first, HuggingFaceDouble([tiny()]) as second:
        with pytest.raises(HubError):
            pull(MODEL, tmp_path, [at(first)])
        pull(MODEL, tmp_path, [at(first), at(second)])
    assert content_of(tmp_path) == NEEDED


def shouted(entry: Entry) -> None:
    """Its hash in capital letters."""
    if entry.get("lfs"):
        entry["lfs"]["sha256"] = entry["lfs"]["sha256"].upper()
    if entry.get("Sha256"):
        entry["Sha256"] = entry["Sha256"].upper()


@pytest.mark.parametrize("hub_name", HUBS)
def test_a_hash_in_capital_letters(hub_name: str, tmp_path: Path) -> None:
    """The bug: the right file was taken for another one. Nor may the hash be lost: it shows the wrong one."""
    rules = listed(hub_name, shouted)
    with HUBS[hub_name]([tiny()], [Rule(WEIGHTS, WrongBytes(5), times=2), *rules]) as hub:
        with pytest.raises(HubError, match=f"has SHA-256 [0-9a-f]{{64}}, not {FILE.sha256}"):
            pull(MODEL, tmp_path, [at(hub)])
        learned = pull(MODEL, tmp_path, [at(hub)]).model
    assert {file.name: file.sha256 for file in learned.files} == {name: sha256(data) for name, data in NEEDED.items()}


@pytest.mark.parametrize("blob", ["", "中文", "a" * 39, "../x", 5])
def test_a_git_hash_that_is_none(blob: object, tmp_path: Path) -> None:
    """The bug: one that is not ASCII ended in a traceback, and any other made the right file a wrong one."""
    rules = listed("huggingface", lambda entry: entry.update(blobId=blob))
    with HuggingFaceDouble([tiny()], rules) as hub:
        pull(MODEL, tmp_path, [at(hub)])
    assert content_of(tmp_path) == NEEDED


@pytest.mark.parametrize(
    ("licence", "revision"),
    [(licence, "a" * 40) for licence in ("通义千问", ["mit"], "x" * 300, 5, {"a": 1}, "a\nb", "")]
    + [("mit", revision) for revision in ("../../x", "主", "x" * 300, 5, "-rf", "a b")],
    ids=lambda value: ascii(value)[:20],
)
def test_what_no_lock_can_hold_is_left_out(licence: object, revision: object, tmp_path: Path) -> None:
    """The bug: the files were all there, and then the user's lock could not be read any more."""
    rules = listed("huggingface", lambda entry: None, sha=revision, cardData={"license": licence})
    with HuggingFaceDouble([tiny()], rules) as hub:
        learned = pull(MODEL, tmp_path / "out", [at(hub)]).model
    assert content_of(tmp_path / "out") == NEEDED
    assert (learned.licence, learned.sources[0].revision) in [("mit", None), (None, "a" * 40)]
    write_lock(tmp_path / "models.lock", {NAME: learned})
    assert read_lock(tmp_path / "models.lock")[NAME].licence == learned.licence


@pytest.mark.parametrize("hub_name", HUBS)
@pytest.mark.parametrize("code", [429, 503])
def test_a_busy_hub_is_asked_again(code: int, hub_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug: one 503 to the listing was the end of it."""
    waits: list[float] = []
    monkeypatch.setattr(patiently, "__defaults__", (waits.append, lambda: 0.0))
    with HUBS[hub_name]([tiny()], [Rule("*", RetryLater(1, code=code), on="api")]) as hub:
        pull(MODEL, tmp_path, [at(hub)])
        assert hub.script.unmet() == []
    assert waits == [1.0] and content_of(tmp_path) == NEEDED


# --- redirects and passwords

NOWHERE = {"no address": "http://[::1", "a file": "file:///etc/passwd", "a loop": "{path}", "no scheme": "gopher://x/"}


@pytest.mark.parametrize("hub_name", HUBS)
@pytest.mark.parametrize("location", NOWHERE.values(), ids=NOWHERE)
def test_a_redirect_to_nowhere(location: str, hub_name: str, tmp_path: Path) -> None:
    """The bug: a traceback for some, a minute of attempts for others."""
    waits: list[float] = []
    rules = [Rule(WEIGHTS, Redirect(location), on="link", times=None)]
    with HUBS[hub_name]([tiny()], rules) as first, HuggingFaceDouble([tiny()]) as second:
        with pytest.raises(SourceFailed, match=f"{WEIGHTS}: the server sends elsewhere") as caught:
            fetch_file([at(first)], FILE, tmp_path / "a", sleep=waits.append)
        fetch_file([at(first), at(second)], FILE, tmp_path / "b", sleep=waits.append)
    assert "\n" not in str(caught.value) and waits == []
    assert (tmp_path / "b").read_bytes() == NEEDED[WEIGHTS]


@pytest.mark.parametrize("hub_name", HUBS)
@pytest.mark.parametrize("location", NOWHERE.values(), ids=NOWHERE)
def test_a_listing_that_redirects_to_nowhere(location: str, hub_name: str, tmp_path: Path) -> None:
    """The bug: a traceback, for an address that cannot be parsed."""
    with (
        HUBS[hub_name]([tiny()], [Rule("*", Redirect(location), on="api", times=None)]) as first,
        HuggingFaceDouble([tiny()]) as ok,
    ):
        with pytest.raises(HubError) as caught:
            pull(MODEL, tmp_path, [at(first)])
        pull(MODEL, tmp_path, [at(first), at(ok)])
        assert asked(first) == []
    assert "\n" not in str(caught.value) and content_of(tmp_path) == NEEDED


@pytest.mark.parametrize("hub_name", HUBS)
def test_no_password_of_a_netrc_is_sent(hub_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bug: what ~/.netrc has for a host took the place of the token, and went to the hosts of redirects too."""
    for name in (".netrc", "_netrc"):
        (tmp_path / name).write_text("machine 127.0.0.1 login me password secret\n")
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("HF_TOKEN", "hf_mine")
    known = {"tokens": {"hf_mine": True}} if hub_name == "huggingface" else {}
    with HUBS[hub_name]([tiny()], **known) as hub:
        pull(MODEL, tmp_path / "out", [at(hub)])
        sent = {(request.server, request.authorization) for request in hub.requests}
    token = "Bearer hf_mine" if hub_name == "huggingface" else None
    assert sent == {("hub", token), ("cdn", None)}
