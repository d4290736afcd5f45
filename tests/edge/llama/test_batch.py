from __future__ import annotations

import pytest

from edge.llama.batch import Batch


def test_rows_are_what_was_added() -> None:
    with Batch(3) as batch:
        assert batch.add(5, 0) == 0
        assert batch.add(6, 1, 1, want_logits=True) == 1
        raw = batch.raw
        assert (len(batch), batch.outputs, batch.last_seq) == (2, [1], 1)
        assert [raw.token[i] for i in range(2)] == [5, 6]
        assert [raw.pos[i] for i in range(2)] == [0, 1]
        assert [raw.n_seq_id[i] for i in range(2)] == [1, 1]
        assert [raw.seq_id[i][0] for i in range(2)] == [0, 1]
        assert [raw.logits[i] for i in range(2)] == [0, 1]
        batch.clear()
        assert (len(batch), batch.outputs, batch.last_seq) == (0, [], -1)


def test_what_would_write_beyond_the_memory() -> None:
    with Batch(1) as batch:
        for token, pos, seq_id in ((-1, 0, 0), (1, -1, 0), (1, 0, -1)):
            with pytest.raises(ValueError, match="negative"):
                batch.add(token, pos, seq_id)
        batch.add(1, 0)
        with pytest.raises(ValueError, match="full"):
            batch.add(1, 1)
    with pytest.raises(ValueError, match="closed"):
        batch.add(1, 0)
    with pytest.raises(ValueError):
        Batch(0)
