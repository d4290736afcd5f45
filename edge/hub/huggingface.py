"""Hugging Face: listing and refusals through ``huggingface-hub``; the bytes are fetched by ``edge.hub.download``."""

from __future__ import annotations

import os
from urllib.parse import quote

from huggingface_hub import HfApi, get_token
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from edge.errors import HubError
from edge.hub.source import Listing, RemoteFile, Request

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
        try:
            info = HfApi(self.endpoint, token=self._token).model_info(
                self.repo, revision=self.revision, files_metadata=True
            )
        except GatedRepoError as error:
            raise HubError(
                f"{self.where}: its owner grants access to each user",
                f"ask for it at {self.endpoint}/{self.repo}, then set HF_TOKEN to a token of yours",
            ) from error
        except RevisionNotFoundError as error:
            raise HubError(f"{self.where}: there is no revision {self.revision}", "leave out --revision") from error
        except RepositoryNotFoundError as error:
            raise HubError(
                f"{self.where}: there is no such model", "check the name; a private one needs HF_TOKEN"
            ) from error
        except OfflineModeIsEnabled as error:
            raise HubError(f"{self.where}: HF_HUB_OFFLINE is set", "unset it to use the network") from error
        except HfHubHTTPError as error:
            status = getattr(error.response, "status_code", "an error")
            raise HubError(f"{self.where}: the hub answered {status}", "try again later") from error
        except OSError as error:
            raise HubError(f"{self.where}: cannot be reached: {type(error).__name__}", "check the network") from error
        files = tuple(
            RemoteFile(file.rfilename, file.size or 0, file.lfs.sha256 if file.lfs else None)
            for file in info.siblings or ()
        )
        licence = info.card_data.get("license") if info.card_data else None
        return Listing(info.sha or self.revision, files, licence)

    def request(self, name: str) -> Request:
        headers = {"Authorization": f"Bearer {self._token}"} if self._token else {}
        return Request(f"{self.endpoint}/{self.repo}/resolve/{quote(self.revision)}/{quote(name)}", headers)
