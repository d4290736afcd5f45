"""A batch: the rows of one decode step, in llama.cpp's own memory."""

from __future__ import annotations

import weakref

from edge.llama.library import load


class Batch:
    """Rows of (token, position, sequence, output wanted); at most ``capacity`` of them.

    The memory is allocated once and refilled every step: ``clear()``, ``add()`` row by row, then
    ``Context.decode(batch)``. Mistakes here are a caller's, so they raise ``ValueError``.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ValueError(f"a batch needs room for a row, got {capacity}")
        lib = load()
        self.capacity = capacity
        self.raw = raw = lib.llama_batch_init(capacity, 0, 1)
        # ctypes makes a new pointer at each look at a field.
        self._token, self._pos, self._logits = raw.token, raw.pos, raw.logits
        self._seq_id = [raw.seq_id[row] for row in range(capacity)]
        for row in range(capacity):
            raw.n_seq_id[row] = 1
        self.outputs: list[int] = []
        """Indices of the rows whose logits are wanted, in order."""
        self.last_seq = -1
        """The highest sequence of any row, -1 in an empty batch."""
        self._free = weakref.finalize(self, lib.llama_batch_free, self.raw)

    def __len__(self) -> int:
        return self.raw.n_tokens

    def clear(self) -> None:
        self.raw.n_tokens = 0
        self.outputs.clear()
        self.last_seq = -1

    def add(self, token: int, pos: int, seq_id: int = 0, want_logits: bool = False) -> int:
        """Append a row and return its index, by which its logits are asked for after the decode."""
        self._check_open()
        row = self.raw.n_tokens
        if row >= self.capacity:
            raise ValueError(f"the batch is full at {self.capacity} rows")
        if seq_id < 0 or token < 0 or pos < 0:
            raise ValueError(f"negative token, position or sequence: {token}, {pos}, {seq_id}")
        self._token[row] = token
        self._pos[row] = pos
        self._seq_id[row][0] = seq_id
        self._logits[row] = want_logits
        if want_logits:
            self.outputs.append(row)
        self.last_seq = max(self.last_seq, seq_id)
        self.raw.n_tokens = row + 1
        return row

    def close(self) -> None:
        """Free the memory; harmless when repeated."""
        self._free()
        self.raw.n_tokens = 0

    def _check_open(self) -> None:
        if not self._free.alive:
            raise ValueError("the batch is closed")

    def __enter__(self) -> Batch:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
