"""Text from tokens: bytes come in pieces that may split a character, text leaves whole."""

from __future__ import annotations

import codecs
import unicodedata
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from convert.errors import EdgeError


class StopStringError(EdgeError):
    """A stop string that cannot be one."""


class Utf8Stream:
    """Decodes UTF-8 that arrives in arbitrary pieces.

    A token may end in the middle of a character (a Chinese character is three bytes, an emoji four):
    the incomplete tail waits for the next piece. Bytes that can never become a character turn into
    U+FFFD, one for each maximal invalid part, as a browser shows them.
    """

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def feed(self, data: bytes) -> str:
        """Return the characters that ``data`` completes, possibly none."""
        return self._decoder.decode(data)

    def finish(self) -> None:
        """End the stream: of a character that is left incomplete nothing is shown. The stream may be used again."""
        self._decoder.reset()


@dataclass(slots=True)
class _Node:
    """A prefix of stop strings, in the automaton of Aho and Corasick (1975)."""

    depth: int = 0  # its length
    ends: str | None = None  # the longest stop string that is a suffix of it
    shorter: _Node | None = None  # its longest proper suffix that is a prefix too; None for the root
    longer: dict[str, _Node] = field(default_factory=dict)

    def after(self, char: str) -> _Node:
        """The longest prefix that is a suffix of this one and ``char``."""
        node = self
        while char not in node.longer:
            if node.shorter is None:
                return node
            node = node.shorter
        return node.longer[char]


def _automaton(stops: Sequence[str]) -> _Node:
    root = _Node()
    for stop in stops:
        node = root
        for char in stop:
            node = node.longer.setdefault(char, _Node(node.depth + 1))
        node.ends = stop
    waiting = deque([root])
    while waiting:  # by depth: suffixes are done before what they are suffixes of
        node = waiting.popleft()
        for char, longer in node.longer.items():
            longer.shorter = root if node.shorter is None else node.shorter.after(char)
            longer.ends = longer.ends or longer.shorter.ends
            waiting.append(longer)
    return root


class StopStrings:
    """Ends text before the first of ``stops``: text comes in pieces, and leaves when no stop string can reach it.

    The stop string that begins first wins; of several that begin there, the shortest, which completes
    first. ``stopped`` is the one found, None until then; all later text is dropped. What is found
    does not depend on the pieces. A complete stop string waits while one that began before it may
    still complete.

    Time is linear in the text, whatever the stop strings are; less is held back than the longest has.
    Raises ``StopStringError`` if one is empty or no text.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        for stop in stops:
            if not isinstance(stop, str):
                raise StopStringError(f"a stop string is text, got {stop!r}")
            if not stop:
                raise StopStringError("a stop string is empty", "leave it out")
        self.stopped: str | None = None
        self._node = _automaton(stops)
        self._held: deque[str] = deque()  # the characters that the node stands for
        self._found: str | None = None  # a complete stop string that one which began earlier may replace
        self._age = 0  # characters since it began

    def feed(self, text: str) -> str:
        """Return the text that no stop string can reach any more, possibly none."""
        given: list[str] = []
        for char in text:
            if self.stopped is not None:
                break
            self._held.append(char)
            self._age += 1
            self._node = node = self._node.after(char)
            if node.ends is not None and (self._found is None or len(node.ends) > self._age):
                self._found, self._age = node.ends, len(node.ends)
            if self._found is not None and node.depth <= self._age:  # nothing that began earlier is left
                self._stop(given)
            else:
                self._give(node.depth, given)
        return "".join(given)

    def finish(self) -> str:
        """End the text: return what was held back, up to a stop string that was complete in it."""
        given: list[str] = []
        if self._found is not None:
            self._stop(given)
        self._give(0, given)
        return "".join(given)

    def _give(self, kept: int, given: list[str]) -> None:
        while len(self._held) > kept:
            given.append(self._held.popleft())

    def _stop(self, given: list[str]) -> None:
        self._give(self._age, given)
        self._held.clear()
        self.stopped, self._found = self._found, None


class TextStream:
    """The text of one answer: bytes of tokens in, whole characters before the first stop string out."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._characters = Utf8Stream()
        self._stops = StopStrings(stops)

    @property
    def stopped(self) -> str | None:
        """The stop string that ended the text, None as long as there is none."""
        return self._stops.stopped

    def feed(self, data: bytes) -> str:
        """Return the text that ``data`` settles, possibly none."""
        return self._stops.feed(self._characters.feed(data))

    def finish(self) -> str:
        """End the text and return its rest. ``stopped`` may change here, for the last time."""
        self._characters.finish()
        return self._stops.finish()


DIRECTIONS = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def terminal_safe(text: str) -> str:
    """``text`` without control characters but newline and tab, and without those that turn the direction of writing: a
    model's answer must neither drive the terminal nor show other than it is."""
    return "".join(c for c in text if c in "\n\t" or (unicodedata.category(c) != "Cc" and c not in DIRECTIONS))


def size_text(nbytes: int) -> str:
    """Bytes for people."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.1f} MB"
