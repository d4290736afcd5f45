"""Which tokens an answer's text is made of, and their log probabilities in OpenAI's two shapes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from edge.answer import Delta
from edge.chat.output import CallArguments, CallBegin, Unfinished
from edge.chat.thinking import CLOSE
from edge.engine.types import TokenLogprob

Json = dict[str, Any]
Bytes = Callable[[int], bytes]
Drawn = tuple[int, bytes, TokenLogprob | None]
"""A token, the bytes of it that are in the text, and its log probability, None for one that a grammar forced."""


class Aligner:
    """Takes an answer's tokens and the pieces of its text as they come, and tells the tokens of each piece.

    Text is less than what the tokens say: thoughts, tags and a stop string are left out, and held back for a while.
    """

    def __init__(self, token_bytes: Bytes) -> None:
        self._token_bytes = token_bytes
        self._waiting: list[Drawn] = []
        self._behind = b""

    def add(self, tokens: Sequence[int], logprobs: Sequence[TokenLogprob | None]) -> None:
        for token, logprob in zip(tokens, logprobs, strict=True):
            self._waiting.append((token, self._token_bytes(token), logprob))

    def take(self, text: str) -> list[Drawn]:
        """The tokens of the next piece: what comes before it belongs to no text. A token cut by it is cut."""
        if (taken := self._cut(text.encode())) is None:  # bytes that are no characters were replaced
            taken, self._waiting = self._waiting, []
        self._behind = b""
        return taken

    def skip(self, text: str, closing: str = "") -> None:
        """What is no part of the text: the next of it comes behind this, and behind the tag ``closing``."""
        self._behind = b""
        self._cut(text.encode())
        self._behind = closing.encode()

    def _cut(self, data: bytes) -> list[Drawn] | None:
        """The tokens of ``data``, which they and those before them leave. None, and all stay, if it is not there."""
        have = b"".join(one[1] for one in self._waiting)
        start = have.find(data, have.find(self._behind) + len(self._behind) if self._behind in have else 0)
        if start < 0:
            return None
        end, at, taken, rest = start + len(data), 0, [], []
        for token, piece, logprob in self._waiting:
            inside = piece[max(0, start - at) : max(0, end - at)]
            left = piece[max(0, end - at) :]
            if inside:
                taken.append((token, inside, logprob))
            if left:
                rest.append((token, left, logprob))
            at += len(piece)
        self._waiting = rest
        return taken


def tokens_of(delta: Delta, aligner: Aligner) -> list[Drawn]:
    """The tokens of what is text in a delta; those of thoughts and calls are passed over."""
    match delta:
        case Delta(call=Unfinished(text)) | Delta(text=text) if text:
            return aligner.take(text)
        case Delta(reasoning=text) if text:
            aligner.skip(text, CLOSE)
        case Delta(call=CallBegin(name=text) | CallArguments(text=text)):
            aligner.skip(text)
    return []


def up_to(text: str, drawn: Sequence[Drawn]) -> list[Drawn]:
    """Those of the tokens that ``text``, which they begin with, is made of."""
    left, found = len(text.encode()), []
    for token, data, logprob in drawn:
        if left > 0:
            found.append((token, data[:left], logprob))
        left -= len(data)
    return found


def chat_logprobs(drawn: Sequence[Drawn], token_bytes: Bytes) -> Json:
    content = []
    for _, data, logprob in drawn:
        top = [entry(token_bytes(token), value) for token, value in logprob.top] if logprob else []
        content.append(entry(data, logprob.logprob if logprob else 0.0) | {"top_logprobs": top})
    return {"content": content, "refusal": None}


def entry(data: bytes, logprob: float) -> Json:
    return {"token": data.decode("utf-8", "replace"), "logprob": finite(logprob), "bytes": list(data)}


def finite(logprob: float) -> float:
    """OpenAI's own stand-in for what has no probability; JSON has no infinity."""
    return max(logprob, -9999.0)


def text_logprobs(drawn: Sequence[Drawn], token_bytes: Bytes, offset: int = 0) -> Json:
    """The older shape. ``offset``: characters before the first of them."""
    tokens = [data.decode("utf-8", "replace") for _, data, _ in drawn]
    offsets = []
    for text in tokens:
        offsets.append(offset)
        offset += len(text)
    return {
        "tokens": tokens,
        "token_logprobs": [finite(logprob.logprob) if logprob else 0.0 for *_, logprob in drawn],
        "top_logprobs": [
            {token_bytes(token).decode("utf-8", "replace"): finite(value) for token, value in logprob.top}
            if logprob
            else {}
            for *_, logprob in drawn
        ],
        "text_offset": offsets,
    }
