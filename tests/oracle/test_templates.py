"""Prompts as the reference builds them: published chat templates of Qwen and GLM, rendered and tokenized by both.

The templates are those that llama.cpp keeps for its own tests; they are read from its source distribution. Special
tokens that a template writes and that our small vocabulary of the family lacks are ordinary text for both sides:
<think> for QwQ, <tool_response> for Qwen2.5.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from convert.errors import EdgeError
from convert.pipeline import convert
from edge.chat.template import ChatTemplate
from edge.llama.model import Model
from edge.prompt import prompt_tokens
from tests.checkpoints import build, edit_json, read_json
from tests.oracle.conversations import (
    ANSWER,
    ASK,
    ATTACKS,
    CALLED,
    ODD,
    PLAIN,
    SPECIAL_TEXTS,
    SWITCHES,
    SYSTEM,
    THOUGHTS,
    Conversation,
    attack,
    harmless,
)
from tests.oracle.source import llama_cpp_source
from tests.tokenizer_files import KINDS

QWEN25, QWQ, QWEN3 = "Qwen-Qwen2.5-7B-Instruct", "Qwen-QwQ-32B", "Qwen-Qwen3-0.6B"
QWEN3_CODER, QWEN35 = "Qwen3-Coder", "Qwen3.5-4B"
R1_QWEN = "deepseek-ai-DeepSeek-R1-Distill-Qwen-32B"
GLM46, GLM47 = "GLM-4.6", "GLM-4.7-Flash"
TEMPLATES = (QWEN25, QWQ, QWEN3, QWEN3_CODER, QWEN35, R1_QWEN, GLM46, GLM47)

# (family of the checkpoint, template; None: the small one that its tokenizer_config.json has)
MODELS = (
    *(("qwen2", QWEN25), ("qwen2", QWQ), ("qwen2", R1_QWEN), ("qwen2moe", None)),
    *(("qwen3", QWEN3), ("qwen3moe", QWEN3_CODER), ("qwen3next", QWEN3), ("qwen35", QWEN35), ("qwen35moe", QWEN35)),
    *(("glm", None), ("glm-edge", None), ("glm4", None), ("glm4moe", GLM46), ("glm4moelite", GLM47)),
)
R1_SPECIALS = ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", "<｜User｜>", "<｜Assistant｜>")
NO_VOCABULARY: Any = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()))
CONTROLS = [text for text in SPECIAL_TEXTS if text != "sop"]

REFUSED = {
    QWEN25: "nobody no-content content-none content-parts system-picture picture odd-part",
    QWEN3_CODER: "nobody no-content content-none content-parts system-picture picture odd-part arguments-as-text",
    QWEN35: "nobody only-system only-answer late-system odd-role odd-part system-picture result-parts "
    "arguments-as-text",
    R1_QWEN: "nobody call-without-content no-content content-none content-parts picture odd-part result-parts",
    GLM46: "nobody arguments-as-text",
    GLM47: "nobody arguments-as-text",
}
REFUSED[QWQ] = REFUSED[QWEN3] = REFUSED[QWEN25] + " call-without-content"


@functools.cache
def template(name: str) -> str:
    return (llama_cpp_source() / "models" / "templates" / f"{name}.jinja").read_text(encoding="utf-8")


def fitting(source: str, conversation: Conversation) -> Conversation:
    """Without tools if the template has no place for them: there we refuse, where the reference says nothing."""
    return conversation if "tools" in source else replace(conversation, tools=None)


def each_way(source: str, conversation: Conversation) -> Iterator[tuple[Conversation, bool]]:
    """With each switch of the templates, with and without the beginning of an answer."""
    for switch in ({}, *SWITCHES):
        for add_generation_prompt in (True, False):
            yield replace(fitting(source, conversation), variables=switch), add_generation_prompt


def reference_text(source: str, conversation: Conversation, add_generation_prompt: bool) -> str:
    return NO_VOCABULARY.apply_chat_template(
        conversation.messages,
        tools=conversation.tools,
        chat_template=source,
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        **conversation.variables,
    )


def our_text(source: str, conversation: Conversation, add_generation_prompt: bool) -> str:
    """The segments that are tokenized, put together again."""
    segments = ChatTemplate(source).render_segments(
        conversation.messages,
        CONTROLS,
        tools=conversation.tools,
        add_generation_prompt=add_generation_prompt,
        **conversation.variables,
    )
    return "".join(segment.text for segment in segments)


# --- text


@pytest.mark.parametrize("name", TEMPLATES)
def test_text(name: str) -> None:
    """The same text, and refused by both or by none; which ones are refused is known."""
    source, refused = template(name), set()
    conversations = {**PLAIN, **THOUGHTS, **CALLED, **ODD}
    for title, conversation in conversations.items():
        for given, begun in each_way(source, conversation):
            try:
                want = reference_text(source, given, begun)
            except Exception as error:  # a template is a program: anything can come out of it
                refused.add(title)
                with pytest.raises(EdgeError) as caught:
                    our_text(source, given, begun)
                assert "\n" not in str(caught.value)
                if type(error).__name__ == "TemplateError":  # by raise_exception
                    assert str(error) in str(caught.value)
            else:
                assert our_text(source, given, begun) == want, title
    assert refused == set(REFUSED[name].split())


@pytest.mark.parametrize("name", TEMPLATES)
def test_text_with_special_texts_of_users(name: str) -> None:
    source = template(name)
    for text in ATTACKS:
        for place, conversation in attack(text).items():
            given = fitting(source, conversation)
            assert our_text(source, given, True) == reference_text(source, given, True), (text, place)


BEGINNINGS = {
    # after the last message; with enable_thinking=False
    QWEN25: ("<|im_end|>\n<|im_start|>assistant\n",) * 2,
    QWEN3: ("<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"),
    QWEN3_CODER: ("<|im_end|>\n<|im_start|>assistant\n",) * 2,
    QWEN35: (
        "<|im_end|>\n<|im_start|>assistant\n<think>\n",
        "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    ),
    GLM46: ("<|assistant|>", "/nothink<|assistant|>\n<think></think>"),
    GLM47: ("<|assistant|><think>", "<|assistant|></think>"),
}


@pytest.mark.parametrize("name", BEGINNINGS)
def test_how_an_answer_begins(name: str) -> None:
    source = template(name)
    for switch, end in zip(({}, {"enable_thinking": False}), BEGINNINGS[name], strict=True):
        text = our_text(source, Conversation([SYSTEM, ASK], variables=switch), True)
        assert text.endswith(ASK["content"] + end)


# --- tokens


@dataclass(frozen=True)
class Both:
    """Our file of a checkpoint, and the checkpoint's own tokenizer."""

    family: str
    model: Model
    tokenizer: Any

    def ours(self, conversation: Conversation, begun: bool = True) -> list[int]:
        return prompt_tokens(
            self.model,
            conversation.messages,
            tools=conversation.tools,
            add_generation_prompt=begun,
            **conversation.variables,
        )

    def reference(self, conversation: Conversation, begun: bool = True) -> list[int]:
        return self.tokenizer.apply_chat_template(
            conversation.messages,
            tools=conversation.tools,
            add_generation_prompt=begun,
            return_dict=False,
            **conversation.variables,
        )

    @property
    def source(self) -> str:
        return self.model.metadata["tokenizer.chat_template"]

    def controls(self, ids: list[int]) -> list[int]:
        return [id for id in ids if self.model.is_control(id)]


def with_template(name: str) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "tokenizer_config.json", chat_template=template(name))


def as_r1(folder: Path) -> None:
    """DeepSeek's special tokens in place of Qwen2's first."""
    added = read_json(folder / "tokenizer.json")["added_tokens"]
    for token, text in zip(added, R1_SPECIALS, strict=False):
        token |= {"content": text, "special": True}
    edit_json(folder / "tokenizer.json", added_tokens=added)
    edit_json(
        folder / "tokenizer_config.json",
        added_tokens_decoder={str(token["id"]): token for token in added},
        additional_special_tokens=[],
        bos_token=R1_SPECIALS[0],
        eos_token=R1_SPECIALS[1],
        pad_token=R1_SPECIALS[1],
    )


@pytest.fixture(scope="module", params=MODELS, ids=lambda of: f"{of[0]}-{of[1] or 'own'}")
def both(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    family, name = request.param
    folder = tmp_path_factory.mktemp("templates")
    checkpoint = build(folder / "checkpoint", family=family)
    if name:
        with_template(name)(checkpoint)
    if name == R1_QWEN:
        as_r1(checkpoint)
    convert(checkpoint, {"Q8_0": folder / "model.gguf"}, threads=1)
    with Model(folder / "model.gguf", vocab_only=True) as model:
        yield Both(family, model, AutoTokenizer.from_pretrained(checkpoint))


def test_tokens(both: Both) -> None:
    compared = 0
    for title, conversation in {**PLAIN, **THOUGHTS, **CALLED}.items():
        for given, begun in each_way(both.source, conversation):
            try:
                want = both.reference(given, begun)
            except Exception:  # which conversations a template refuses: test_text
                continue
            assert both.ours(given, begun) == want, title
            compared += 1
    assert compared > 200


def test_the_prefix_of_glm_is_there_once(both: Both) -> None:
    """Qwen has none, nor has GLM-Edge's template."""
    want = int(both.family.startswith("glm") and both.family != "glm-edge")
    called = fitting(both.source, CALLED["calls-results-turns"])
    for conversation in (Conversation([ASK]), Conversation([SYSTEM, ASK, ANSWER, ASK]), called):
        texts = [both.model.metadata["tokenizer.ggml.tokens"][id] for id in both.ours(conversation)]
        assert (texts.count("[gMASK]"), texts.count("<sop>")) == (want, want)
        assert (texts[:2] == ["[gMASK]", "<sop>"]) == bool(want)


def test_no_text_of_users_becomes_a_control_token(both: Both) -> None:
    """The control tokens are those of the same conversation with X for special texts; and no character is lost."""
    template = ChatTemplate.from_metadata(both.model.metadata)
    controls = both.model.control_texts
    for text in (*ATTACKS, "".join(controls), "\n".join(text[1:-1] for text in controls)):
        for place in attack(text):
            conversation, tame = (
                fitting(both.source, attack(given)[place]) for given in (text, harmless(text, controls))
            )
            ids = both.ours(conversation)
            assert both.controls(ids) == both.controls(both.ours(tame)), (text, place)
            written = b"".join(both.model.token_bytes(id, special=True) for id in ids).decode()
            assert written == both.model.normalize(template.render(conversation.messages, tools=conversation.tools)), (
                text,
                place,
            )


# --- families whose own code builds the prompts


# A system message, a turn, a question, as the publishers describe it; how an answer begins; what no system message is
OWN = {
    "qwen": (
        "<|im_start|>system\nS<|im_end|>\n",
        "<|im_start|>user\nU<|im_end|>\n<|im_start|>assistant\nA<|im_end|>\n<|im_start|>user\nV<|im_end|>\n",
        "<|im_start|>assistant\n",
        "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n",
    ),
    "chatglm3": (
        "[gMASK]<sop><|system|>\n S",  # published as [gMASK]sop; the converter gives the token the later name
        "<|user|>\n U<|assistant|>\n A<|user|>\n V",
        "<|assistant|>",
        "[gMASK]<sop>",
    ),
    "glm-4": (
        "[gMASK]<sop><|system|>\nS",
        "<|user|>\nU<|assistant|>\nA<|user|>\nV",
        "<|assistant|>",
        "[gMASK]<sop>",
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_templates_of_our_own(name: str, tmp_path: Path) -> None:
    system, turns, begin, default = OWN[name]
    template = ChatTemplate.from_metadata(KINDS[name].metadata(tmp_path))
    roles = ("system", "user", "assistant", "user")
    talk = [{"role": role, "content": text} for role, text in zip(roles, "SUAV", strict=True)]
    assert template.render(talk) == system + turns + begin
    assert template.render(talk, add_generation_prompt=False) == system + turns
    assert template.render(talk[1:]) == default + turns + begin
