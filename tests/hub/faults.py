"""Faults of a hub as data: which request of which file meets what.

A request is one of three kinds: `api` (a listing; its path is the URL's), `link` (the hub's answer to a file's URL
when it redirects to where the bytes are) and `body` (the answer with the file's bytes, from the hub or the CDN).
For the last two the path is the file's, inside its repository.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Literal

Kind = Literal["api", "link", "body"]


@dataclass(frozen=True)
class ShortBody:
    """The connection ends in good order after `after` bytes of the announced body."""

    after: int


@dataclass(frozen=True)
class Reset:
    """The connection is reset after at most `after` bytes of the body; None: before the status line."""

    after: int | None = None


@dataclass(frozen=True)
class ErrorPage:
    """A server that fails in mid-body: after `after` bytes comes the text of a 502, and the connection ends."""

    after: int
    text: bytes = b"<html><h1>502 Bad Gateway</h1></html>"


@dataclass(frozen=True)
class Stall:
    """Nothing more comes after `after` bytes; the connection stays open until the client leaves."""

    after: int


@dataclass(frozen=True)
class Slow:
    """The body comes at this rate, in bytes/s."""

    rate: int


@dataclass(frozen=True)
class WrongBytes:
    """The byte at this offset of the file is another one; size and headers are right."""

    at: int = 0


@dataclass(frozen=True)
class IgnoreRange:
    """A range is answered by 200 and the whole file."""


@dataclass(frozen=True)
class RangeAs200:
    """A range is answered by the right bytes and an exact Content-Range, but with status 200."""


@dataclass(frozen=True)
class Status:
    """This status instead of an answer: 416, 500, 503..."""

    code: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b"scripted"


@dataclass(frozen=True)
class RetryLater:
    """429 (or 503) with `Retry-After`: in seconds, or as the HTTP date that many seconds ahead."""

    seconds: int
    as_date: bool = False
    code: int = 429


@dataclass(frozen=True)
class Redirect:
    """302 to this location, where `{path}` is the asked path and query: `Redirect("{path}")` is a loop."""

    location: str


@dataclass(frozen=True)
class ExpiredLink:
    """From this request on the CDN's link is refused with 403; the hub gives a new one when asked again."""


@dataclass(frozen=True)
class RevisionGone:
    """From this request on the hub does not know the revision."""


Fault = (
    ShortBody
    | Reset
    | ErrorPage
    | Stall
    | Slow
    | WrongBytes
    | IgnoreRange
    | RangeAs200
    | Status
    | RetryLater
    | Redirect
    | ExpiredLink
    | RevisionGone
)


@dataclass(frozen=True)
class Rule:
    """`fault` meets the requests number `first` (from 1) and on, `times` of them (None: all), of each path.

    `path` is a glob in which `*` also crosses slashes. Requests are counted by rule and path, in order of arrival.
    """

    path: str
    fault: Fault
    first: int = 1
    times: int | None = 1
    on: Kind = "body"
    method: str = "GET"

    def __post_init__(self) -> None:
        if isinstance(self.fault, ExpiredLink) and self.on != "body":
            raise ValueError("a link expires at the CDN: on='body'")
        if isinstance(self.fault, RevisionGone) and self.on == "body":
            raise ValueError("a revision vanishes at the hub: on='api' or 'link'")


class Script:
    """The rules of one double; of several that fire on a request, the first is taken."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self.rules = rules
        self._seen: Counter[tuple[int, str]] = Counter()
        self._fired: set[int] = set()
        self._lock = threading.Lock()

    def take(self, on: Kind, path: str, method: str) -> Fault | None:
        """Count this request and give its fault."""
        chosen = None
        with self._lock:
            for i, rule in enumerate(self.rules):
                if (rule.on, rule.method) != (on, method) or not fnmatchcase(path, rule.path):
                    continue
                self._seen[i, path] += 1
                past = self._seen[i, path] - rule.first
                if chosen is None and past >= 0 and (rule.times is None or past < rule.times):
                    chosen = rule.fault
                    self._fired.add(i)
        return chosen

    def unmet(self) -> list[Rule]:
        """The rules that met no request: a test that expects a fault asserts that none is left."""
        with self._lock:
            return [rule for i, rule in enumerate(self.rules) if i not in self._fired]
