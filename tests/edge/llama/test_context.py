from __future__ import annotations

import tracemalloc
from collections.abc import Sequence

import numpy as np
import pytest

from edge.llama.batch import Batch
from edge.llama.context import Context, ContextError, InvalidBatch, NoCacheSpace, cells_for
from edge.llama.model import Model


def logits_of(context: Context, tokens: Sequence[int], seq_id: int = 0, start: int = 0) -> np.ndarray:
    """Decode tokens in one batch; a copy of the logits after the last."""
    with Batch(len(tokens)) as batch:
        for i, token in enumerate(tokens):
            batch.add(token, start + i, seq_id, want_logits=i == len(tokens) - 1)
        context.decode(batch)
        return context.logits(len(tokens) - 1).copy()


def test_one_batch_or_many_give_the_same_logits(context: Context) -> None:
    tokens = [10, 20, 30, 40, 50]
    whole = logits_of(context, tokens)
    assert whole.shape == (300,) and whole.dtype == np.float32
    assert np.isfinite(whole).all() and whole.std() > 0
    context.memory_clear()
    for i, token in enumerate(tokens):
        last = logits_of(context, [token], start=i)
    np.testing.assert_allclose(last, whole, atol=1e-3)


def test_logits_are_a_view_that_samplers_see(context: Context) -> None:
    with Batch(1) as batch:
        row = batch.add(10, 0, want_logits=True)
        context.decode(batch)
    context.logits(row)[7] = 123.0
    assert context.logits(row)[7] == 123.0


def test_forgetting_a_part_and_going_on(context: Context) -> None:
    want = logits_of(context, [1, 2, 3])
    context.memory_clear()
    logits_of(context, [1, 2, 9, 9, 9])
    assert context.memory_last(0) == 4
    assert context.memory_rm(0, 2)
    assert context.memory_last(0) == 1
    np.testing.assert_allclose(logits_of(context, [3], start=2), want, atol=1e-3)


def test_sequences_do_not_see_each_other(model: Model) -> None:
    with Context(model, 512, n_seq_max=3, threads=1) as context, Batch(8) as batch:
        alone = logits_of(context, [1, 2, 3], seq_id=1)
        context.memory_clear()
        for pos, (a, b) in enumerate(zip([7, 8, 9], [1, 2, 3], strict=True)):
            batch.add(a, pos, 0, want_logits=pos == 2)
            row = batch.add(b, pos, 1, want_logits=pos == 2)
        context.decode(batch)
        np.testing.assert_allclose(context.logits(row), alone, atol=1e-3)
        context.memory_cp(1, 2)
        want = logits_of(context, [4], seq_id=1, start=3)
        np.testing.assert_allclose(logits_of(context, [4], seq_id=2, start=3), want, atol=1e-3)


def test_cells_for_a_context(model: Model) -> None:
    """Rows of V that are a multiple of 4 KiB apart cost 2 % of a step."""
    for ctx in (1, 256, 257, 2000, 2048, 4096, 4097, 32768):
        cells = cells_for(ctx)
        assert ctx <= cells < ctx + 512 and cells % 256 == 0 and cells * 2 % 4096
        with Context(model, 2 * cells, n_seq_max=2, threads=1) as context:
            assert context.n_ctx_seq == cells


def test_a_full_cache(context: Context) -> None:
    size = context.n_ctx
    logits_of(context, [1] * size)
    with pytest.raises(NoCacheSpace, match=str(size)):
        logits_of(context, [1], start=size)
    context.memory_rm(0, size - 1)
    logits_of(context, [1], start=size - 1)


def test_a_batch_that_contradicts_the_cache(context: Context) -> None:
    logits_of(context, [1, 2])
    with pytest.raises(InvalidBatch):
        logits_of(context, [3], start=9)
    with pytest.raises(InvalidBatch):
        logits_of(context, [300], start=2)
    logits_of(context, [3], start=2)


def test_what_c_would_answer_by_ending_the_process(model: Model, context: Context) -> None:
    with Batch(1024) as batch:
        with pytest.raises(ValueError, match="rows"):
            context.decode(batch)
        batch.add(1, 0, 1)
        with pytest.raises(ValueError, match="sequences"):
            context.decode(batch)
        batch.clear()
        for pos in range(context.n_batch + 1):
            batch.add(1, pos)
        with pytest.raises(ValueError, match="rows"):
            context.decode(batch)
        batch.clear()
        for pos in range(2):
            batch.add(1, pos, want_logits=True)
        with pytest.raises(ValueError, match="logits"):
            context.decode(batch)
        batch.clear()
        batch.add(1, 0)
        context.decode(batch)
        with pytest.raises(ValueError, match="no logits"):
            context.logits(0)
    for call in (context.memory_rm, context.memory_last):
        with pytest.raises(ValueError, match="sequences"):
            call(1)


def test_as_many_outputs_as_asked_for(model: Model) -> None:
    with Context(model, 64, n_outputs_max=8, threads=1) as context, Batch(8) as batch:
        for pos in range(8):
            batch.add(pos, pos, want_logits=True)
        context.decode(batch)
        rows = [context.logits(row).copy() for row in range(8)]
    assert len({row.tobytes() for row in rows}) == 8


@pytest.mark.parametrize("kv_type", ["f32", "f16", "q8_0"])
def test_cache_types(model: Model, kv_type: str) -> None:
    flash = True if kv_type == "q8_0" else None
    if kv_type == "q8_0":  # its blocks of 32 do not fit the tiny model's heads of 16
        with pytest.raises(ContextError, match="context of 64"):
            Context(model, 64, kv_type=kv_type, flash_attn=flash, threads=1)
        return
    with Context(model, 64, kv_type=kv_type, flash_attn=flash, threads=1) as context:
        assert np.isfinite(logits_of(context, [1, 2])).all()


def test_settings_that_cannot_be(model: Model) -> None:
    for settings in (
        {"n_batch": 0},
        {"n_seq_max": 0},
        {"n_seq_max": 257},
        {"threads": 0},
        {"threads_batch": 513},
        {"kv_type": "count"},
        {"kv_type": "q5_k"},
    ):
        with pytest.raises(ContextError):
            Context(model, 64, **settings)
    with pytest.raises(ContextError):
        Context(model, 0)


def test_sizes_are_llama_cpps_own(model: Model) -> None:
    with Context(model, 100, n_batch=4096, threads=1) as context:
        assert context.n_ctx >= 100
        assert context.n_batch <= context.n_ctx
        assert context.n_ctx_seq == context.n_ctx


def test_a_sequence_put_back(model: Model) -> None:
    """Into another sequence too, and into another context; what was there is forgotten."""
    with (
        Context(model, 512, n_seq_max=2, threads=1) as context,
        Context(model, 512, n_seq_max=2, threads=1) as other,
    ):
        logits_of(context, [1, 2, 3])
        state = context.get_state(0)
        want = logits_of(context, [4], start=3)
        logits_of(context, [9] * 20, start=4)
        for where, seq_id in ((context, 0), (context, 1), (other, 1)):
            where.set_state(seq_id, state)
            assert where.memory_last(seq_id) == 2
            np.testing.assert_allclose(logits_of(where, [4], seq_id, 3), want, atol=1e-3)
        assert other.memory_last(0) == -1, "its neighbour is not touched"


def test_the_state_of_an_empty_sequence(context: Context) -> None:
    state = context.get_state(0)
    logits_of(context, [1, 2])
    context.set_state(0, state)
    assert context.memory_last(0) == -1
    assert np.isfinite(logits_of(context, [1])).all()


def test_a_state_that_does_not_fit(model: Model) -> None:
    """The sequence is empty then, and of use again."""
    with Context(model, 512, threads=1) as long, Context(model, 256, threads=1) as short:
        logits_of(long, [1] * 300)
        logits_of(short, [1, 2])
        with pytest.raises(ContextError, match="does not fit into this context"):
            short.set_state(0, long.get_state(0))
        assert short.memory_last(0) == -1
        logits_of(short, [1, 2])
    with Context(model, 256, threads=1) as one, Context(model, 256, kv_type="f32", threads=1) as other:
        logits_of(one, [1, 2])
        with pytest.raises(ContextError, match="does not fit"):
            other.set_state(0, one.get_state(0))


def test_a_state_is_not_copied(context: Context) -> None:
    """It may be as large as the cache: a copy more may be too much for the machine's memory."""
    logits_of(context, [1] * 200)
    state = context.get_state(0)
    assert isinstance(state, bytearray)
    tracemalloc.start()
    context.set_state(0, state)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < len(state) / 2
    state.clear()  # C has let go of it


def test_waiting_for_a_decode(context: Context) -> None:
    with Batch(1) as batch:
        batch.add(10, 0, want_logits=True)
        context.decode(batch)
        context.synchronize()
        assert np.isfinite(context.logits(0)).all()


def test_a_decode_is_interrupted(context: Context) -> None:
    """llama.cpp asks C's strlen whether to stop; an interruption that came before a decode is forgotten."""
    with Batch(256) as batch:
        for position in range(256):
            batch.add(10, position)
        context.interrupt()
        stopped = 2
        assert context.model.lib.llama_decode(context.pointer, batch.raw) == stopped
        context.memory_clear()
        context.decode(batch)
        assert context.memory_last(0) == 255


def test_threads_can_be_changed(model: Model) -> None:
    c = model.lib
    with Context(model, 256, threads=1) as context:
        want = logits_of(context, [1, 2, 3])
        for threads, threads_batch in ((2, 1), (1, 2), (512, 512)):
            context.set_threads(threads, threads_batch)
            assert (c.llama_n_threads(context.pointer), c.llama_n_threads_batch(context.pointer)) == (
                threads,
                threads_batch,
            )
        for wrong in ((0, 1), (1, 0), (513, 1), (1, -1)):
            with pytest.raises(ContextError, match=r"threads are not possible; from 1 to 512"):
                context.set_threads(*wrong)
        context.set_threads(2, 2)
        context.memory_clear()
        np.testing.assert_allclose(logits_of(context, [1, 2, 3]), want, atol=1e-3)


def test_a_closed_context(model: Model) -> None:
    context = Context(model, 256, threads=1)
    state = context.get_state(0)
    context.close()
    for call in (
        context.synchronize,
        lambda: context.set_threads(1, 1),
        lambda: context.get_state(0),
        lambda: context.set_state(0, state),
    ):
        with pytest.raises(ContextError, match="closed"):
            call()


def test_states_of_sequences_that_there_are_not(context: Context) -> None:
    for seq_id in (-1, 1):
        with pytest.raises(ValueError, match="sequences"):
            context.get_state(seq_id)
        with pytest.raises(ValueError, match="sequences"):
            context.set_state(seq_id, bytearray())
