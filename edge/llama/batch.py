"""A batch: the rows of one decode step, in llama.cpp's own memory."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

from edge.llama.library import load


class Batch:
    """Rows of (token, position, sequences, output wanted); at most ``capacity`` of them.

    The memory is allocated once and refilled every step: ``clear()``, ``add()`` row by row, then
    ``Context.decode(batch)``. Mistakes here are a caller's, so they raise ``ValueError``.
    """

    def __init__(self, capacity: int, n_seq_max: int = 1) -> None:
        if capacity < 1 or n_seq_max < 1:
            raise ValueError(f"a batch needs room for a row and a sequence, got {capacity} and {n_seq_max}")
        lib = load()
        self.capacity = capacity
        self.n_seq_max = n_seq_max
        self.raw = raw = lib.llama_batch_init(capacity, 0, n_seq_max)
        # ctypes makes a new pointer at each look at a field.
        self._token, self._pos, self._n_seq_id = raw.token, raw.pos, raw.n_seq_id
        self._seq_id, self._logits = raw.seq_id, raw.logits
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

    def add(self, token: int, pos: int, seq_ids: Sequence[int] = (0,), want_logits: bool = False) -> int:
        """Append a row and return its index, by which its logits are asked for after the decode."""
        self._check_open()
        row = self.raw.n_tokens
        if row >= self.capacity:
            raise ValueError(f"the batch is full at {self.capacity} rows")
        if not 0 < len(seq_ids) <= self.n_seq_max:
            raise ValueError(f"a row belongs to 1 to {self.n_seq_max} sequences, got {len(seq_ids)}")
        if min(seq_ids) < 0 or token < 0 or pos < 0:
            raise ValueError(f"negative token, position or sequence: {token}, {pos}, {list(seq_ids)}")
        self._token[row] = token
        self._pos[row] = pos
        self._n_seq_id[row] = len(seq_ids)
        for i, seq_id in enumerate(seq_ids):
            self._seq_id[row][i] = seq_id
        self._logits[row] = want_logits
        if want_logits:
            self.outputs.append(row)
        self.last_seq = max(self.last_seq, *seq_ids)
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
