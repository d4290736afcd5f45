"""ModelScope, by its HTTP routes: where many users in China fetch models from."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from urllib.parse import quote, urlencode

import requests

from edge.errors import HubError
from edge.hub import http
from edge.hub.source import Body, Cut, Listing, RemoteFile, listed_file, listing

DOMAIN = "www.modelscope.cn"
MOST_FILES = 3000  # the listing ends there without a word
CHECK = "check the name on modelscope.cn; the two hubs do not always call a model the same"


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
            with http.Session() as session:
                answer = session.get(url, timeout=(http.CONNECT, http.STALL))
            if answer.status_code in http.TRANSIENT:
                raise Cut(f"the hub answered {answer.status_code}", http.retry_after(answer.headers))
            content = answer.json()
        except (requests.JSONDecodeError, RecursionError) as error:
            raise HubError(f"{self.where}: the hub answers with something else than a listing", CHECK) from error
        except (requests.RequestException, ValueError) as error:  # ValueError: a redirect to no address
            reason = f"cannot be reached: {type(error).__name__}"
            raise HubError(f"{self.where}: {reason}", http.network_hint()) from error
        data = content.get("Data") if isinstance(content, dict) else None
        if answer.status_code != 200 or not isinstance(data, dict) or content.get("Success") is False:
            said = content.get("Message") if isinstance(content, dict) else ""
            raise HubError(f"{self.where}: revision {self.revision} is not there ({str(said)[:80]})", CHECK)
        if not isinstance(listed := data.get("Files") or [], list):
            raise HubError(f"{self.where}: the hub answers with something else than a listing", CHECK)
        entries = [entry for entry in listed if isinstance(entry, dict)]
        if len(entries) >= MOST_FILES:
            raise HubError(f"{self.where}: has more files than ModelScope lists", "use --source huggingface")
        files = tuple(
            listed_file(self.where, entry.get("Path"), entry.get("Size"), entry.get("Sha256"))
            for entry in entries
            if entry.get("Type") != "tree"
        )
        return listing(files, "modelscope", self.repo)  # no revision: a branch is not for ever

    def open(self, file: RemoteFile, start: int, end: int) -> AbstractContextManager[Body]:
        url = self._api("repo", Revision=self.revision, FilePath=file.name)
        return http.get(self.where, url, file, start, end, hint=CHECK)
