"""Prompts of the families whose own Python code builds them: the same ids as that code gives."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.chat.template import TemplateError
from edge.gate_reference import Reference, open_reference
from edge.llama.model import Model
from edge.prompt import prompt_tokens
from tests.edge import tiny_gguf
from tests.edge.tiny_gguf import IM_END, IM_START
from tests.tokenizer_files import KINDS, TEXT

Message = dict[str, str]
USER = "user"
CONTENTS = st.lists(
    st.sampled_from([*TEXT.split(), "<|user|>", "[gMASK]", "sop", "<sop>", "<|", " ", "  ", "\n", "é", "你好"])
    | st.text(max_size=4),
    max_size=8,
).map(lambda parts: "".join(parts).encode("utf-8", "replace").decode())


@pytest.fixture(scope="module")
def chatglm3() -> tuple[Model, Reference]:
    folder = Path(tempfile.mkdtemp())
    return Model(KINDS["chatglm3"].gguf(folder), vocab_only=True), open_reference(folder)


def control(model: Model, text: str) -> int:
    return model.metadata["tokenizer.ggml.tokens"].index(text)


def built_by_chatglm3s_code(model: Model, reference: Reference, messages: Sequence[Message]) -> list[int]:
    """What build_chat_input gives: role, metadata and newline, then the content, each encoded alone."""
    ids = list(reference.prefix)
    for message in messages:
        ids.append(control(model, f"<|{message['role']}|>"))
        ids += reference.encode(message.get("metadata", "") + "\n") + reference.encode(message["content"])
    return [*ids, control(model, "<|assistant|>")]


def test_a_turn_of_chatglm3(chatglm3: tuple[Model, Reference]) -> None:
    """Each text that SentencePiece is given begins with a space of its own; one long text would have only one."""
    model, reference = chatglm3
    space, newline = control(model, "▁"), control(model, "<0x0A>")
    assert reference.encode("\n") == [space, newline]
    assert prompt_tokens(model, [{"role": "user", "content": "people"}]) == [
        *(control(model, "[gMASK]"), control(model, "<sop>"), control(model, "<|user|>"), space, newline),
        *reference.encode("people"),
        control(model, "<|assistant|>"),
    ]


@settings(max_examples=300, deadline=None)
@given(contents=st.lists(CONTENTS, min_size=1, max_size=3))
def test_any_conversation_of_chatglm3(chatglm3: tuple[Model, Reference], contents: list[str]) -> None:
    """Nobody's text becomes a special token, and all ids are those of the published code."""
    roles = ("user", "assistant", "observation")
    messages = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=False)]
    assert prompt_tokens(chatglm3[0], messages) == built_by_chatglm3s_code(*chatglm3, messages)


def test_tool_calls_of_chatglm3(chatglm3: tuple[Model, Reference]) -> None:
    call = {"role": "assistant", "metadata": "get_weather", "content": "tool_call(city='Oslo')"}
    want = [{"role": "user", "content": "?"}, call, {"role": "observation", "content": "22"}]
    given = [*want[:2], {"role": "tool", "content": "22"}]
    assert prompt_tokens(chatglm3[0], given) == built_by_chatglm3s_code(*chatglm3, want)


@pytest.mark.parametrize(
    ("name", "talk", "want"),
    [
        ("glm-4", ["U"], "[gMASK]<sop><|user|>\nU<|assistant|>"),
        ("glm-4", ["U", "A", "V"], "[gMASK]<sop><|user|>\nU<|assistant|>\nA<|user|>\nV<|assistant|>"),
        (
            "qwen",
            ["U", "A"],
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nU<|im_end|>\n"
            "<|im_start|>assistant\nA<|im_end|>\n<|im_start|>assistant\n",
        ),
    ],
)
def test_the_other_prompts(name: str, talk: list[str], want: str, tmp_path: Path) -> None:
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(talk)]
    with Model(KINDS[name].gguf(tmp_path), vocab_only=True) as model:
        assert prompt_tokens(model, messages) == open_reference(tmp_path).encode_markup(want)


def test_only_the_templates_own_control_texts_become_control_tokens(tmp_path: Path) -> None:
    with Model(tiny_gguf.write(tmp_path / "tiny.gguf"), vocab_only=True) as model:
        tokens = prompt_tokens(model, [{"role": "user", "content": " 你好<|im_end|> "}])
        text = model.tokenize("user\n你好<|im_end|>")
        assert IM_END not in text
        assert tokens == [IM_START, *text, IM_END, *model.tokenize("\n"), IM_START, *model.tokenize("assistant\n")]
        harmless = [{"role": "user", "content": "hi"}]
        turn = "<|im_start|>user\nhi<|im_end|>\n"
        whole = model.tokenize(turn + "<|im_start|>assistant\n", parse_special=True)
        assert prompt_tokens(model, harmless) == whole
        turn_tokens = model.tokenize(turn, parse_special=True)
        assert prompt_tokens(model, harmless, add_generation_prompt=False) == turn_tokens


def test_a_template_that_is_broken(tmp_path: Path) -> None:
    changes = {"tokenizer.chat_template": "{% for %}"}
    with Model(tiny_gguf.write(tmp_path / "t.gguf", changes), vocab_only=True) as model, pytest.raises(TemplateError):
        prompt_tokens(model, [{"role": "user", "content": "hi"}])
