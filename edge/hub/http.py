"""Part of a file over HTTP: what the answer means, whichever hub gave it."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import requests

from edge.hub.source import Body, Cut, RemoteFile, SourceFailed

CONNECT, STALL = 10.0, 30.0  # seconds without a connection, without a byte
BLOCK = 1 << 16
TRANSIENT = {408, 409, 416, 425, 429, 500, 502, 503, 504}
EXPIRED = {401, 403, 404, 410}  # what a storage answers to a link that it no longer knows
REFUSALS = {401: "it needs a token", 403: "access is not granted", 404: "it is not there"}
PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "https_proxy", "http_proxy", "all_proxy")


class Session(requests.Session):
    """Sends the headers it is given, to the host they are for, and no password of a ``.netrc``."""

    def __init__(self) -> None:
        super().__init__()
        self.auth = lambda request: request  # without any, requests looks into ~/.netrc

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        before, url = response.request.url or "", prepared_request.url or ""
        if self.should_strip_auth(before, url):
            prepared_request.headers.pop("Authorization", None)


@contextmanager
def get(
    where: str,
    url: str,
    file: RemoteFile,
    start: int,
    end: int,
    headers: Mapping[str, str] | None = None,
    hint: str = "check the name",
) -> Iterator[Body]:
    """The bytes of ``file`` from ``start`` on, or from 0 where the server ignores ranges.

    ``headers`` go to the URL's host and to no other one; ``hint`` is for refusals. Raises Cut, also in mid-body, and
    SourceFailed.
    """
    asked = {**(headers or {}), "Range": f"bytes={start}-{end - 1}", "Accept-Encoding": "identity"}
    try:
        with Session() as session, session.get(url, headers=asked, stream=True, timeout=(CONNECT, STALL)) as answer:
            refuse(f"{where}: {file.name}", answer, hint)
            yield Body(first_byte(answer, start, file.size), answer.iter_content(BLOCK))
    except (requests.exceptions.InvalidSchema, requests.TooManyRedirects, ValueError) as error:
        raise SourceFailed(f"{where}: {file.name}: the server sends elsewhere, to no sound address") from error
    except requests.RequestException as error:
        raise Cut(f"the connection broke: {type(error).__name__}") from error


def refuse(what: str, answer: requests.Response, hint: str) -> None:
    """Raises Cut or SourceFailed where the answer holds nothing of ``what``."""
    status = answer.status_code
    if status in (200, 206):
        return
    if status in TRANSIENT or (answer.history and status in EXPIRED):
        raise Cut(f"the server answered {status}", retry_after(answer.headers))
    raise SourceFailed(f"{what}: {REFUSALS.get(status, f'the server answered {status}')}", hint)


def first_byte(answer: requests.Response, start: int, size: int) -> int:
    """Where the body begins. Raises Cut when the server speaks of another file, or of other bytes."""
    given = answer.headers.get("Content-Range", "")
    if not given:
        length = answer.headers.get("Content-Length")
        if answer.status_code == 206 or (length is not None and length != str(size)):
            raise Cut("the server sends another length than it listed")
        return 0
    unit, _, rest = given.partition(" ")
    bounds, _, total = rest.partition("/")
    first = bounds.partition("-")[0]
    if unit != "bytes" or first != str(start) or total not in ("*", str(size)):
        raise Cut(f"the server answered with {given[:60]!r}")
    return start


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of a ``Retry-After``, whether it is a number or a date."""
    value = headers.get("Retry-After", "")
    if value.isascii() and value.isdecimal():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def network_hint() -> str:
    """What to look at when a hub cannot be reached."""
    proxy = next((name for name in PROXIES if os.environ.get(name)), None)
    return f"check the network, and the proxy that {proxy} names" if proxy else "check the network"
