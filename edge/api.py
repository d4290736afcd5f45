"""The Python API: a model in memory that answers several requests at once.

::

    with Engine("qwen2.5-7b", level="Q4_K_M") as llm:
        for delta in llm.chat([{"role": "user", "content": "你好"}]):
            print(delta.text, end="")
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import dataclasses
import queue
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, Unpack

from rich.console import Console
from rich.progress import Progress

from edge import reference, store, tuned
from edge.answer import Delta, Reader, Result
from edge.chat.formats import format_for
from edge.chat.output import Parser, PlainParser
from edge.chat.thinking import CLOSE, OPEN, ends_inside_thoughts
from edge.constrain import Grammars
from edge.engine import engine as core
from edge.engine.scheduler import Limits
from edge.engine.types import Event, Request, rate
from edge.fit import check_context_fits
from edge.in_use import InUse
from edge.llama.context import Context, cells_for
from edge.llama.model import Model
from edge.llama.offload import auto_offload
from edge.llama.sampler import Sampling
from edge.llama.yarn import rope_for
from edge.options import Options, check, stop_strings, to_request, wanted_form
from edge.prompt import render_prompt
from edge.settings import choose
from edge.thinking_budget import CLOSING, ThinkingBudget

DEFAULT_CONTEXT = 4096  # tokens
DETERMINISTIC_CHUNK = 64  # tokens of a prompt
PATIENCE = 0.2  # seconds; Windows notices Ctrl-C only between two waits


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
            self._context = Context(
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
                rows=self._context.n_batch,
                width=min(slots, settings.width or slots) if width is None else width,
                chunk=chunk,
                ctx=self.ctx,
            )
            self._core = core.Engine(self.model, self._context, limits)
            self._grammars = Grammars(self.model)
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
        variables: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> Stream:
        """Answer a conversation by the model's own template; ``variables`` go to it (``{"enable_thinking": False}``).

        Raises TemplateError, RequestError, SamplingError, ConstraintError.
        """
        return self._stream(*self._chat_request(messages, tools, variables or {}, options), options)

    async def achat(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Any] | None = None,
        variables: Mapping[str, Any] | None = None,
        **options: Unpack[Options],
    ) -> AsyncIterator[Delta]:
        """``chat`` for asyncio. Leaving the loop early, or cancelling the task, cancels the answer."""
        # Rendering and tokenizing a long conversation takes a while.
        request, parser = await asyncio.to_thread(self._chat_request, messages, tools, variables or {}, options)
        loop, events = asyncio.get_running_loop(), asyncio.Queue[Event]()
        deliver = partial(loop.call_soon_threadsafe, events.put_nowait)
        reader = self._start(request, parser, options, deliver)
        try:
            while reader.result is None:
                for delta in reader.feed(await events.get()):
                    yield delta
        finally:
            if reader.result is None:
                reader.cancel()

    def generate(self, prompts: Sequence[str], *, progress: bool = False, **options: Unpack[Options]) -> list[Result]:
        """Continue texts, all at once; the results are in their order. No template is applied.

        ``progress``: a bar on standard error with tokens/s in and out, where that is a terminal. Raises RequestError,
        SamplingError, ConstraintError, TypeError.
        """
        check(options)
        texts = list(prompts)
        if isinstance(prompts, str) or not all(isinstance(text, str) for text in texts):
            raise TypeError("the prompts are a list of texts")
        spec = wanted_form(options)
        events: queue.SimpleQueue[tuple[int, Event]] = queue.SimpleQueue()
        readers: list[Reader] = []
        try:
            for index, text in enumerate(texts):
                with self._in_use:
                    tokens = self.model.tokenize(text, add_special=True)
                    constraint = self._grammars.compile(spec) if spec else None
                request = to_request(tokens, options, self.sampling, constraint)
                deliver = partial(lambda index, event: events.put((index, event)), index)
                readers.append(self._start(request, PlainParser(), options, deliver))
            return read_all(readers, events, progress=progress)
        except BaseException:
            for reader in readers:
                reader.cancel()
            raise

    def _chat_request(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Any] | None,
        variables: Mapping[str, Any],
        options: Options,
    ) -> tuple[Request, Parser]:
        with self._in_use:
            check(options)
            model = self.model
            prompt, tokens = render_prompt(model, messages, tools=tools, **variables)
            output = format_for(model.chat_template, model.arch, tools)
            thinks = output.thinks and not prompt.rstrip().endswith(CLOSE)
            spec = wanted_form(options)
            if spec and thinks and not ends_inside_thoughts(prompt):
                # What the model would write first; without it a model that does not think would never be constrained.
                prompt += OPEN
                tokens += model.tokenize(OPEN, parse_special=True)
            inside = ends_inside_thoughts(prompt)
            spec = dataclasses.replace(spec, after_thinking=inside) if spec else None
            constraint = self._grammars.compile(spec) if spec else None
            if (budget := options.get("thinking_budget")) is not None and (thinks or inside):
                closing = model.tokenize(CLOSING, parse_special=True)
                constraint = ThinkingBudget(
                    budget, closing, partial(model.token_bytes, special=True), inside=inside, inner=constraint
                )
            return to_request(tokens, options, self.sampling, constraint), output.parser(prompt)

    def _stream(self, request: Request, parser: Parser, options: Options) -> Stream:
        events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        return Stream(self._start(request, parser, options, events.put), events, self)

    def _start(self, request: Request, parser: Parser, options: Options, deliver: Callable[[Event], object]) -> Reader:
        reader = Reader(parser, stop_strings(options), lambda: cancel())  # which raises, if at all, before the start
        cancel = self._core.start(request, deliver)
        return reader

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


class Stream:
    """An answer as it comes: iterate for its deltas, then read ``result``. Leaving the loop early cancels it, and so
    does forgetting it."""

    def __init__(self, reader: Reader, events: queue.SimpleQueue[Event], source: object = None) -> None:
        """``source``: what is to live as long as the answer is awaited."""
        self._reader, self._events, self._source = reader, events, source
        self.cancel = reader.cancel
        """End the answer before the next step; any thread may call it."""

    def __iter__(self) -> Iterator[Delta]:
        try:
            while self._reader.result is None:
                if self._reader.error is not None:  # once more, to who asks again
                    raise self._reader.error
                with contextlib.suppress(queue.Empty):
                    yield from self._reader.feed(self._events.get(timeout=PATIENCE))
        finally:
            self._leave()

    def _leave(self) -> None:
        if self._reader.result is None:
            self.cancel()

    __del__ = _leave

    @property
    def result(self) -> Result:
        """The whole answer; waits for its end. Raises the error that ended it."""
        for _ in self:
            pass
        assert self._reader.result is not None
        return self._reader.result


def read_all(
    readers: Sequence[Reader], events: queue.SimpleQueue[tuple[int, Event]], *, progress: bool
) -> list[Result]:
    """Read ``events``, each with the number of its reader, as they come: a stop string ends one answer while others go
    on. ``progress``: behind a bar with tokens/s in and out."""
    console = Console(stderr=True)
    results: dict[int, Result] = {}
    with Progress(console=console, transient=True, disable=not (progress and console.is_terminal)) as bar:
        task = bar.add_task("", total=len(readers))
        started, read, written = bar.get_time(), 0, 0
        while len(results) < len(readers):
            with contextlib.suppress(queue.Empty):
                index, event = events.get(timeout=PATIENCE)
                readers[index].feed(event)
                if (result := readers[index].result) is not None:
                    results[index] = result
                    read += result.timings.prompt_tokens
                    written += result.timings.generated_tokens
                    seconds = bar.get_time() - started
                    speed = f"{rate(read, seconds):.0f} tokens/s in, {rate(written, seconds):.0f} out"
                    bar.update(task, advance=1, description=speed)
    return [results[index] for index in range(len(readers))]
