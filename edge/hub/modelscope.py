"""ModelScope, by its HTTP routes: where many users in China fetch models from."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from typing import Any
from urllib.parse import quote, urlencode

import requests

from edge import lock
from edge.errors import HubError
from edge.hub import http
from edge.hub.source import Body, Listing, RemoteFile

DOMAIN = "www.modelscope.cn"
MOST_FILES = 3000  # the listing ends there without a word
TIMEOUT = (10.0, 30.0)  # seconds to connect, without a byte


class ModelScope:
    """``repo`` is ``owner/name``; ``revision`` a branch, a tag, or a commit.

    ``MODELSCOPE_DOMAIN`` names another host.
    """

    def __init__(self, repo: str, revision: str = "master", endpoint: str | None = None) -> None:
        self.repo, self.revision = repo, revision
        place = endpoint or os.environ.get("MODELSCOPE_DOMAIN") or DOMAIN
        self.endpoint = (place if "://" in place else f"https://{place}").rstrip("/")

    @property
    def where(self) -> str:
        return f"ModelScope {self.repo}"

    def _api(self, route: str, **query: str) -> str:
        return f"{self.endpoint}/api/v1/models/{quote(self.repo)}/{route}?{urlencode(query)}"

    def listing(self) -> Listing:
        url = self._api("repo/files", Revision=self.revision, Recursive="True")
        try:
            answer = requests.get(url, timeout=TIMEOUT)
            content = answer.json()
        except requests.RequestException as error:
            raise HubError(f"{self.where}: cannot be reached: {type(error).__name__}", "check the network") from error
        data = content.get("Data") if isinstance(content, dict) else None
        if answer.status_code != 200 or not isinstance(data, dict) or content.get("Success") is False:
            said = content.get("Message") if isinstance(content, dict) else ""
            raise HubError(
                f"{self.where}: revision {self.revision} is not there ({str(said)[:80]})",
                "check the name on modelscope.cn; the two hubs do not always call a model the same",
            )
        entries = [entry for entry in data.get("Files") or [] if isinstance(entry, dict)]
        if len(entries) >= MOST_FILES:
            raise HubError(f"{self.where}: has more files than ModelScope lists", "use --source huggingface")
        files = tuple(remote_file(entry) for entry in entries if entry.get("Type") != "tree")
        return Listing(files, lock.Source("modelscope", self.repo))  # a branch, and not for ever

    def open(self, file: RemoteFile, start: int, end: int) -> AbstractContextManager[Body]:
        return http.get(self.where, self._api("repo", Revision=self.revision, FilePath=file.name), file, start, end)


def remote_file(entry: dict[str, Any]) -> RemoteFile:
    """Raises HubError for an entry that is none."""
    name, size, sha256 = entry.get("Path"), entry.get("Size"), entry.get("Sha256")
    if not isinstance(name, str) or type(size) is not int or size < 0:
        raise HubError(f"ModelScope lists a file as {str(entry)[:60]!r}", "try another source")
    return RemoteFile(name, size, sha256.lower() if isinstance(sha256, str) and sha256 else None)
