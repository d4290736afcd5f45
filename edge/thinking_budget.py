"""A limit on thoughts: when it is reached, ``</think>`` is put in the model's mouth."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Sequence

import numpy as np

from edge.chat.thinking import CLOSE, OPEN
from edge.engine.types import Constraint

CLOSING = "\n" + CLOSE  # the models put a line break before it


class ThinkingBudget:
    """A constraint on tokens that counts those of the thoughts, and leaves the rest to ``inner``.

    ``budget``: tokens. ``closing``: the tokens that end the thoughts. ``inside``: the prompt has begun them; if not, an
    answer that does not begin with ``<think>`` has none.
    """

    def __init__(
        self,
        budget: int,
        closing: Sequence[int],
        token_bytes: Callable[[int], bytes],
        *,
        inside: bool,
        inner: Constraint | None = None,
    ) -> None:
        self._left, self._closing, self._token_bytes, self._inner = budget, list(closing), token_bytes, inner
        self._thinking: bool | None = True if inside else None  # None: not known yet
        self._text = b""  # as far back as a tag may begin
        self._characters = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def mask(self, logits: np.ndarray) -> None:
        if self._inner is not None:
            self._inner.mask(logits)
        if self._over:  # a budget of 0: no token was accepted yet behind which the end is forced
            first, *self._closing = self._closing
            logits[:] = -np.inf
            logits[first] = 0

    def accept(self, token: int) -> None:
        if self._inner is not None:
            self._inner.accept(token)
        if self._thinking is False:
            return
        self._left -= 1
        data = self._token_bytes(token)
        self._text += data
        self._characters.decode(data)
        if self._thinking is None:
            begun = self._text.lstrip()
            if begun.startswith(OPEN.encode()):
                self._thinking = True
            elif not OPEN.encode().startswith(begun):
                self._thinking = False
        if self._thinking:
            if CLOSE.encode() in self._text:
                self._thinking = False
            self._text = self._text[-len(CLOSE) :]

    def forced(self) -> list[int]:
        if self._over:
            return self._closing
        return self._inner.forced() if self._inner is not None else []

    @property
    def _over(self) -> bool:
        within_character = bool(self._characters.getstate()[0])
        return self._thinking is True and self._left <= 0 and not within_character
