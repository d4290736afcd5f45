"""The one failure of this package; ``edge`` turns it into its own."""

from __future__ import annotations


class BoxError(Exception):
    """What is wrong, without a full stop, and what to do next; one line each."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = one_line(message)
        self.hint = one_line(hint)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


def one_line(text: str) -> str:
    """``text`` without line breaks and control characters: names in it may come from untrusted files."""
    return "".join(c if c.isprintable() else " " for c in text)
