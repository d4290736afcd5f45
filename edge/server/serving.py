"""The one model that is served: loading, there, or broken; and what the endpoints need of it."""

from __future__ import annotations

import asyncio
import gc
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from starlette.requests import Request

import edge
from edge.api import Engine
from edge.chat.thinking import OPEN
from edge.embed import Embedder
from edge.model_file import level_of
from edge.server.config import Config
from edge.server.errors import Loading, fault_of
from edge.server.gate import Gate
from edge.server.metrics import Metrics
from edge.warm import Warm

FIRST = "Hello"  # to be continued by the first token


@dataclass
class Serving:
    """``name`` and ``level`` of the model as clients see them; ``load`` makes the engine, which has ``begun``, and is
    ``loaded`` once it is known to answer. ``log`` takes a line about the server, ``tell`` one a request. ``warm``:
    what conversations begin with, if it is to be there before they do."""

    name: str
    level: str
    slots: int
    config: Config
    load: Callable[[], Engine]
    log: Callable[[str], None]
    tell: Callable[[str], None] = lambda text: None
    debug: bool = False
    warm: Warm | None = None
    created: int = field(default_factory=lambda: int(time.time()))
    begun: Engine | None = None
    loaded: Engine | None = None
    failure: Exception | None = None
    ending: bool = False

    def __post_init__(self) -> None:
        self.settled = asyncio.Event()  # it is loaded, or never will be
        self.gate = Gate(self.slots, self.config.queue)
        self.metrics = Metrics(self)

    async def start(self, on_failure: Callable[[], None]) -> None:
        """Load the model. ``on_failure`` is called once ``failure`` tells why it cannot be."""
        try:
            loaded = self.begun = await asyncio.to_thread(self.load)
            if self.warm is not None:
                await asyncio.to_thread(self.warm.restore, loaded)
            await asyncio.to_thread(loaded.generate, [FIRST], max_tokens=1)  # raises where its logits are no numbers
            self.level = level_of(loaded.model.file) or self.level
            gc.freeze()  # the vocabulary is here to stay: a collector that looks at it holds answers up
            self.loaded = loaded
            self.settled.set()
            # Those who ask now are answered, and wait only for what they have in common.
            if self.warm is not None and not self.ending:
                await asyncio.to_thread(self.warm.compute, loaded)
        except Exception as error:
            self.failure = error
            on_failure()
        finally:
            self.settled.set()

    def note(self, error: Exception) -> None:
        """Tell the log of a failure that is the server's own: its kind only, for its words may hold a prompt."""
        fault = fault_of(error)
        if not isinstance(error, Loading):  # whoever waits for it asks many times
            self.metrics.errors.labels(fault.code or str(fault.status)).inc()
        if fault.status == 500:
            self.log(f"a request failed: {type(error).__name__} {place_of(error)}")
        if self.debug:
            traceback.print_exception(error)

    def close(self) -> None:
        if self.begun is not None:
            self.begun.close()
        if "embedder" in self.__dict__:
            self.embedder.close()

    @property
    def engine(self) -> Engine:
        """Raises Loading."""
        if self.loaded is None:
            raise Loading
        return self.loaded

    @cached_property
    def embedder(self) -> Embedder:
        """Made at first use."""
        return Embedder(self.engine)

    @property
    def fingerprint(self) -> str:
        """Answers to the same seed are the same where it is."""
        return f"edge-{edge.__version__}-{self.level}"

    @property
    def thinks(self) -> bool:
        """Whether one can choose if the model thinks."""
        template = (self.loaded.model.chat_template or "") if self.loaded else ""
        return OPEN in template and "enable_thinking" in template


def serving_of(request: Request) -> Serving:
    return request.app.state.serving


def place_of(error: Exception) -> str:
    """Where it was raised: a module and a line."""
    last = traceback.extract_tb(error.__traceback__)[-1:]
    return f"in {Path(last[0].filename).name}, line {last[0].lineno}" if last else ""
