"""What both doubles share: a hub and its CDN on two ports, links between them, a script of faults, a record."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Self

from tests.hub.content import Repository, StoredFile
from tests.hub.faults import ExpiredLink, Fault, Kind, RevisionGone, Rule, Script
from tests.hub.server import Answer, Request, Server


class Refused(Exception):
    """The hub answers with an error."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer


@dataclass(frozen=True)
class Link:
    path: str
    file: StoredFile
    expires: float


class Double:
    """A hub at `endpoint` with a CDN at `cdn_endpoint`, both on 127.0.0.1 and running inside `with`.

    `requests` has every request to either of them, in order. An error in the double itself is raised at the end of
    the `with`. `link_seconds`: how long a link to the CDN lives.
    """

    def __init__(
        self, repositories: Sequence[Repository], faults: Sequence[Rule] = (), link_seconds: float = 3600
    ) -> None:
        self.repositories = {repository.name: repository for repository in repositories}
        self.script = Script(faults)
        self.requests: list[Request] = []
        self._link_seconds = link_seconds
        self._links: dict[str, Link] = {}
        self._hub = Server("hub", self._route, self.requests)
        self._cdn = Server("cdn", self._serve_link, self.requests)

    def __enter__(self) -> Self:
        self._hub.start()
        self._cdn.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._hub.stop()
        self._cdn.stop()
        errors = self._hub.errors + self._cdn.errors
        if errors and kind is None:
            raise errors[0]

    @property
    def endpoint(self) -> str:
        return self._hub.endpoint

    @property
    def cdn_endpoint(self) -> str:
        return self._cdn.endpoint

    @contextmanager
    def down(self) -> Iterator[None]:
        """The hub's open connections are cut and its port refuses new ones; afterwards it is back on that port."""
        self._hub.stop()
        errors, port = self._hub.errors, self._hub.server_port
        self._hub = Server("hub", self._route, self.requests, port)
        self._hub.errors = errors
        try:
            yield
        finally:
            self._hub.start()

    def answer(self, request: Request) -> Answer:
        """The hub's answer by its routes; raises Refused for its errors."""
        raise NotImplementedError

    def take(self, on: Kind, path: str, request: Request, repository: Repository, commit: str) -> Fault | None:
        """The fault that meets this request; a revision that vanishes with it is gone when this returns."""
        fault = self.script.take(on, path, request.method)
        if isinstance(fault, RevisionGone):
            repository.revisions.pop(commit, None)
        return fault

    def link(self, path: str, file: StoredFile) -> str:
        """A URL of the CDN that expires and can be used without a token."""
        signature = secrets.token_hex(16)
        link = self._links[signature] = Link(path, file, time.time() + self._link_seconds)
        return f"{self.cdn_endpoint}/{file.sha256}?Expires={int(link.expires)}&Signature={signature}"

    def _route(self, request: Request) -> Answer:
        try:
            return self.answer(request)
        except Refused as refused:
            return refused.answer

    def _serve_link(self, request: Request) -> Answer:
        """As an object store: the signed query is the only way in, and a token beside it is an error."""
        signature = request.query.get("Signature", "")
        link = self._links.get(signature)
        if request.authorization:
            return Answer(400, body=b"<Error><Code>InvalidArgument</Code>Only one auth mechanism allowed</Error>")
        fault = link and self.script.take("body", link.path, request.method)
        if isinstance(fault, ExpiredLink):
            self._links.pop(signature, None)
            link = None
        if link is None or link.expires < time.time() or request.url_path != f"/{link.file.sha256}":
            return Answer(403, body=b"<Error><Code>AccessDenied</Code>Request has expired</Error>")
        return Answer(200, {"ETag": f'"{link.file.sha256}"'}, link.file, fault)


def is_true(value: str | None) -> bool:
    """A flag of a query."""
    return (value or "").lower() in ("true", "1")
