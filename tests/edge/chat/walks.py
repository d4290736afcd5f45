"""Random answers under a constraint."""

from __future__ import annotations

import random

import numpy as np

from edge.constrain import Constraint
from edge.llama.model import Model

TARGETS = [b"\n</parameter>", b"</arg_value>", b'"', b"}", b"]", b")", b"x", b"<tool_call>"]
"""Texts by which a walk gets on: without a push towards them it would stay in a value, or in text, for ever."""


def allowed(constraint: Constraint, model: Model) -> list[int]:
    logits = np.zeros(model.n_vocab, np.float32)
    constraint.mask(logits)
    return np.flatnonzero(logits == 0).tolist()


def accepts(constraint: Constraint, model: Model, text: str) -> bool:
    """Whether the constraint lets ``text`` come, which is then accepted up to its first wrong token."""
    for token in model.tokenize(text):
        if token not in allowed(constraint, model):
            return False
        constraint.accept(token)
    return True


def walk(constraint: Constraint, model: Model, seed: int, limit: int = 3000) -> str:
    """What a reader gets of an answer of allowed tokens, drawn by chance, that ends where it may."""
    rng = random.Random(seed)
    data = b""
    by_text = {model.token_bytes(token): token for token in range(model.n_vocab)}
    for _ in range(limit):
        tokens = allowed(constraint, model)
        assert tokens
        ends = [token for token in tokens if model.is_eog(token)]
        assert bool(ends) == constraint.may_stop
        if ends and (len(ends) == len(tokens) or rng.random() < 0.5):
            constraint.accept(ends[0])
            return data.decode("utf-8")
        known = set(tokens)
        pushes = [(size, by_text[text]) for size, text in progress(data) if by_text.get(text) in known]
        farthest = [token for size, token in pushes if size == max(pushes)[0]]
        token = rng.choice(farthest if pushes and rng.random() < 0.9 else [one for one in tokens if one not in ends])
        constraint.accept(token)
        data += model.token_bytes(token)
    raise AssertionError(f"no end: {data[:500]!r}")


def progress(data: bytes) -> list[tuple[int, bytes]]:
    """What would begin a target after ``data``, or go on with one, and how much of it there would be then."""
    found = []
    for target in TARGETS:
        begun = max(size for size in range(len(target)) if data.endswith(target[:size]))
        found += [(end, target[begun:end]) for end in range(begun + 1, len(target) + 1)]
    return found
