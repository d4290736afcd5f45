"""A context: the KV cache of one or more sequences, and the decode step over it."""

from __future__ import annotations

import ctypes
import functools
import sys
import weakref
from typing import Any

import numpy as np

from convert.errors import EdgeError
from edge import machine
from edge.llama.batch import Batch
from edge.llama.library import last_log
from edge.llama.model import Model, first_reason
from edge.llama.yarn import RopeChange

MAX_THREADS = 512  # GGML_MAX_N_THREADS
MAX_SEQUENCES = 256


class ContextError(EdgeError):
    """The context cannot be made, or is closed."""


class DecodeError(EdgeError):
    """A decode step failed."""


class NoCacheSpace(DecodeError):
    """The KV cache has no room for the batch; nothing of it was decoded."""


class DecodeAborted(DecodeError):
    """The abort callback stopped the step; part of the batch may be in the cache."""


class InvalidBatch(DecodeError):
    """The batch contradicts the cache or the model: a position gap, an unknown token or sequence."""


class DecodeFailed(DecodeError):
    """llama.cpp failed inside the step; the content of the cache is unknown."""


class Context:
    """KV cache for ``n_seq_max`` sequences over an open model. A context manager.

    ``n_ctx``: cells of the cache in tokens, for all sequences together; each has ``n_ctx_seq`` of
    them, which is ``n_ctx / n_seq_max``: in one cache for all, each row would look at everyone's
    cells. ``n_batch``: most rows of one decode; ``n_ubatch``: rows computed at once.
    ``n_outputs_max``: most rows of one decode with logits, one a sequence by default; memory is
    reserved for them (0.6 MB each with Qwen's vocabulary).
    ``threads`` decode a single row, ``threads_batch`` everything wider; default: the physical cores.
    ``flash_attn``: None lets llama.cpp choose. ``kv_type``: the ggml type of K and V, such as ``f16``
    or ``q8_0``. ``rope``: YaRN for sequences beyond the trained length, from ``yarn.rope_for``.
    ``embeddings``: rows give their hidden state instead of logits.

    One thread at a time may use a context. Raises ``ContextError``.
    """

    def __init__(
        self,
        model: Model,
        n_ctx: int,
        *,
        n_batch: int = 512,
        n_ubatch: int = 512,
        n_seq_max: int = 1,
        n_outputs_max: int | None = None,
        threads: int | None = None,
        threads_batch: int | None = None,
        flash_attn: bool | None = None,
        kv_type: str = "f16",
        rope: RopeChange | None = None,
        embeddings: bool = False,
    ) -> None:
        lib = model.lib
        if model.vocab_only:
            raise ContextError(f"{model.path.name} was loaded without its weights")
        if min(n_ctx, n_batch, n_ubatch) < 1 or not 1 <= n_seq_max <= MAX_SEQUENCES:
            raise ContextError(
                f"no context with n_ctx {n_ctx}, n_batch {n_batch}, n_ubatch {n_ubatch}, n_seq_max {n_seq_max}",
                f"sizes are at least 1, sequences 1 to {MAX_SEQUENCES}",
            )
        check_threads(threads, threads_batch)
        params = lib.llama_context_default_params()
        params.n_ctx = n_ctx
        params.n_batch = n_batch
        params.n_ubatch = n_ubatch
        params.n_seq_max = n_seq_max
        # llama.cpp keeps room for one output a sequence in any case and aborts the process beyond.
        self.n_outputs_max = max(n_outputs_max or 0, n_seq_max)
        params.n_outputs_max = self.n_outputs_max
        self.threads: int = threads or machine.usable_cores()
        self.threads_batch: int = threads_batch or self.threads
        params.n_threads, params.n_threads_batch = self.threads, self.threads_batch
        params.flash_attn_type = {
            None: lib.LLAMA_FLASH_ATTN_TYPE_AUTO,
            False: lib.LLAMA_FLASH_ATTN_TYPE_DISABLED,
            True: lib.LLAMA_FLASH_ATTN_TYPE_ENABLED,
        }[flash_attn]
        params.type_k = params.type_v = _ggml_type(lib, kv_type)
        params.kv_unified = False
        if rope is not None:
            params.rope_scaling_type = lib.LLAMA_ROPE_SCALING_TYPE_YARN
            params.yarn_orig_ctx = rope.original
            params.rope_freq_scale = 1 / rope.factor
            # As in the paper, and all that the converter lets a file say. llama.cpp derives the scale of
            # attention from the factor; this one multiplies it.
            params.yarn_ext_factor = params.yarn_attn_factor = 1.0
            params.yarn_beta_fast, params.yarn_beta_slow = 32.0, 1.0
        params.embeddings = embeddings
        params.pooling_type = lib.LLAMA_POOLING_TYPE_NONE if embeddings else lib.LLAMA_POOLING_TYPE_UNSPECIFIED
        params.no_perf = True
        last_log()  # what went wrong before is another matter
        pointer = lib.llama_init_from_model(model._open(), params)
        if not pointer:
            raise ContextError(
                f"llama.cpp cannot make a context of {n_ctx} tokens: {first_reason(last_log())}",
                "try a shorter context",
            )
        self.model = model  # keeps the weights alive as long as the cache
        self.pointer: Any = pointer
        self.n_seq_max = n_seq_max
        self.kv_type, self.flash_attn, self.rope = kv_type, flash_attn, rope
        self.n_ctx: int = lib.llama_n_ctx(pointer)
        self.n_ctx_seq: int = lib.llama_n_ctx_seq(pointer)
        self.n_batch: int = lib.llama_n_batch(pointer)
        self.n_ubatch: int = lib.llama_n_ubatch(pointer)
        self._outputs: frozenset[int] = frozenset()
        self._stop = ctypes.create_string_buffer(2)
        lib.llama_set_abort_callback(
            pointer, ctypes.cast(strlen(), lib.ggml_abort_callback), ctypes.cast(self._stop, ctypes.c_void_p)
        )
        self._memory: Any = lib.llama_get_memory(pointer)
        self._free = weakref.finalize(self, lib.llama_free, pointer)
        model.adopt(self)

    # --- the step

    def decode(self, batch: Batch) -> None:
        """Compute every row of ``batch`` and append it to the cache of its sequences.

        Raises ``NoCacheSpace`` (free sequences or send fewer rows), ``InvalidBatch``,
        ``DecodeAborted``, ``DecodeFailed``.
        """
        pointer = self._open()
        self._check(batch)
        self._outputs = frozenset()
        self._stop[0] = b"\0"
        last_log()
        code = self.model.lib.llama_decode(pointer, batch.raw)
        if code == 0:
            self._outputs = frozenset(batch.outputs)
            return
        reason = f"{first_reason(last_log())} ({code})"
        if code == 1:
            raise NoCacheSpace(
                f"the KV cache of {self.n_ctx} tokens has no room for {len(batch)} more",
                "raise the context length or send less text",
            )
        if code == 2:
            raise DecodeAborted("the decode was stopped")
        if code == -1:
            raise InvalidBatch(f"llama.cpp refused the batch: {reason}")
        raise DecodeFailed(f"the decode failed: {reason}", "load the model again")

    def interrupt(self) -> None:
        """Stop a decode that another thread is in, as soon as the CPU is done with a matrix; one on GPUs goes on."""
        self._stop[0] = b"\1"

    def logits(self, row: int) -> np.ndarray:
        """Logits of batch row ``row`` of the last decode: a float32 view [n_vocab] into C's memory.

        Writing to it changes what a sampler sees. It is valid until the next decode: copy to keep.
        """
        self.check_output(row)
        data = self.model.lib.llama_get_logits_ith(self._open(), row)
        return np.ctypeslib.as_array(data, shape=(self.model.n_vocab,))

    def embedding(self, row: int) -> np.ndarray:
        """The last hidden state of batch row ``row`` of the last decode: a copy, float32 [n_embd]."""
        self.check_output(row)
        data = self.model.lib.llama_get_embeddings_ith(self._open(), row)
        return np.ctypeslib.as_array(data, shape=(self.model.n_embd,)).copy()

    def synchronize(self) -> None:
        """Wait until the last decode is done, its logits included."""
        self.model.lib.llama_synchronize(self._open())

    def set_threads(self, threads: int, threads_batch: int) -> None:
        """From the next decode on. Raises ``ContextError``."""
        check_threads(threads, threads_batch)
        self.model.lib.llama_set_n_threads(self._open(), threads, threads_batch)

    def check_output(self, row: int) -> None:
        """Raise ``ValueError`` unless the last decode left logits for ``row``; C would abort."""
        if row not in self._outputs:
            raise ValueError(f"row {row} of the last batch has no logits; it has {sorted(self._outputs)}")

    # --- the cache

    def memory_rm(self, seq_id: int, start: int = 0, end: int = -1) -> bool:
        """Forget positions [start, end) of a sequence; ``end`` -1 means to the last.

        False if the model cannot forget a part (recurrent and hybrid models): forget all of it then.
        """
        self._check_sequence(seq_id)
        return self.model.lib.llama_memory_seq_rm(self._memory, seq_id, start, end)

    def memory_cp(self, source: int, target: int) -> None:
        """Copy ``source`` to ``target``. Whole: llama.cpp ends the process over a part."""
        self._check_sequence(source)
        self._check_sequence(target)
        self.model.lib.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def memory_last(self, seq_id: int) -> int:
        """The last position in the cache of a sequence, -1 if it is empty."""
        self._check_sequence(seq_id)
        return self.model.lib.llama_memory_seq_pos_max(self._memory, seq_id)

    def get_state(self, seq_id: int) -> bytearray:
        """What the cache holds of a sequence, for ``set_state``."""
        self._check_sequence(seq_id)
        lib, pointer = self.model.lib, self._open()
        state = bytearray(lib.llama_state_seq_get_size(pointer, seq_id))
        written = lib.llama_state_seq_get_data(pointer, c_bytes(state), len(state), seq_id)
        if written != len(state):
            raise ContextError(f"the state of sequence {seq_id} cannot be read: {written} of {len(state)} bytes")
        return state

    def set_state(self, seq_id: int, state: bytearray) -> None:
        """Put back what ``get_state`` of a context like this gave. Never for bytes from outside: C trusts them.

        Raises ``ContextError`` where they do not fit.
        """
        self._check_sequence(seq_id)
        self.memory_rm(seq_id)
        if self.model.lib.llama_state_seq_set_data(self._open(), c_bytes(state), len(state), seq_id) != len(state):
            raise ContextError("a sequence does not fit into this context", "use one with as many cells a sequence")

    def memory_clear(self) -> None:
        """Forget every sequence."""
        self.model.lib.llama_memory_clear(self._open() and self._memory, True)

    # --- life

    def close(self) -> None:
        """Free the cache; harmless when repeated."""
        self._outputs = frozenset()
        self._free()

    def __enter__(self) -> Context:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _open(self) -> Any:
        if not self._free.alive:
            raise ContextError("the context is closed")
        return self.pointer

    def _check(self, batch: Batch) -> None:
        """What llama.cpp would answer by ending the process."""
        if not 0 < len(batch) <= self.n_batch:
            raise ValueError(f"a batch has 1 to {self.n_batch} rows, got {len(batch)}")
        if len(batch.outputs) > self.n_outputs_max:
            raise ValueError(f"at most {self.n_outputs_max} rows can have logits, got {len(batch.outputs)}")
        if batch.last_seq >= self.n_seq_max:
            raise ValueError(f"sequences are 0 to {self.n_seq_max - 1}, got {batch.last_seq}")

    def _check_sequence(self, seq_id: int) -> None:
        self._open()
        if not 0 <= seq_id < self.n_seq_max:
            raise ValueError(f"sequences are 0 to {self.n_seq_max - 1}, got {seq_id}")


@functools.cache
def strlen() -> Any:
    """C's, which llama.cpp is given for its question whether to stop: it asks between any two operations, and Python
    would take longer to answer than most of them. The length of an empty text is 0, which means to go on."""
    library = ctypes.cdll.msvcrt if sys.platform == "win32" else ctypes.CDLL(None)
    return library.strlen


def check_threads(*counts: int | None) -> None:
    for count in counts:
        if count is not None and not 1 <= count <= MAX_THREADS:
            raise ContextError(f"{count} threads are not possible", f"from 1 to {MAX_THREADS}")


def c_bytes(data: bytearray) -> Any:
    """``data`` itself as C sees it; a copy might be as large as the cache."""
    return (ctypes.c_uint8 * len(data)).from_buffer(data)


def cells_for(ctx: int) -> int:
    """Cells of a sequence of up to ``ctx`` tokens, as llama.cpp rounds them, or a block more.

    Attention that is not flash attention keeps V in rows of as many halves as there are cells. Where they are 4 KiB
    apart, or a multiple, they compete for the same lines of the CPU's first cache: 2 % of a decode step.
    """
    cells = -(-ctx // CELL_BLOCK) * CELL_BLOCK
    return cells + CELL_BLOCK if cells * 2 % 4096 == 0 else cells


def _ggml_type(lib: Any, name: str) -> int:
    value = getattr(lib, f"GGML_TYPE_{name.upper()}", None)
    if name not in KV_TYPES or value is None:
        raise ContextError(f"no KV cache type {name!r}", "use one of " + ", ".join(KV_TYPES))
    return value


CELL_BLOCK = 256  # llama.cpp makes a cache of a multiple of this
KV_TYPES = ("f32", "f16", "q8_0", "q5_1", "q5_0", "q4_1", "q4_0", "iq4_nl")
