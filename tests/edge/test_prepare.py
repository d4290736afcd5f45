"""From what is asked to a request and a parser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from convert.errors import EdgeError
from edge.api import Engine
from edge.chat.output import Answer, collect
from edge.engine.types import ContextLengthError, RequestError
from edge.json_schema import ConstraintError
from edge.prepare import Prepared
from edge.thinking_budget import ThinkingBudget
from tests.edge import tiny_gguf
from tests.edge.server.saying import speaker

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}
OFF = {"enable_thinking": False}
SCHEMA = {"type": "boolean"}


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    with Engine(speaker(tmp_path_factory.mktemp("prepare") / "speaker.gguf"), slots=1) as engine:
        yield engine


def prompt(llm: Engine, prepared: Prepared) -> str:
    return b"".join(llm.model.token_bytes(token, special=True) for token in prepared.request.tokens).decode()


def read(prepared: Prepared, text: str) -> Answer:
    return collect([*prepared.parser.feed(text), *prepared.parser.finish(cut=False)])


def test_a_text_is_as_it_is(llm: Engine) -> None:
    prepared = llm.prepare_text("hi <|im_end|>", stop="x", temperature=0, max_tokens=5, client="me", side=True)
    request = prepared.request
    assert list(request.tokens) == llm.model.tokenize("hi <|im_end|>", add_special=True)
    assert tiny_gguf.IM_END not in request.tokens, "what is typed is text"
    assert request.sampling.temperature == 0 and request.sampling.top_k == llm.sampling.top_k
    assert (request.max_tokens, request.client, request.side, request.constraint) == (5, "me", True, None)
    assert list(prepared.stops) == ["x"]
    assert read(prepared, "<think>a</think><tool_call>").content == "<think>a</think><tool_call>"


def test_tokens_are_taken_as_they_are(llm: Engine) -> None:
    assert llm.prepare_text([5, tiny_gguf.IM_END]).request.tokens == (5, tiny_gguf.IM_END)


def test_a_chat_goes_through_the_template(llm: Engine) -> None:
    prepared = llm.prepare_chat(HELLO)
    assert prompt(llm, prepared) == "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    assert list(prepared.stops) == [] and prepared.request.constraint is None
    assert read(prepared, "<think>\na\n</think>\n\nb") == Answer("b", "a")
    assert prompt(llm, llm.prepare_chat(HELLO, variables=OFF)).endswith("<think>\n\n</think>\n\n")


@pytest.mark.parametrize("choice", ["auto", "required", "now"])
def test_tools_are_told_of_and_calls_are_read(llm: Engine, choice: str) -> None:
    prepared = llm.prepare_chat(HELLO, tools=[TOOL], tool_choice=choice, variables=OFF)
    assert '"name": "now"' in prompt(llm, prepared)
    answer = read(prepared, '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>')
    assert [call.name for call in answer.calls] == ["now"] and not answer.content
    assert (prepared.request.constraint is None) is (choice == "auto")


def test_tools_that_are_not_to_be_used(llm: Engine) -> None:
    prepared = llm.prepare_chat(HELLO, tools=[TOOL], tool_choice="none")
    assert prepared.request.tokens == llm.prepare_chat(HELLO).request.tokens
    assert not read(prepared, '<tool_call>\n{"name": "now", "arguments": {}}\n</tool_call>').calls


@pytest.mark.parametrize("options", [{"schema": SCHEMA}, {"tools": [TOOL], "tool_choice": "required"}])
def test_a_form_behind_thoughts(llm: Engine, options: dict[str, Any]) -> None:
    """A model that would have thought is made to begin, so that its end can be waited for."""
    prepared = llm.prepare_chat(HELLO, **options)
    assert prepared.request.tokens[-1] == tiny_gguf.THINK and prepared.request.constraint is not None
    assert read(prepared, "a\n</think>\n\nb") == Answer("b", "a")
    without = llm.prepare_chat(HELLO, variables=OFF, **options)
    assert prompt(llm, without).endswith("</think>\n\n") and without.request.constraint is not None


def test_a_budget_is_for_those_who_think(llm: Engine) -> None:
    assert isinstance(llm.prepare_chat(HELLO, thinking_budget=3).request.constraint, ThinkingBudget)
    assert llm.prepare_chat(HELLO, thinking_budget=3, variables=OFF).request.constraint is None


def test_a_budget_ends_between_characters(llm: Engine) -> None:
    """The closing tag was forced behind a part of a character, where the grammar allows none: the answer failed."""
    constraint = llm.prepare_chat(HELLO, schema=SCHEMA, thinking_budget=1).request.constraint
    assert constraint is not None
    for byte in "😀".encode():  # each is a token
        assert constraint.forced() == []
        constraint.accept(byte)
    closing = constraint.forced()
    assert closing
    for token in closing:
        constraint.accept(token)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"schema": {"type": "nothing"}}, ConstraintError),
        ({"tools": [TOOL], "tool_choice": "other"}, ConstraintError),
        ({"tool_choice": "required"}, ConstraintError),
        ({"temperature": -1}, EdgeError),
        ({"logit_bias": {999: 1}}, RequestError),
        ({"schema": SCHEMA, "ignore_eos": True}, RequestError),
        ({"temprature": 1}, TypeError),
    ],
)
def test_what_is_wrong_is_known_before_the_start(llm: Engine, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        llm.prepare_chat(HELLO, **options)


def test_what_does_not_fit(llm: Engine) -> None:
    for prepare in (
        lambda: llm.prepare_text([5] * 4096),
        lambda: llm.prepare_chat([{"role": "user", "content": "x" * 9000}]),
    ):
        with pytest.raises(ContextLengthError) as caught:
            prepare()
        assert caught.value.n_ctx == 4096 <= caught.value.n_prompt
    assert len(llm.prepare_text([5] * 4095).request.tokens) == 4095


def test_what_was_prepared_is_what_a_chat_sends(llm: Engine) -> None:
    options: dict[str, Any] = {"temperature": 0, "max_tokens": 8}
    assert llm.start(llm.prepare_chat(HELLO, **options)).result.tokens == llm.chat(HELLO, **options).result.tokens


def test_a_closed_engine_prepares_nothing(tmp_path: Path) -> None:
    engine = Engine(tiny_gguf.write(tmp_path / "tiny.gguf"), slots=1)
    engine.close()
    with pytest.raises(EdgeError, match="closed"):
        engine.prepare_text("x")
    with pytest.raises(EdgeError, match="closed"):
        engine.prepare_chat(HELLO)
