"""A double of the Hugging Face hub: listings, file URLs, gated repositories, and the CDN for large files."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, Never
from urllib.parse import quote, urlencode, urlsplit

from tests.hub.content import Repository, StoredFile, level
from tests.hub.double import Double, Refused, is_true
from tests.hub.faults import Fault, Rule
from tests.hub.server import Answer, Request

BRANCH = "main"


def refuse(status: int, code: str, message: str) -> Never:
    """An error as the hub gives it: JSON, with headers by which its own client chooses the exception."""
    headers = {"X-Error-Message": message, "Content-Type": "application/json"}
    body = json.dumps({"error": message}).encode()
    raise Refused(Answer(status, headers | ({"X-Error-Code": code} if code else {}), body))


class HuggingFaceDouble(Double):
    """Point `HF_ENDPOINT`, or `HfApi(endpoint=...)`, at `endpoint`.

    `tokens`: the tokens that the hub knows, and whether their owner has been granted the gated repositories.
    `page_size`: entries per page of a tree; the hub's own is 1000.
    `redirect_small`: files kept in git itself are redirected (307, to a path on the same host) as the hub has done
    since 2025; False serves them at once, as mirrors do.
    """

    def __init__(
        self,
        repositories: Sequence[Repository],
        faults: Sequence[Rule] = (),
        link_seconds: float = 3600,
        *,
        tokens: Mapping[str, bool] | None = None,
        page_size: int = 1000,
        redirect_small: bool = True,
    ) -> None:
        super().__init__(repositories, faults, link_seconds)
        self._tokens = tokens or {}
        self._page_size = page_size
        self._redirect_small = redirect_small

    def answer(self, request: Request) -> Answer:
        match request.segments:
            case ["api", "models", org, name]:
                return self.info(request, f"{org}/{name}", BRANCH)
            case ["api", "models", org, name, "revision", revision]:
                return self.info(request, f"{org}/{name}", revision)
            case ["api", "models", org, name, "tree", revision, *folder]:
                return self.tree(request, f"{org}/{name}", revision, "/".join(folder))
            case ["api", "resolve-cache", "models", org, name, commit, *path]:
                return self.resolve(request, f"{org}/{name}", commit, "/".join(path), cached=True)
            case [org, name, "resolve", revision, *path]:
                return self.resolve(request, f"{org}/{name}", revision, "/".join(path), cached=False)
        refuse(404, "", "Sorry, we can't find the page you are looking for.")

    def info(self, request: Request, name: str, revision: str) -> Answer:
        """`GET /api/models/{repo}[/revision/{revision}]`, with sizes and hashes only if `blobs` is asked for.

        A gated repository's listing is open to all; only its files are not.
        """
        repository, commit, files, fault = self._listed(request, name, revision)
        siblings: list[dict[str, Any]] = [{"rfilename": path} for path in files]
        if is_true(request.query.get("blobs")):
            for sibling, file in zip(siblings, files.values(), strict=True):
                sibling |= {"size": file.size, "blobId": file.blob_id}
                if file.lfs:
                    sibling["lfs"] = {"sha256": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
        info = {
            "id": name,
            "modelId": name,
            "author": name.split("/")[0],
            "sha": commit,
            "private": False,
            "disabled": False,
            "gated": "manual" if repository.gated else False,
            "tags": ["safetensors", f"license:{repository.licence}"],
            "cardData": {"license": repository.licence},
            "siblings": siblings,
        }
        return Answer(200, {"Content-Type": "application/json"}, json.dumps(info).encode(), fault)

    def tree(self, request: Request, name: str, revision: str, folder: str) -> Answer:
        """`GET /api/models/{repo}/tree/{revision}[/{folder}]`: pages, each with a `Link` header to the next.

        Here the SHA-256 of an LFS file is `lfs.oid`, and `oid` is git's.
        """
        _, _, files, fault = self._listed(request, name, revision)
        entries = tree_entries(files, folder, is_true(request.query.get("recursive")))
        if not entries:
            refuse(404, "EntryNotFound", f"{folder} does not exist on {revision!r}")
        start = int(base64.urlsafe_b64decode(request.query.get("cursor", "")) or 0)
        end = start + self._page_size
        headers = {"Content-Type": "application/json"}
        if end < len(entries):
            cursor = base64.urlsafe_b64encode(str(end).encode()).decode()
            following = urlencode({**request.query, "cursor": cursor})
            headers["Link"] = f'<{self.endpoint}{urlsplit(request.path).path}?{following}>; rel="next"'
        return Answer(200, headers, json.dumps(entries[start:end]).encode(), fault)

    def resolve(self, request: Request, name: str, revision: str, path: str, cached: bool) -> Answer:
        """`HEAD|GET /{repo}/resolve/{revision}/{file}`: the file's commit, size and hash in headers.

        An LFS file is redirected (302) to another host by a link that expires; its hash is `X-Linked-Etag`, a
        SHA-256. A small one's is `ETag`, git's SHA-1. Both redirects have a body, with a length of its own.
        """
        repository = self._repository(name)
        self._admit(request, repository)
        commit = self._commit(repository, revision)
        file = self._files(repository, commit).get(path)
        if file is None:
            refuse(404, "EntryNotFound", f"Entry not found: {path}")
        redirected = file.lfs or (self._redirect_small and not cached)
        fault = self.take("link" if redirected else "body", path, request, repository, commit)
        self._files(repository, commit)
        etag = f'"{file.sha256 if file.lfs else file.blob_id}"'
        headers = {"X-Repo-Commit": commit, "ETag": etag}
        if not redirected:
            return Answer(200, headers, file, fault)
        headers |= {"X-Linked-Size": str(file.size), "X-Linked-Etag": etag}
        where = self.link(path, file) if file.lfs else f"/api/resolve-cache/models/{name}/{commit}/{quote(path)}"
        text = f"{'Found' if file.lfs else 'Temporary Redirect'}. Redirecting to {where}".encode()
        return Answer(302 if file.lfs else 307, headers | {"Location": where}, text, fault)

    def _listed(
        self, request: Request, name: str, revision: str
    ) -> tuple[Repository, str, dict[str, StoredFile], Fault | None]:
        """(repository, commit, files, fault) of a listing."""
        if request.authorization and self._token(request) not in self._tokens:
            refuse(401, "", "Invalid credentials in Authorization header")
        repository = self._repository(name)
        commit = self._commit(repository, revision)
        fault = self.take("api", request.url_path, request, repository, commit)
        return repository, commit, self._files(repository, commit), fault

    def _token(self, request: Request) -> str:
        return (request.authorization or "").removeprefix("Bearer ")

    def _repository(self, name: str) -> Repository:
        """A repository that is not there is answered like a private one."""
        if name not in self.repositories:
            refuse(401, "RepoNotFound", "Repository not found")
        return self.repositories[name]

    def _admit(self, request: Request, repository: Repository) -> None:
        """The files of a gated repository: 401 without a token that the hub knows, 403 without access."""
        granted = self._tokens.get(self._token(request))
        if repository.gated and not granted:
            message = f"Access to model {repository.name} is restricted."
            refuse(401 if granted is None else 403, "GatedRepo", message)

    def _commit(self, repository: Repository, revision: str) -> str:
        commit = repository.commit(revision, BRANCH)
        if commit is None:
            refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit

    def _files(self, repository: Repository, commit: str) -> dict[str, StoredFile]:
        if commit not in repository.revisions:
            refuse(404, "RevisionNotFound", f"Invalid rev id: {commit}")
        return repository.revisions[commit]


def tree_entries(files: Mapping[str, StoredFile], folder: str, recursive: bool) -> list[dict[str, Any]]:
    """A tree's entries: folders first, as the hub has them."""
    folders, paths = level(files, folder, recursive)
    entries: list[dict[str, Any]] = [
        {"type": "directory", "oid": hashlib.sha1(path.encode()).hexdigest(), "size": 0, "path": path}
        for path in folders
    ]
    for path in paths:
        file = files[path]
        entry: dict[str, Any] = {"type": "file", "oid": file.blob_id, "size": file.size, "path": path}
        if file.lfs:
            entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": len(file.pointer)}
        entries.append(entry)
    return entries
