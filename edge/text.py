"""Text from tokens: bytes come in pieces that may split a character, text leaves whole."""

from __future__ import annotations

import codecs
import unicodedata


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

    def finish(self) -> str:
        """End the stream: a character left incomplete comes out as U+FFFD. The stream may be used again."""
        rest = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return rest


def terminal_safe(text: str) -> str:
    """``text`` without control characters but newline and tab: a model's answer must not drive the terminal."""
    return "".join(c for c in text if c in "\n\t" or unicodedata.category(c) != "Cc")


def size_text(nbytes: int) -> str:
    """Bytes for people."""
    return f"{nbytes / 1e9:.2f} GB" if nbytes >= 1e9 else f"{nbytes / 1e6:.1f} MB"
