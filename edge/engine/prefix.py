"""What many prompts begin with, kept in memory beside the cache, where no conversation can displace it."""

from __future__ import annotations

from dataclasses import dataclass

from edge.engine.slots import Seat, Slot, oldest_of
from edge.engine.types import EngineError
from edge.llama.context import Context, ContextError


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


class Kept:
    """The prefix that is kept, if any, for the thread that owns the ``context`` and its ``slots``."""

    def __init__(self, context: Context, slots: list[Slot]) -> None:
        self._context, self._slots = context, slots
        self._prefix: Prefix | None = None

    def take(self, tokens: list[int]) -> bytearray:
        """Keep what a slot holds of just these tokens; its state. Raises EngineError."""
        slot = next((slot for slot in self._slots if slot.tokens == tokens), None)
        if slot is None:
            raise EngineError("the prefix was not computed to its end")
        state = self._context.get_state(slot.index)
        self._prefix = Prefix(tokens, state)
        return state

    def restore(self, prefix: Prefix) -> None:
        """Keep it, and put it into a free slot: whoever comes first finds it there. Raises EngineError,
        ContextError."""
        free = [slot for slot in self._slots if slot.owner is None]
        if not free:
            raise EngineError("every slot is at work")
        self.put(prefix, oldest_of(free, self._slots, side=False))
        self._prefix = prefix

    def serving(self, tokens: list[int], reused: int) -> Prefix | None:
        """It, if a prompt begins with it, and slots offer only ``reused`` tokens of that."""
        return self._prefix if self._prefix is not None and self._prefix.serves(tokens, reused) else None

    def put(self, prefix: Prefix, slot: Slot) -> Seat:
        """Make a slot hold just the prefix. Raises ContextError; it is empty then."""
        slot.tokens = []
        self._context.set_state(slot.index, prefix.state)
        if self._context.memory_last(slot.index) != len(prefix.tokens) - 1:
            self._context.memory_rm(slot.index)
            raise ContextError("the state is of another number of tokens")
        slot.tokens = list(prefix.tokens)
        return Seat(slot, slot, len(slot.tokens))

    def wipe(self, *, also_data: bool) -> None:
        """Empty the slots without an owner. ``also_data``: nobody is at work; what the cache's memory holds goes, too,
        and the prefix is put back."""
        for slot in self._slots:
            if slot.owner is None and slot.tokens:
                self._context.memory_rm(slot.index)
                slot.tokens = []
        if also_data:
            self._context.memory_clear()
            if self._prefix is not None:
                self.put(self._prefix, self._slots[0])
