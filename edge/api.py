"""The Python API: a model in memory that answers several requests at once.

::

    with Engine("qwen2.5-7b", level="Q4_K_M") as llm:
        for delta in llm.chat([{"role": "user", "content": "你好"}]):
            print(delta.text, end="")
"""

from __future__ import annotations

import _thread
import asyncio
import queue
import weakref
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar, Unpack

from edge import reference, store, tuned
from edge.answer import Delta, Reader, Result
from edge.constrain import Grammars
from edge.engine import engine as core
from edge.engine.scheduler import Limits
from edge.engine.slots import SlotState, state_of
from edge.engine.types import Event
from edge.fit import check_context_fits
from edge.in_use import InUse
from edge.llama.context import Context, cells_for
from edge.llama.model import Model
from edge.llama.offload import auto_offload
from edge.llama.sampler import Sampling
from edge.llama.yarn import rope_for
from edge.options import Options, check
from edge.prepare import Prepared, prepare_chat, prepare_text
from edge.settings import choose
from edge.stream import Answers, Stream, read_all

T = TypeVar("T")

DEFAULT_CONTEXT = 4096  # tokens
DETERMINISTIC_CHUNK = 64  # tokens of a prompt


class Engine:
    """A model in memory. A context manager; every method may be called from any thread. Forgotten, it closes itself.

    ``model`` is what the commands call MODEL: a name, ``name:LEVEL``, a ``.gguf`` file. ``ctx``: tokens that one
    request may have, prompt and answer (default 4096, or what the model was trained for if that is less); beyond the
    trained length YaRN is turned on where the family's makers document it. ``slots``: how many requests are in the
    cache at once; ``width``: how many of them decode in one step at most (default: all, or fewer where that is
    quicker). ``gpu_layers``: how many go to GPUs, -1 for all; ``auto`` sends what fits into their free memory.
    ``deterministic``: an answer depends on no other request (no prefix is reused; slower). Other options are those of
    ``Model`` and ``Context``; what is not given is as ``edge tune`` found it for this model on this machine, if it did.
    ``rope`` is the YaRN in use, or None. Raises EdgeError.

    One at a time in a process: where two threads have computed, the OpenMP library lets both sleep between the parts
    of a step, and they are almost half as fast.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        level: str | None = None,
        ctx: int | None = None,
        slots: int = 4,
        width: int | None = None,
        threads: int | None = None,
        threads_batch: int | None = None,
        gpu_layers: int | Literal["auto"] = "auto",
        tensor_split: Sequence[float] | None = None,
        main_gpu: int | None = None,
        use_mmap: bool = True,
        use_mlock: bool = False,
        flash_attn: bool | None = None,
        kv_type: str = "f16",
        deterministic: bool = False,
        models_dir: Path | None = None,
    ) -> None:
        text = f"{model}:{level}" if level else str(model)
        models = store.models_dir(models_dir)
        path = reference.gguf_path(reference.parse(text), models)
        if gpu_layers == "auto":
            cells = cells_for(ctx or DEFAULT_CONTEXT) * slots
            gpu_layers, tensor_split = auto_offload(
                path,
                cells,
                kv_type,
                outputs=slots,
                flash_attn=flash_attn,
                tensor_split=tensor_split,
                main_gpu=main_gpu,
            )
        self.model = Model(
            path,
            gpu_layers=gpu_layers,
            tensor_split=tensor_split,
            main_gpu=main_gpu,
            use_mmap=use_mmap,
            use_mlock=use_mlock,
        )
        try:
            self.ctx = ctx or min(DEFAULT_CONTEXT, self.model.n_ctx_train or DEFAULT_CONTEXT)
            self.rope = rope_for(self.model.metadata, self.ctx)
            settings = choose(
                tuned.load(models, self.model.file),
                threads=threads,
                threads_batch=threads_batch,
                flash_attn=flash_attn,
                gpu_layers=gpu_layers,
                kv_type=kv_type,
            )
            if gpu_layers == 0:
                check_context_fits(self.model.file, self.ctx, slots, kv_type, settings.flash_attn is not False)
            self.context = Context(
                self.model,
                cells_for(self.ctx) * slots,
                n_batch=settings.rows,
                n_ubatch=settings.rows,
                n_seq_max=slots,
                threads=settings.threads,
                threads_batch=settings.threads_batch,
                flash_attn=settings.flash_attn,
                kv_type=kv_type,
                rope=self.rope,
            )
            chunk = DETERMINISTIC_CHUNK if deterministic else None
            limits = Limits(
                rows=self.context.n_batch,
                width=min(slots, settings.width or slots) if width is None else width,
                chunk=chunk,
                ctx=self.ctx,
            )
            self._core = core.Engine(self.model, self.context, limits)
            self.grammars = Grammars(self.model)
        except BaseException:
            self.model.close()
            raise
        self.sampling = Sampling.from_metadata(self.model.metadata)
        self._in_use = InUse()
        # In a thread of its own: the collector may come by in the engine's, which cannot wait for itself.
        self._forgotten = weakref.finalize(self, _thread.start_new_thread, close_parts, (self._core, self.model))
        self._forgotten.atexit = False  # the core sees to that

    # --- answers

    def chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None = None,
        tool_choice: str = "auto",
        parallel: bool = True,
        variables: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> Stream:
        """Answer a conversation by the model's own template; ``variables`` go to it (``{"enable_thinking": False}``).

        ``tool_choice``: auto, none, required (some function is called), or the name of the one to call; ``parallel``:
        several calls may come.

        Raises TemplateError, RequestError, SamplingError, ConstraintError.
        """
        return self.start(
            self.prepare_chat(
                messages, tools=tools, tool_choice=tool_choice, parallel=parallel, variables=variables, **options
            )
        )

    async def achat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None = None,
        tool_choice: str = "auto",
        parallel: bool = True,
        variables: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> AsyncIterator[Delta]:
        """``chat`` for asyncio. Leaving the loop early, or cancelling the task, cancels the answer."""
        # Rendering and tokenizing a long conversation takes a while.
        prepare = partial(
            self.prepare_chat,
            messages,
            tools=tools,
            tool_choice=tool_choice,
            parallel=parallel,
            variables=variables,
            **options,
        )
        answers = self.astart([await asyncio.to_thread(prepare)])
        try:
            while not answers.done:
                for _, delta in await answers.read():
                    yield delta
        finally:
            answers.cancel()

    def generate(self, prompts: Sequence[str], *, progress: bool = False, **options: Unpack[Options]) -> list[Result]:
        """Continue texts, all at once; the results are in their order. No template is applied.

        ``progress``: a bar on standard error with tokens/s in and out, where that is a terminal. Raises RequestError,
        SamplingError, ConstraintError, TypeError.
        """
        check(options)
        texts = list(prompts)
        if isinstance(prompts, str) or not all(isinstance(text, str) for text in texts):
            raise TypeError("the prompts are a list of texts")
        events: queue.SimpleQueue[tuple[int, Event]] = queue.SimpleQueue()
        readers: list[Reader] = []
        try:
            for index, text in enumerate(texts):
                prepared = self.prepare_text(text, **options)
                deliver = partial(lambda index, event: events.put((index, event)), index)
                readers.append(self._begin(prepared, deliver)[0])
            return read_all(readers, events, progress=progress)
        except BaseException:
            for reader in readers:
                reader.cancel()
            raise

    # --- answers in two steps: what is wrong with a request is known after the first

    def prepare_chat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None = None,
        tool_choice: str = "auto",
        parallel: bool = True,
        variables: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> Prepared:
        """As ``chat``, without sending the request."""
        with self._in_use:
            parts = self.model, self.grammars, self.sampling
            prepared = prepare_chat(*parts, messages, tools, tool_choice, parallel, variables or {}, options)
        self._core.check(prepared.request)
        return prepared

    def prepare_text(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Prepared:
        """To continue a text, or tokens, without a template."""
        with self._in_use:
            prepared = prepare_text(self.model, self.grammars, self.sampling, prompt, options)
        self._core.check(prepared.request)
        return prepared

    def start(self, prepared: Prepared) -> Stream:
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        return Stream(self._begin(prepared, events.put)[0], events, self)

    def astart(self, prepared: Sequence[Prepared]) -> Answers:
        """``start`` for the running loop of asyncio, several at once. Who stops reading is to cancel."""
        loop, events = asyncio.get_running_loop(), asyncio.Queue[tuple[int, Event] | None]()
        begun: list[tuple[Reader, core.Handle]] = []
        try:
            for index, one in enumerate(prepared):
                put = partial(lambda index, event: loop.call_soon_threadsafe(events.put_nowait, (index, event)), index)
                begun.append(self._begin(one, put))
        except BaseException:
            for _, handle in begun:
                handle.cancel()
            raise
        return Answers([reader for reader, _ in begun], [handle for _, handle in begun], events)

    def call(self, function: Callable[[], T]) -> Future[T]:
        """Have the thread that computes call it between two steps; it should be as short as a step."""
        return self._core.call(function)

    def compute_prefix(self, tokens: Sequence[int]) -> Future[bytearray]:
        """Have what many prompts begin with computed, among other requests, and keep it in memory beside the cache:
        from now on it is computed no more. Its state is for ``restore_prefix``. Raises RequestError."""
        return self._core.compute_prefix(list(tokens))

    def restore_prefix(self, tokens: Sequence[int], state: bytearray) -> Future[None]:
        """Keep what ``compute_prefix`` gave for these tokens in a context like this one. Never bytes from outside: C
        trusts them. ContextError where it does not fit."""
        return self._core.restore_prefix(list(tokens), state)

    def wipe(self) -> Future[None]:
        """Forget every conversation that has no request at work; the data of the cache, too, as soon as nobody is at
        work. A prefix that is kept stays."""
        return self._core.wipe()

    @property
    def slots(self) -> list[SlotState]:
        """As they are now, or were a moment ago."""
        return [state_of(slot) for slot in self._core.slots]

    @property
    def reuses(self) -> bool:
        """Whether requests go on from what others computed: not if ``deterministic``."""
        return self._core.limits.chunk is None

    @property
    def steps(self) -> int:
        """How many steps and calls were computed so far."""
        return self._core.steps

    @property
    def idle(self) -> bool:
        """Whether nothing is computed, and nothing waits to be."""
        return self._core.idle

    def _begin(self, prepared: Prepared, deliver: Callable[[Event], object]) -> tuple[Reader, core.Handle]:
        reader = Reader(prepared.parser, prepared.stops, lambda: handle.cancel())  # raises, if at all, before the start
        handle = self._core.start(prepared.request, deliver)
        return reader, handle

    # --- life

    def close(self) -> None:
        """Cancel what is at work and free the model; harmless when repeated."""
        self._in_use.close()  # C would read freed memory
        self._forgotten.detach()
        close_parts(self._core, self.model)

    def __enter__(self) -> Engine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def close_parts(engine: core.Engine, model: Model) -> None:
    """End the thread, then free what it worked on."""
    engine.close()
    model.close()
