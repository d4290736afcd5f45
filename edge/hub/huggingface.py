"""Hugging Face: listing and refusals through ``huggingface-hub``; the bytes are fetched by ``edge.hub.download``."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager
from pathlib import Path
from urllib.parse import quote

os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")  # before the import: it asks the hub something of its own

from huggingface_hub import HfApi, constants, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.file_download import repo_folder_name

from edge.errors import HubError
from edge.hub import http
from edge.hub.source import Body, Cut, Listing, RemoteFile, listed_file, listing

ENDPOINT = "https://huggingface.co"


class HuggingFace:
    """``repo`` is ``owner/name``; ``revision`` a commit, a branch or a tag. ``HF_ENDPOINT`` names a mirror."""

    def __init__(self, repo: str, revision: str = "main", endpoint: str | None = None) -> None:
        self.repo, self.revision = repo, revision
        self.endpoint = (endpoint or os.environ.get("HF_ENDPOINT") or ENDPOINT).rstrip("/")
        self._token = get_token()

    @property
    def where(self) -> str:
        return f"Hugging Face {self.repo}"

    def listing(self) -> Listing:
        if self._token and not self._token.isascii():
            raise HubError("HF_TOKEN holds characters that no token has", "copy it again, or unset it")
        try:
            info = HfApi(self.endpoint, token=self._token).model_info(
                self.repo, revision=self.revision, files_metadata=True
            )
        except GatedRepoError as error:
            raise HubError(f"{self.where}: its owner grants access to each user", self._hint) from error
        except RevisionNotFoundError as error:
            raise HubError(f"{self.where}: there is no revision {self.revision}", "its owner removed it") from error
        except RepositoryNotFoundError as error:
            raise HubError(
                f"{self.where}: there is no such model", "check the name; a private one needs HF_TOKEN"
            ) from error
        except OfflineModeIsEnabled as error:
            raise HubError(f"{self.where}: HF_HUB_OFFLINE is set", "unset it to use the network") from error
        except HfHubHTTPError as error:
            status = error.response.status_code
            if status in http.TRANSIENT:
                raise Cut(f"the hub answered {status}", http.retry_after(error.response.headers)) from error
            hint = "HF_TOKEN is not accepted" if status == 401 and self._token else "try again later"
            raise HubError(f"{self.where}: the hub answered {status}", hint) from error
        except Exception as error:  # the HTTP library below the client, and its errors, change with its version
            reason = f"cannot be reached: {type(error).__name__}"
            raise HubError(f"{self.where}: {reason}", http.network_hint()) from error
        files = tuple(
            listed_file(self.where, file.rfilename, file.size, file.lfs.sha256)
            if file.lfs
            else listed_file(self.where, file.rfilename, file.size, blob=file.blob_id)
            for file in info.siblings or ()
        )
        licence = info.card_data.get("license") if info.card_data else None
        return listing(files, "huggingface", self.repo, info.sha, licence)

    def open(self, file: RemoteFile, start: int, end: int) -> AbstractContextManager[Body]:
        url = f"{self.endpoint}/{self.repo}/resolve/{quote(self.revision, safe='')}/{quote(file.name)}"
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        return http.get(self.where, url, file, start, end, headers, self._hint)

    @property
    def _hint(self) -> str:
        if self._token:
            return f"the token in use is not enough: ask for access at {self.endpoint}/{self.repo}"
        return f"ask for access at {self.endpoint}/{self.repo}, then set HF_TOKEN to a token of yours"


def cache_of(repo: str) -> Path:
    """Where the hub's own programs keep what they fetched of ``repo``; it need not exist."""
    return Path(constants.HF_HUB_CACHE) / repo_folder_name(repo_id=repo, repo_type="model")
