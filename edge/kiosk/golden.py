"""A question whose answer a new installation must give, and how that answer begins.

It is asked as the only message, without the visitors' system prompt, with ``enable_thinking`` off where a template
knows it, at temperature 0; a model that thinks all the same is compared by its thoughts. Kernels of other CPUs round
differently, so the prefix ends before the first token that another one comes near to.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from edge.api import Engine
from edge.engine.types import TokenLogprob
from edge.errors import PackError

MAX_TOKENS = 32
SURE = 1.0  # nats between the best two tokens; other kernels move them by hundredths
PLAIN = {"en": "What is the capital of France?", "zh": "中国的首都是哪里？"}
VARIABLES = {"enable_thinking": False}


def ask(gguf: Path, questions: Sequence[str], ctx: int) -> tuple[str, str]:
    """The first of ``questions`` that the model is sure about, and the prefix of its answer, without space around it.

    Raises PackError if there is none.
    """
    with Engine(gguf, ctx=ctx, slots=1) as llm:
        for question in questions:
            messages = [{"role": "user", "content": question}]
            answer = llm.chat(messages, variables=VARIABLES, temperature=0, max_tokens=MAX_TOKENS, logprobs=2).result
            sure = answer.tokens[: sure_tokens(answer.logprobs)]
            begun = b"".join(llm.model.token_bytes(token) for token in sure).decode("utf-8", "ignore")
            if prefix := common_prefix(begun, answer.reasoning or answer.text):
                return question, prefix
    raise PackError(
        f"the model is not sure how to begin its answer to {questions[-1]!r}, and might begin otherwise on another CPU",
        "choose a question with a plain answer as question in the [golden] part of kiosk.toml",
    )


def sure_tokens(logprobs: Sequence[TokenLogprob | None]) -> int:
    """How many tokens come before the first one that is not far better than the second best there."""
    for count, one in enumerate(logprobs):
        if one is None or len(one.top) < 2 or one.top[0][1] - one.top[1][1] < SURE:
            return count
    return len(logprobs)


def common_prefix(begun: str, answer: str) -> str:
    """What the parser left of the sure tokens' text: it takes white space and marks away."""
    pairs = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(begun.strip(), answer.strip(), strict=False))
    return "".join(one for one, _ in pairs).strip()
