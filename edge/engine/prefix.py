"""What many prompts begin with, kept in memory beside the cache, where no conversation can displace it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Prefix:
    """``state``: what the cache holds of a sequence of just these ``tokens`` (``Context.get_state``).

    It is put into the slot of a request that begins with it where no slot has as much: after a wipe, after requests of
    another kind took every slot, and for models that cannot forget the end of a conversation at each new one.
    """

    tokens: list[int]
    state: bytearray

    def serves(self, tokens: list[int], reused: int) -> bool:
        """Whether a prompt begins with it and goes on, and slots offer less."""
        count = len(self.tokens)
        return reused < count < len(tokens) and tokens[:count] == self.tokens
