"""The engine: requests in from any thread, tokens out; one thread owns the context."""

from __future__ import annotations

import atexit
import contextlib
import math
import queue
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TypeVar

from convert.errors import EdgeError
from edge.engine.handle import Handle, Ticket
from edge.engine.messages import Call, Cancel, Close, Submit
from edge.engine.prefix import Kept, Prefix
from edge.engine.runner import Drawn, Runner
from edge.engine.scheduler import Limits, Pace, Work, by_turns, plan, should_wait, split
from edge.engine.sequence import Sequence
from edge.engine.slots import Slot, find_seat
from edge.engine.types import (
    ContextLengthError,
    EngineError,
    Event,
    Finished,
    FinishReason,
    Request,
    RequestError,
)
from edge.llama.context import Context, DecodeAborted
from edge.llama.model import Model
from edge.llama.sampler import Sampling

T = TypeVar("T")

TOGETHER = 0.06  # seconds between requests that come at the same time


class Engine:
    """Continuous batching over one context. A context manager; ``submit`` may be called from any thread.

    The ``context``'s sequences are the slots; ``resident``: the tokens that the first of them hold already. ``steps``
    counts what the thread has computed, steps and calls; ``idle``: it waits for a message. Neither changes any more
    where C does not come back. Raises EngineError when used after it is closed or has failed, or in a forked process.
    """

    def __init__(
        self, model: Model, context: Context, limits: Limits | None = None, resident: Iterable[list[int]] = ()
    ) -> None:
        self.model, self.context = model, context
        self.limits = limits or Limits(rows=min(context.n_batch, context.n_ubatch), width=context.n_seq_max)
        if type(self.limits.width) is not int or self.limits.width < 1:
            raise EngineError(f"width is a whole number, 1 or more, got {self.limits.width!r}")
        self.n_ctx = min(self.limits.ctx or context.n_ctx_seq, context.n_ctx_seq)
        self.pace = Pace()
        held = [*resident, *[[]] * context.n_seq_max]
        self.slots = [Slot(index, list(held[index])) for index in range(context.n_seq_max)]
        self._runner = Runner(model, context)
        self._kept = Kept(context, self.slots)
        self._wiping = False  # the cache's data is to be cleared when nobody is at work
        self._inbox: queue.SimpleQueue[Submit | Cancel | Call | Close] = queue.SimpleQueue()
        self._waiting: list[Sequence] = []
        self._active: list[Sequence] = []
        self._step = 0
        self.steps = 0
        self.idle = False
        self._computing: frozenset[Sequence] = frozenset()  # whose prompts the running step reads
        self._began = -math.inf  # when the running step did, if nobody waits in it for the next token
        self._gathering = False  # it was stopped for company
        self._stopped = False  # the last step was; the next is a short one, so that nobody is kept from getting on
        self._served: dict[str, int] = {}  # client -> step of its last admission, since nobody was here
        self._failure: EdgeError | None = None
        self._closed = False
        self._sending = threading.Lock()  # no request comes behind Close, where nobody would answer it
        self._thread = threading.Thread(target=self._run, name="edge-engine", daemon=True)
        self._thread.start()
        atexit.register(self.close)  # before what the thread works on is freed at exit: what came last goes first

    # --- for callers

    def submit(self, request: Request) -> Ticket:
        """Take in a request. Raises RequestError for one that can never fit, with both numbers, or names tokens that
        the model does not have."""
        return Ticket(self, request)

    def start(self, request: Request, deliver: Callable[[Event], object]) -> Handle:
        """``submit`` for who waits in another way: ``deliver`` is called for each event, by the engine's thread, and
        must not block."""
        self.check(request)
        sequence = Sequence(request, deliver)
        self.send(Submit(sequence))
        if self._is_company(sequence):
            self._gathering = True
            self.context.interrupt()
        return Handle(self, sequence)

    def _is_company(self, sequence: Sequence) -> bool:
        """Whether a step with the prompts of others has just begun, and would better begin again with this one, too:
        those who come together else wait for each other, and many rows at once are quicker."""
        computing = self._computing
        return (
            bool(computing)
            and time.monotonic() - self._began < TOGETHER
            and len(self._active) < len(self.slots)
            and not should_wait(sequence.tokens, computing, 0)
        )

    def check(self, request: Request) -> None:
        """Raise ContextLengthError, or RequestError for what the model does not have."""
        if len(request.tokens) >= self.n_ctx:
            raise ContextLengthError(len(request.tokens), self.n_ctx)
        for token in (*request.tokens, *request.logit_bias):
            if not 0 <= token < self.model.n_vocab:
                raise RequestError(f"token {token} is outside the vocabulary of {self.model.n_vocab}")

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Have the engine's thread call it between two steps: where two threads compute, both are slow. It should be
        as short as a step. Cancel the future while it waits, and it is not called."""
        future: Future[T] = Future()
        self.send(Call(function, future))
        return future

    def compute_prefix(self, tokens: list[int]) -> Future[bytearray]:
        """Have what many prompts begin with computed, as a request among others, and keep it: see ``Prefix``. Its state
        is for ``restore_prefix``. Raises RequestError."""
        future: Future[bytearray] = Future()

        def deliver(event: Event) -> None:
            # The engine's thread calls it before it gives the slot, which holds these tokens alone, to another request.
            if not isinstance(event, Finished):
                return
            try:
                if event.error is not None:
                    raise event.error
                future.set_result(self._kept.take(tokens))
            except Exception as error:
                future.set_exception(error)

        self.start(Request(tuple(tokens), Sampling(temperature=0.0), max_tokens=1), deliver)
        return future

    def restore_prefix(self, tokens: list[int], state: bytearray) -> Future[None]:
        """Keep what ``compute_prefix`` gave of these tokens in a context like this one: never bytes from outside.
        ContextError where it does not fit."""
        return self.call(lambda: self._kept.restore(Prefix(tokens, state)))

    def wipe(self) -> Future[None]:
        """Forget the conversations in slots without a request; the data of the cache, too, as soon as nobody is at
        work. What ``Prefix`` tells of stays."""
        return self.call(self._wipe)

    def send(self, message: Submit | Call) -> None:
        """Hand a request to the thread. Raises what ended the engine, if it has ended."""
        with self._sending:
            if self._closed or self._failure:
                raise self._failure or EngineError("the engine is closed")
            if not self._thread.is_alive():
                raise EngineError("a forked process has no engine", "make it there, or start the process by spawn")
            self._inbox.put(message)

    def close(self) -> None:
        """Cancel what is at work, end the thread, free the batch; the context is the caller's."""
        with self._sending:
            if not self._closed:
                self._closed = True
                self._inbox.put(Close())
        self.context.interrupt()
        self._thread.join()  # also for who comes second: what the thread works on may be freed afterwards
        self._runner.close()
        atexit.unregister(self.close)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- the thread

    def _run(self) -> None:
        try:
            while self._receive():
                if self._waiting:
                    self._admit()
                work = plan(self._active, self.pace, self.limits, self._step, self._stopped)
                self._step += 1
                # Apart: llama.cpp computes one row of each sequence first in any case, and would leave of a prompt a
                # number of rows that is no multiple of GROUP. So who decodes need not wait for the prompts either.
                parts = split(work)
                for part in parts:
                    self._compute(part, alone=len(parts) == 1)
                if self._wiping:
                    self._wipe()  # also what ends while others, and ever new ones, are at work
                if not self._active and not self._waiting and self._inbox.empty():
                    self._check_idle()
                    self._served.clear()
                    self.pace.forget_slow(self.limits.step or math.inf)
        except BaseException as error:  # nobody may wait for ever; a panic of a library in Rust is no Exception
            self._failure = error if isinstance(error, EdgeError) else unforeseen(error)
            for sequence in [*self._active, *self._waiting]:
                self._finish(sequence, "error", self._failure)
            while not isinstance(message := self._inbox.get(), Close):
                if isinstance(message, Submit):
                    self._finish(message.sequence, "error", self._failure)
                elif isinstance(message, Call) and message.future.set_running_or_notify_cancel():
                    message.future.set_exception(self._failure)

    def _receive(self) -> bool:
        """Take in messages, waiting for one only when there is nothing to do. False: the engine is to end."""
        while True:
            if self._wiping and not (self._active or self._waiting):
                self._wipe()  # the last one was cancelled
            if (self._active or self._waiting) and self._inbox.empty():
                return True
            self.idle = True
            message = self._inbox.get()
            self.idle = False
            match message:
                case Submit(sequence):
                    self._waiting.append(sequence)
                case Cancel(sequence):
                    if sequence in self._active or sequence in self._waiting:
                        self._finish(sequence, "cancelled")
                case Call(function, future):
                    if future.set_running_or_notify_cancel():
                        try:
                            future.set_result(function())
                        except Exception as error:
                            future.set_exception(error)
                        self.steps += 1
                case Close():
                    for sequence in [*self._active, *self._waiting]:
                        self._finish(sequence, "cancelled")
                    return False

    def _admit(self) -> None:
        """Give slots to waiting requests."""
        separate = self.limits.chunk is not None
        for sequence in by_turns(self._waiting, self._active, self._served):
            seat = find_seat(
                self.slots, sequence.tokens, side=sequence.request.side, reuse=not separate, cuts=self.model.can_cut
            )
            if seat is None:
                return
            kept = None if separate else self._kept.serving(sequence.tokens, seat.reused)
            resident = len(kept.tokens) if kept is not None else seat.reused
            if not separate and should_wait(sequence.tokens, self._active, resident):
                continue
            if kept is not None:
                seat = self._kept.put(kept, seat.slot)
            reused = self._runner.begin(sequence, seat)
            self._waiting.remove(sequence)
            slot = seat.slot
            slot.tokens = seat.source.tokens[:reused]
            slot.owner, slot.side, slot.used = sequence, sequence.request.side, self._step
            sequence.slot, sequence.n_past = slot.index, reused
            sequence.admitted, sequence.cached = time.monotonic(), reused
            self._active.append(sequence)
            self._served[sequence.request.client] = self._step

    def _compute(self, work: list[Work], *, alone: bool) -> None:
        """Compute a part of a step, or all of it, and hand on what it gave."""
        decoding = work[0].decodes
        depth = 0 if decoding else work[0].sequence.n_past
        self._computing = frozenset() if decoding else frozenset(one.sequence for one in work)
        started = time.monotonic()
        self._began, self._gathering = started if alone else -math.inf, False
        try:
            drawn = self._runner.run(work, self.slots)
        except DecodeAborted:
            self._runner.undo(work, self.slots)
            self._stopped = not self._gathering
            return
        finally:
            self._computing = frozenset()
            self.steps += 1  # also when it was stopped: C came back
        self._stopped = False
        seconds = time.monotonic() - started
        rows = sum(one.count for one in work)
        if decoding:
            self.pace.saw_decode(rows, seconds)
        else:
            self.pace.saw_prefill(rows, seconds, depth)
        for one in drawn:
            self._deliver(one)

    def _deliver(self, drawn: Drawn) -> None:
        """Hand a token on, or end the request by it."""
        sequence, request = drawn.sequence, drawn.sequence.request
        if drawn.token is None:
            self._finish(sequence, "error", drawn.error)
            return
        token = drawn.token.token
        now = time.monotonic()
        if not sequence.n_generated:
            sequence.first_token = now
        sequence.last_token = now
        if token in request.stop_tokens or (token in self.model.end_tokens and not request.ignore_eos):
            self._finish(sequence, "stop")
            return
        for one in (drawn.token, *drawn.forced):
            sequence.tokens.append(one.token)
            try:
                sequence.deliver(one)
            except Exception:  # who asked is gone
                self._finish(sequence, "cancelled")
                return
            if sequence.n_generated == request.max_tokens or len(sequence.tokens) >= self.n_ctx:
                self._finish(sequence, "length")
                return

    def _finish(self, sequence: Sequence, reason: FinishReason, error: EdgeError | None = None) -> None:
        self._release(sequence)
        self._runner.end(sequence)
        if sequence in self._waiting:
            self._waiting.remove(sequence)
        with contextlib.suppress(Exception):  # the same
            sequence.deliver(Finished(reason, sequence.timings(), error))

    def _release(self, sequence: Sequence) -> None:
        """Give the slot back; its tokens stay resident."""
        if sequence.slot is not None:
            slot = self.slots[sequence.slot]
            slot.owner, slot.used = None, self._step
            sequence.slot = None
        if sequence in self._active:
            self._active.remove(sequence)

    def _wipe(self) -> None:
        self._wiping = bool(self._active or self._waiting)
        self._kept.wipe(also_data=not self._wiping)

    def _check_idle(self) -> None:
        """Nobody is at work: every slot is free, and the cache holds what the slots say. Raises EngineError."""
        for slot in self.slots:
            last = self.context.memory_last(slot.index)
            if slot.owner is not None or last != len(slot.tokens) - 1:
                raise EngineError(f"slot {slot.index} is out of step with the cache", "this is a bug: report it")


def unforeseen(error: BaseException) -> EngineError:
    failure = EngineError(f"the engine failed: {error!r}", "load the model again; if that fails too, report it")
    failure.__cause__ = error  # for --debug
    return failure
