"""Models that say what a test wants, as slowly as it wants; and a tiny one that knows of thoughts and tools."""

from __future__ import annotations

import dataclasses
import itertools
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from convert.errors import EdgeError
from edge.api import Engine
from edge.prepare import Prepared
from tests.edge import tiny_gguf

FAULT = "\0"  # in a text: here the answer fails

TEMPLATE = (
    "{% if tools %}<|im_start|>system\n{% for t in tools %}{{ t | tojson }}\n{% endfor %}"
    "<tool_call>{name, arguments}</tool_call><|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.reasoning_content %}<think>\n{{ m.reasoning_content }}\n</think>\n\n{% endif %}{{ m.content | trim }}"
    "{% for c in m.tool_calls or [] %}<tool_call>\n"
    '{"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}}\n</tool_call>'
    "{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
FIM = {270: "<|fim_prefix|>", 271: "<|fim_suffix|>", 272: "<|fim_middle|>"}


ASCII = {"logit_bias": {str(token): -100 for token in [*range(128, 256), 260]}}  # no parts of characters


def speaker(path: Path) -> Path:
    """Random weights, a token for each byte, and a template with thoughts and tools; it fills in, too."""
    tokens, types = tiny_gguf.vocabulary()
    for token, text in FIM.items():
        tokens[token], types[token] = text, tiny_gguf.CONTROL
    changes = {
        "tokenizer.chat_template": TEMPLATE,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "qwen2.context_length": 4096,
    }
    return tiny_gguf.write(path, changes)


class Script:
    """A constraint that lets a model say one text."""

    def __init__(self, tokens: Sequence[int], wait: Callable[[], object]) -> None:
        """``wait`` is called before each token."""
        self._left = list(tokens)
        self._wait = wait

    def mask(self, logits: np.ndarray) -> None:
        self._wait()
        if self._left[0] < 0:
            raise EdgeError("the script ends in a fault")
        logits[:] = -np.inf
        logits[self._left[0]] = 0

    def accept(self, token: int) -> None:
        assert token == self._left.pop(0)

    def forced(self) -> list[int]:
        return []


@contextmanager
def saying(engine: Engine, *texts: str, pause: float | None = 0.0) -> Iterator[threading.Event]:
    """In the block all chats, and no texts, get these answers in turn, and the last one ever after.

    ``pause``: seconds before each token, None for as long as it takes until the event is set, which also ends pauses.
    """
    go = threading.Event()
    if pause == 0:
        go.set()
    real = engine.prepare_chat
    coming = itertools.chain(texts, itertools.repeat(texts[-1]))
    end = min(engine.model.end_tokens)

    def prepare(*args: Any, **options: Any) -> Prepared:
        prepared = real(*args, **options)
        said, fault, _ = next(coming).partition(FAULT)
        script = Script([*engine.model.tokenize(said), -1 if fault else end], lambda: go.wait(pause))
        return dataclasses.replace(prepared, request=dataclasses.replace(prepared.request, constraint=script))

    with replaced(engine, "prepare_chat", prepare):
        try:
            yield go
        finally:
            go.set()


@contextmanager
def watching(engine: Engine, name: str = "prepare_chat") -> Iterator[list[Prepared]]:
    """What is prepared in the block."""
    real, seen = getattr(engine, name), list[Prepared]()

    def prepare(*args: Any, **options: Any) -> Prepared:
        seen.append(real(*args, **options))
        return seen[-1]

    with replaced(engine, name, prepare):
        yield seen


@contextmanager
def replaced(engine: Engine, name: str, function: Callable[..., Any]) -> Iterator[None]:
    before = engine.__dict__.get(name)
    engine.__dict__[name] = function
    try:
        yield
    finally:
        del engine.__dict__[name]
        if before is not None:
            engine.__dict__[name] = before
