"""Warm starts: what every conversation of a kiosk begins with is computed once, and kept on disk for the next start.

``STATE_DIR/warm-KEY.state`` holds it, sealed with ``STATE_DIR/device.key``; KEY is a digest of all that it depends on.
Whatever is wrong with either costs a line in the log and a computation, and no byte of it reaches C. What visitors
write is never kept: a kept state is of the prefix alone.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from convert.errors import EdgeError
from edge import sealed
from edge.api import Engine
from edge.cost import kv_bytes
from edge.engine.slots import common_prefix
from edge.llama.model import Model
from edge.prompt import prompt_tokens
from edge.shapes import from_gguf
from edge.warm_key import prefix_key

LEAST = 16  # tokens that are worth it
OTHERS = ("你好", "What is this?")  # so that what the preset questions happen to begin with alike is not counted
ROOM = 1 << 20  # bytes of a state beside keys and values, whose size is known
KEY_NAME = "device.key"


class Warm:
    """For one start of one engine: first ``restore``, then ``compute``, from one thread at a time; neither raises.

    ``folder``: None keeps the prefix in memory alone, where a wipe leaves it. ``system``, ``questions``: the kiosk's.
    ``log`` takes a line about what went wrong, ``tell`` one about what was done.
    """

    def __init__(
        self,
        folder: Path | None,
        system: str,
        questions: Sequence[str],
        log: Callable[[str], None],
        tell: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._folder, self._system, self._questions = folder, system, questions
        self._log, self._tell = log, tell
        self._tokens: list[int] = []
        self._device_key = self._about = b""
        self.restored = False

    def restore(self, engine: Engine) -> None:
        """Put back what an earlier start kept, if it is there and just what this one needs."""
        try:
            self._tokens = prefix_of(engine.model, self._system, self._questions) if engine.reuses else []
        except EdgeError as error:  # such as a template that takes no system prompt
            self._log(f"nothing is computed before the first visitor: {error}")
        if len(self._tokens) < LEAST:
            self._tokens = []
        if not self._tokens or self._folder is None:
            return
        began = time.monotonic()
        try:
            self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._about = prefix_key(engine.context, self._tokens)
            self._device_key = self._key(self._folder / KEY_NAME)
            state = self._read(self._folder, most_bytes(engine, len(self._tokens)))
            if state is None:
                return
            engine.restore_prefix(self._tokens, state).result()
        except (EdgeError, OSError) as error:
            self._log(f"cold start: {reason(error)}")
            return
        self.restored = True
        self._tell(f"warm start: {len(self._tokens)} tokens restored in {time.monotonic() - began:.3f} s")

    def compute(self, engine: Engine) -> None:
        """What was not restored, while others may ask already; then keep it."""
        if self.restored or not self._tokens:
            return
        began = time.monotonic()
        try:
            state = engine.compute_prefix(self._tokens).result()
        except EdgeError as error:
            self._log(f"what conversations begin with was not computed: {error}")
            return
        self._tell(f"cold start: {len(self._tokens)} tokens computed in {time.monotonic() - began:.1f} s")
        if self._folder is None or not self._device_key:
            return
        try:
            self._write(self._folder, state)
        except OSError as error:
            self._log(f"the next start will be cold, too: {reason(error)}")

    def _key(self, path: Path) -> bytes:
        """The device's. Raises OSError where there is none and none can be made."""
        try:
            return sealed.read_key(path)
        except FileNotFoundError:
            pass
        except (EdgeError, OSError) as error:
            key = sealed.make_key(path)
            self._log(f"there is a new device key: {reason(error)}")
            return key
        return sealed.make_key(path)

    def _read(self, folder: Path, most: int) -> bytearray | None:
        """None where nothing was kept. Raises SealError, OSError."""
        path = self._path(folder)
        try:
            return sealed.read(path, self._device_key, self._about, most)
        except FileNotFoundError:
            if any(folder.glob("warm-*.state")):
                self._log("cold start: what was kept is of another model, system prompt, setting or build")
            return None

    def _write(self, folder: Path, state: bytearray) -> None:
        """In place of what earlier starts kept. Raises OSError."""
        path = self._path(folder)
        for old in [*folder.glob("warm-*.state"), *folder.glob(f"*{sealed.PARTIAL}")]:
            if old != path:
                with contextlib.suppress(OSError):
                    old.unlink()
        sealed.write(path, self._device_key, self._about, state)

    def _path(self, folder: Path) -> Path:
        return folder / f"warm-{self._about.hex()[:32]}.state"


def prefix_of(model: Model, system: str, questions: Sequence[str]) -> list[int]:
    """The tokens that every conversation begins with, as the model's template writes it. Raises TemplateError."""
    head = [{"role": "system", "content": system}] if system else []
    prefix, *rest = (prompt_tokens(model, [*head, {"role": "user", "content": one}]) for one in (*questions, *OTHERS))
    for tokens in rest:
        prefix = prefix[: common_prefix(prefix, tokens)]
    return prefix


def most_bytes(engine: Engine, tokens: int) -> int:
    """No state of so many tokens is larger; what is, is not even read."""
    shape = from_gguf(engine.model.file)
    return 2 * kv_bytes(shape, tokens, engine.context.kv_type) + ROOM


def reason(error: Exception) -> str:
    """In one line, without the folders of this machine."""
    return getattr(error, "strerror", None) or str(error)
