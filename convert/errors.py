"""The base of every failure that a person may see, here and in ``edge``."""

from __future__ import annotations


class EdgeError(Exception):
    """A failure in plain words: what is wrong, what to do next, and the exit code.

    ``message`` and ``hint`` are one line each, without a full stop at the end of ``message``;
    the command line prints ``error: message`` and, if there is one, ``hint: ...`` on the same line.
    """

    exit_code = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = one_line(message)
        self.hint = one_line(hint)

    def __str__(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


def one_line(text: str) -> str:
    """``text`` without line breaks and control characters: names in it may come from untrusted files."""
    return "".join(c if c.isprintable() else " " for c in text)


class CheckpointError(EdgeError):
    """The checkpoint folder is damaged, incomplete, or not what it claims to be."""


class UnsupportedError(EdgeError):
    """The checkpoint is sound, but names something this converter or llama.cpp does not do."""


class OutputError(EdgeError):
    """The result cannot be written: no space, no permission, a name in use."""
