"""The doubles themselves: that they answer as the hubs do, and that each fault is the fault it says."""

from __future__ import annotations

import hashlib
import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from email.message import Message
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.conftest import LeftLoopback
from tests.hub.content import StoredFile, repository, repository_of
from tests.hub.double import Double
from tests.hub.faults import (
    ErrorPage,
    ExpiredLink,
    Fault,
    IgnoreRange,
    RangeAs200,
    Redirect,
    Reset,
    RetryLater,
    RevisionGone,
    Rule,
    ShortBody,
    Slow,
    Stall,
    Status,
    WrongBytes,
)
from tests.hub.huggingface import HuggingFaceDouble
from tests.hub.modelscope import ModelScopeDouble
from tests.hub.server import span

CONFIG = b'{"model_type": "qwen2"}'
WEIGHTS = bytes(range(256)) * 40
FILES = {"config.json": CONFIG, "model.safetensors": WEIGHTS, "sub/deep/notes.txt": b"notes"}
NAME = "Org/Small"


class Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, req: Any, fp: Any, code: Any, msg: Any, headers: Any, newurl: Any) -> None:
        return None


@dataclass
class Got:
    status: int
    headers: Message
    url: str
    body: bytes


def get(url: str, headers: dict[str, str] | None = None, method: str = "GET", follow: bool = True) -> Got:
    """The answer, whatever its status."""
    opener = urllib.request.build_opener(*(() if follow else (Stay(),)))
    response: Any
    try:
        response = opener.open(urllib.request.Request(url, headers=headers or {}, method=method), timeout=10)
    except urllib.error.HTTPError as error:
        response = error
    with response:
        return Got(response.status, response.headers, response.url, response.read())


def hf_file(hub: Double, path: str = "model.safetensors", revision: str = "main") -> str:
    return f"{hub.endpoint}/{NAME}/resolve/{revision}/{path}"


def ms_file(hub: Double, path: str = "model.safetensors") -> str:
    return f"{hub.endpoint}/api/v1/models/{NAME}/repo?Revision=master&FilePath={quote(path)}"


def ms_files(hub: Double, query: str = "Revision=master&Recursive=True") -> dict[str, Any]:
    return json.loads(get(f"{hub.endpoint}/api/v1/models/{NAME}/repo/files?{query}").body)


def faulty(fault: Fault, **where: Any) -> HuggingFaceDouble:
    return HuggingFaceDouble([repository(NAME, FILES)], [Rule("model.safetensors", fault, **where)])


# Files


def test_hashes_are_those_of_git_and_of_lfs(tmp_path: Path) -> None:
    """`git hash-object` of "hello" and a newline, and of an LFS pointer computed here by hand."""
    assert StoredFile(b"hello\n").blob_id == "ce013625030ba8dba906f756967f9e9ca394464a"
    on_disk = tmp_path / "model.bin"
    on_disk.write_bytes(WEIGHTS)
    file = StoredFile(on_disk, lfs=True)
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{hashlib.sha256(WEIGHTS).hexdigest()}\n"
    pointer += f"size {len(WEIGHTS)}\n"
    assert file.blob_id == StoredFile(pointer.encode()).blob_id
    assert b"".join(file.read(100, 400)) == WEIGHTS[100:400]


def test_a_folder_on_disk_is_a_repository(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "model.safetensors").write_bytes(WEIGHTS)
    with HuggingFaceDouble([repository_of(NAME, tmp_path)]) as hub:
        assert get(hf_file(hub, "sub/model.safetensors")).body == WEIGHTS


@pytest.mark.parametrize(
    ("header", "expected"),
    [(None, None), ("bytes=-", None), ("bytes=0-1,5-6", None), ("lines=0-1", None), ("bytes=2-4", (2, 5)),
     ("bytes=2-", (2, 10)), ("bytes=-3", (7, 10)), ("bytes=-30", (0, 10)), ("bytes=2-99", (2, 10)),
     ("bytes=10-", (10, 10))],
)  # fmt: skip
def test_ranges(header: str | None, expected: tuple[int, int] | None) -> None:
    assert span(header, 10) == expected


# Hugging Face


def test_a_large_file_is_redirected_to_the_cdn() -> None:
    with HuggingFaceDouble([repository(NAME, FILES)]) as hub:
        answer = get(hf_file(hub), method="HEAD", follow=False)
        assert answer.status == 302 and answer.headers["Location"].startswith(hub.cdn_endpoint)
        assert answer.headers["X-Linked-Etag"] == f'"{hashlib.sha256(WEIGHTS).hexdigest()}"'
        assert answer.headers["X-Linked-Size"] == str(len(WEIGHTS)) != answer.headers["Content-Length"]
        assert answer.headers["X-Repo-Commit"] == hub.repositories[NAME].head
        part = get(hf_file(hub), {"Range": "bytes=100-199"})
        assert (part.status, part.body) == (206, WEIGHTS[100:200])
        assert part.headers["Content-Range"] == f"bytes 100-199/{len(WEIGHTS)}"
        assert get(hf_file(hub), {"Range": f"bytes={len(WEIGHTS)}-"}).headers["Content-Range"] == "bytes */10240"
    assert [(r.server, r.method, r.range, r.status, r.sent) for r in hub.requests[:3]] == [
        ("hub", "HEAD", None, 302, 0),
        ("hub", "GET", "bytes=100-199", 302, hub.requests[1].sent),
        ("cdn", "GET", "bytes=100-199", 206, 100),
    ]
    assert hub.requests[-1].status == 416


@pytest.mark.parametrize("redirect", [True, False])
def test_a_small_file_comes_from_the_hub(redirect: bool) -> None:
    with HuggingFaceDouble([repository(NAME, FILES)], redirect_small=redirect) as hub:
        answer = get(hf_file(hub, "config.json"))
        assert answer.body == CONFIG and answer.headers["ETag"] == f'"{StoredFile(CONFIG).blob_id}"'
    assert [r.status for r in hub.requests] == ([307, 200] if redirect else [200])
    assert {r.server for r in hub.requests} == {"hub"}


def test_the_cdn_takes_no_token_and_no_forged_link() -> None:
    with HuggingFaceDouble([repository(NAME, FILES)]) as hub:
        link = get(hf_file(hub), method="HEAD", follow=False).headers["Location"]
        assert get(link, {"Authorization": "Bearer hf_secret"}).status == 400
        assert get(link[:-1] + "x").status == get(link.replace("?", "0?")).status == 403
        assert get(link).body == WEIGHTS
    assert next(r.authorization for r in hub.requests if r.server == "cdn") == "Bearer hf_secret"


def test_links_expire() -> None:
    with HuggingFaceDouble([repository(NAME, FILES)], link_seconds=-1) as hub:
        assert get(hf_file(hub)).status == 403


def test_a_tree_comes_in_pages() -> None:
    files = {f"{i:03}.txt": b"x" for i in range(25)}
    with HuggingFaceDouble([repository(NAME, files)], page_size=10) as hub:
        url: str | None = f"{hub.endpoint}/api/models/{NAME}/tree/main?recursive=true"
        seen: list[str] = []
        while url:
            page = get(url)
            seen += [entry["path"] for entry in json.loads(page.body)]
            url = page.headers["Link"] and page.headers["Link"].split(">")[0].lstrip("<")
    assert seen == sorted(files) and len(hub.requests) == 3


@pytest.mark.parametrize(("token", "status"), [(None, 401), ("unknown", 401), ("not-granted", 403), ("granted", 200)])
def test_gated(token: str | None, status: int) -> None:
    tokens = {"granted": True, "not-granted": False}
    with HuggingFaceDouble([repository(NAME, FILES, gated=True)], tokens=tokens) as hub:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        answer = get(hf_file(hub, "config.json"), headers)
        assert answer.status == status
        assert answer.headers["X-Error-Code"] == (None if status == 200 else "GatedRepo")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/api/models/No/Such", 401, "RepoNotFound"),
        (f"/api/models/{NAME}/revision/nope", 404, "RevisionNotFound"),
        (f"/{NAME}/resolve/nope/config.json", 404, "RevisionNotFound"),
        (f"/{NAME}/resolve/main/nope.json", 404, "EntryNotFound"),
        ("/nothing", 404, None),
    ],
)
def test_errors_have_codes(path: str, status: int, code: str | None) -> None:
    with HuggingFaceDouble([repository(NAME, FILES)]) as hub:
        answer = get(hub.endpoint + path)
        assert (answer.status, answer.headers["X-Error-Code"]) == (status, code)


# ModelScope


def test_modelscope_lists_with_hashes() -> None:
    with ModelScopeDouble([repository(NAME, FILES)]) as hub:
        files = {entry["Path"]: entry for entry in ms_files(hub)["Data"]["Files"]}
        level = {entry["Path"] for entry in ms_files(hub, "Root=sub")["Data"]["Files"]}
    assert {path for path, entry in files.items() if entry["Type"] == "tree"} == {"sub", "sub/deep"}
    assert level == {"sub/deep"}
    for path, content in FILES.items():
        assert (files[path]["Size"], files[path]["Sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert files[path]["IsLFS"] == (path == "model.safetensors")


def test_modelscope_cuts_long_listings() -> None:
    with ModelScopeDouble([repository(NAME, {f"{i:04}.txt": b"" for i in range(3001)})]) as hub:
        listing = ms_files(hub)
    assert listing["Success"] and len(listing["Data"]["Files"]) == 3000


@pytest.mark.parametrize("status", [200, 404])
def test_modelscope_says_failure_in_the_body(status: int) -> None:
    with ModelScopeDouble([], error_status=status) as hub:
        for url in (ms_file(hub), f"{hub.endpoint}/api/v1/models/{NAME}/repo/files"):
            answer = get(url)
            assert answer.status == status and json.loads(answer.body)["Success"] is False


def test_modelscope_ranges() -> None:
    with ModelScopeDouble([repository(NAME, FILES)]) as hub:
        small = get(ms_file(hub, "config.json"), {"Range": "bytes=2-5"})
        assert (small.status, small.body) == (200, CONFIG[2:6])
        assert small.headers["Content-Range"] == f"bytes 2-5/{len(CONFIG)}"
        large = get(ms_file(hub), {"Range": "bytes=2-5"})
        assert (large.status, large.body, large.url[:22]) == (206, WEIGHTS[2:6], hub.cdn_endpoint[:22])


def test_modelscope_head_is_no_use() -> None:
    with ModelScopeDouble([repository(NAME, FILES)]) as refusing:
        assert get(ms_file(refusing), method="HEAD").status == 405
    with ModelScopeDouble([repository(NAME, FILES)], head="no length") as vague:
        answer = get(ms_file(vague), method="HEAD")
        assert answer.status == 200 and answer.headers["Content-Length"] is None


# Faults


def test_a_short_body_is_met_once() -> None:
    with faulty(ShortBody(1000)) as hub:
        with pytest.raises(http.client.IncompleteRead) as cut:
            get(hf_file(hub))
        assert cut.value.partial == WEIGHTS[:1000]
        assert get(hf_file(hub)).body == WEIGHTS and not hub.script.unmet()


def test_attempts_are_counted_for_each_path() -> None:
    files = {"a.bin": b"a", "b.bin": b"b"}
    rule = Rule("*.bin", Status(503), first=2, times=2)
    with HuggingFaceDouble([repository(NAME, files)], [rule]) as hub:
        for path in files:
            assert [get(hf_file(hub, path)).status for _ in range(4)] == [200, 503, 503, 200]


def test_a_rule_that_met_nothing_is_told() -> None:
    with faulty(Status(500), first=2) as hub:
        get(hf_file(hub))
        assert len(hub.script.unmet()) == 1


@pytest.mark.parametrize("after", [None, 3000])
def test_a_reset(after: int | None) -> None:
    with faulty(Reset(after)) as hub:
        with pytest.raises((ConnectionError, urllib.error.URLError)):
            get(hf_file(hub))
        assert get(hf_file(hub)).body == WEIGHTS


def test_an_error_page_in_mid_body() -> None:
    with faulty(ErrorPage(1000)) as hub, pytest.raises(http.client.IncompleteRead) as cut:
        get(hf_file(hub))
    assert cut.value.partial == WEIGHTS[:1000] + ErrorPage(0).text


def test_wrong_bytes_are_at_their_offset_in_any_range() -> None:
    with faulty(WrongBytes(at=150), times=None) as hub:
        part = get(hf_file(hub), {"Range": "bytes=100-199"}).body
        assert [i for i in range(100) if part[i] != WEIGHTS[100 + i]] == [50]
        assert get(hf_file(hub), {"Range": "bytes=151-"}).body == WEIGHTS[151:]


def test_a_range_ignored_or_answered_by_200() -> None:
    with faulty(IgnoreRange()) as hub:
        answer = get(hf_file(hub), {"Range": "bytes=5-9"})
        assert (answer.status, answer.body, answer.headers["Content-Range"]) == (200, WEIGHTS, None)
    with faulty(RangeAs200()) as hub:
        answer = get(hf_file(hub), {"Range": "bytes=5-9"})
        assert (answer.status, answer.body) == (200, WEIGHTS[5:10])


@pytest.mark.parametrize("on", ["link", "body"])
def test_retry_later(on: Any) -> None:
    with faulty(RetryLater(7), on=on) as hub:
        answer = get(hf_file(hub))
        assert (answer.status, answer.headers["Retry-After"]) == (429, "7")
        assert get(hf_file(hub)).status == 200
    with faulty(RetryLater(7, as_date=True, code=503), on=on) as hub:
        answer = get(hf_file(hub))
        assert answer.status == 503
        assert parsedate_to_datetime(answer.headers["Retry-After"]).timestamp() > time.time()


def test_a_link_that_expires_stays_expired_and_a_new_one_works() -> None:
    with faulty(ExpiredLink(), first=2) as hub:
        link = get(hf_file(hub), follow=False).headers["Location"]
        assert [get(link).status for _ in range(4)] == [200, 403, 403, 403]
        assert get(hf_file(hub)).body == WEIGHTS


def test_redirects_in_a_loop_and_to_another_host() -> None:
    with faulty(Redirect("{path}"), on="link") as hub:
        answer = get(hf_file(hub), follow=False)
        assert answer.headers["Location"] == f"/{NAME}/resolve/main/model.safetensors"
    with HuggingFaceDouble([repository(NAME, FILES)]) as mirror:
        with faulty(Redirect(mirror.endpoint + "{path}"), on="link") as hub:
            assert get(hf_file(hub)).body == WEIGHTS
        assert [r.server for r in mirror.requests] == ["hub", "cdn"]


@pytest.mark.parametrize("on", ["api", "link"])
def test_a_revision_vanishes(on: Any) -> None:
    repo = repository(NAME, FILES)
    path = "/api/*" if on == "api" else "model.safetensors"
    with HuggingFaceDouble([repo], [Rule(path, RevisionGone(), first=2, on=on)]) as hub:
        url = f"{hub.endpoint}/api/models/{NAME}/revision/{repo.head}" if on == "api" else hf_file(hub)
        answers = [get(url) for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 404, 404]
        assert answers[2].headers["X-Error-Code"] == "RevisionNotFound"
        assert get(hf_file(hub, "config.json")).status == 404


def test_modelscope_loses_a_revision() -> None:
    rule = Rule("/api/*", RevisionGone(), first=2, on="api")
    with ModelScopeDouble([repository(NAME, FILES)], [rule]) as hub:
        assert [ms_files(hub)["Success"] for _ in range(3)] == [True, False, False]


def test_rules_that_could_not_fire_are_refused() -> None:
    with pytest.raises(ValueError, match="CDN"):
        Rule("*", ExpiredLink(), on="link")
    with pytest.raises(ValueError, match="hub"):
        Rule("*", RevisionGone())


def test_slow_and_stalled_bodies_end_with_the_double() -> None:
    """The client is in the middle of its reading, and the `with` ends all the same."""
    for fault in (Slow(rate=2000), Stall(after=500)):
        with faulty(fault) as hub:
            answer = urllib.request.urlopen(hf_file(hub), timeout=10)
            assert answer.read(200) == WEIGHTS[:200]
            assert hub.requests[-1].sent < len(WEIGHTS)
        with answer, pytest.raises((http.client.IncompleteRead, ConnectionError)):
            answer.read()


def test_a_hub_that_is_down_refuses_and_comes_back() -> None:
    with HuggingFaceDouble([repository(NAME, FILES)]) as hub:
        with hub.down(), pytest.raises(urllib.error.URLError) as refused:
            urllib.request.urlopen(hf_file(hub), timeout=10)
        assert isinstance(refused.value.reason, ConnectionRefusedError)
        assert get(hf_file(hub)).body == WEIGHTS


def test_an_error_of_the_double_itself_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    hub = HuggingFaceDouble([repository(NAME, FILES)])
    monkeypatch.setattr(hub, "answer", lambda request: 1 // 0)
    with pytest.raises(ZeroDivisionError), hub, pytest.raises((http.client.HTTPException, OSError)):
        get(hf_file(hub))


# The guard of this folder's tests


@pytest.mark.parametrize("address", [("192.0.2.1", 80), ("example.org", 80)])
def test_nothing_but_loopback_can_be_reached(address: tuple[str, int]) -> None:
    with pytest.raises(LeftLoopback):
        socket.create_connection(address, timeout=1)
    for call in ("connect", "connect_ex"):
        with socket.socket() as sock, pytest.raises(LeftLoopback):
            getattr(sock, call)(address)
    with socket.socket(type=socket.SOCK_DGRAM) as sock, pytest.raises(LeftLoopback):
        sock.sendto(b"x", address)
    with pytest.raises(LeftLoopback):
        urllib.request.urlopen(f"http://{address[0]}/", timeout=1)
