"""A double of ModelScope: its listing with its cut, file downloads with its odd ranges, and the CDN for large files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Never

from tests.hub.content import Repository, StoredFile, level
from tests.hub.double import Double, Refused, is_true
from tests.hub.faults import RangeAs200, Rule
from tests.hub.server import Answer, Request

BRANCH = "master"
JSON = {"Content-Type": "application/json; charset=utf-8"}


class ModelScopeDouble(Double):
    """`listing_cut`: a listing ends after so many entries, and says nothing of it.

    `error_status`: the HTTP status of errors. The hub has answered them with 404 and also with 200, in which case
    only `Success: false` tells; 200 is the harder one.
    `head`: a HEAD request is refused with 405, or answered without a length.
    """

    def __init__(
        self,
        repositories: Sequence[Repository],
        faults: Sequence[Rule] = (),
        link_seconds: float = 3600,
        *,
        listing_cut: int = 3000,
        error_status: int = 200,
        head: Literal["refused", "no length"] = "refused",
    ) -> None:
        super().__init__(repositories, faults, link_seconds)
        self._listing_cut = listing_cut
        self._error_status = error_status
        self._head = head

    def answer(self, request: Request) -> Answer:
        if request.method == "HEAD":
            refused = self._head == "refused"
            return Answer(405, {"Allow": "GET"}) if refused else Answer(200, {"Transfer-Encoding": "chunked"})
        match request.segments:
            case ["api", "v1", "models", org, name, "repo", "files"]:
                return self.files(request, f"{org}/{name}")
            case ["api", "v1", "models", org, name, "repo"]:
                return self.file(request, f"{org}/{name}")
        return Answer(404, body=b"404 page not found")

    def files(self, request: Request, name: str) -> Answer:
        """`GET /api/v1/models/{org}/{name}/repo/files?Revision=&Recursive=&Root=`.

        Every file has its SHA-256, small ones too. Folders are entries of type `tree` and count for the cut. Not
        recursive: only the level of `Root`.
        """
        repository, commit = self._find(name, request.query.get("Revision"))
        fault = self.take("api", request.url_path, request, repository, commit)
        files = self._revision(repository, commit)
        entries = listing(
            files, commit, request.query.get("Root", "").strip("/"), is_true(request.query.get("Recursive"))
        )
        data = {"Files": entries[: self._listing_cut], "IsVisual": 0}
        body = {"Code": 200, "Data": data, "Message": "success", "RequestId": "double", "Success": True}
        return Answer(200, JSON, json.dumps(body).encode(), fault)

    def file(self, request: Request, name: str) -> Answer:
        """`GET /api/v1/models/{org}/{name}/repo?Revision=&FilePath=`.

        An LFS file is redirected to a link on another host, where ranges are answered by 206. A small file's range is
        answered by the right bytes with Content-Range, but with status 200.
        """
        repository, commit = self._find(name, request.query.get("Revision"))
        path = request.query.get("FilePath", "")
        file = self._revision(repository, commit).get(path)
        if file is None:
            self._refuse(f"获取文件内容失败，信息：{path} not found")
        fault = self.take("link" if file.lfs else "body", path, request, repository, commit)
        self._revision(repository, commit)
        if file.lfs:
            return Answer(302, {"Location": self.link(path, file)}, b"Found", fault)
        return Answer(200, {"Content-Type": "application/octet-stream"}, file, fault or RangeAs200())

    def _find(self, name: str, revision: str | None) -> tuple[Repository, str]:
        repository = self.repositories.get(name)
        if repository is None:
            self._refuse("获取模型信息失败，信息：record not found")
        commit = repository.commit(revision or BRANCH, BRANCH)
        if commit is None:
            self._refuse("获取模型版本失败，信息：record not found")
        return repository, commit

    def _revision(self, repository: Repository, commit: str) -> dict[str, StoredFile]:
        if commit not in repository.revisions:
            self._refuse("获取模型版本失败，信息：record not found")
        return repository.revisions[commit]

    def _refuse(self, message: str) -> Never:
        body = {"Code": 10010205001, "Message": message, "RequestId": "double", "Success": False}
        raise Refused(Answer(self._error_status, JSON, json.dumps(body, ensure_ascii=False).encode()))


def listing(files: Mapping[str, StoredFile], commit: str, root: str, recursive: bool) -> list[dict[str, Any]]:
    """The entries of `Data.Files`."""
    folders, paths = level(files, root, recursive)
    entries: list[dict[str, Any]] = [{"Path": path, "Type": "tree", "Size": 0, "Sha256": ""} for path in folders]
    for path in paths:
        file = files[path]
        entries.append({"Path": path, "Type": "blob", "Size": file.size, "Sha256": file.sha256, "IsLFS": file.lfs})
    common = {"IsLFS": False, "Revision": commit, "CommittedDate": 1726842501}
    return [common | {"Name": entry["Path"].rsplit("/", 1)[-1]} | entry for entry in entries]
